"""Scenes: every one is a valid picture, the same each time, unlike the others, and calm where the subject stands."""

import itertools
import math
import os
import subprocess
import sys

import pytest
import torch

from toffee_hf.toy.scenes import SCENES, Background, paint_scene

SIZE_PX = 64
NAMES = list(SCENES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_a_background_is_a_picture_with_ground_and_light(name: str, seed: int) -> None:
    scene = paint_scene(name, seed, SIZE_PX)
    assert scene.image.shape == (3, SIZE_PX, SIZE_PX) and scene.image.dtype == torch.float32
    assert scene.ground.shape == (1, SIZE_PX, SIZE_PX) and scene.ground.dtype == torch.float32
    for values in (scene.image, scene.ground):
        assert torch.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert math.isclose(math.hypot(*scene.light.direction), 1.0, abs_tol=1e-6)
    assert scene.light.direction[1] > 0.2 and scene.light.direction[2] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_ground_begins_in_the_middle_and_carries_the_subject(name: str) -> None:
    for seed in range(6):
        ground = paint_scene(name, seed, 128).ground[0]
        middle = ground[:, 44:84]
        assert middle[:38].max() < 0.5, "nothing above 30 % of the height is ground"
        assert middle[80:120].min() > 0.95, "under the subject all is ground"
        horizon = (middle.mean(1) > 0.5).float().argmax().item() / 128
        assert 0.33 <= horizon <= 0.58


@pytest.mark.parametrize("name", NAMES)
def test_it_is_calm_where_the_subject_stands(name: str) -> None:
    for seed in range(4):
        spot = paint_scene(name, seed, 128).image[:, 86:112, 48:80]
        assert spot.std(dim=(1, 2)).max() < 0.11


@pytest.mark.parametrize("name", NAMES)
def test_most_detail_survives_at_half_the_size(name: str) -> None:
    image = paint_scene(name, 3, 128).image[None]
    small = torch.nn.functional.avg_pool2d(image, 2)
    back = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    assert (image - back).square().mean() < 10 ** (-24 / 10)  # 24 dB: no pixel-wide detail


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_one_picture_and_another_seed_another(name: str) -> None:
    first, again, other = (paint_scene(name, seed, SIZE_PX) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image) and torch.equal(first.ground, again.ground)
    assert first.light == again.light
    assert (first.image - other.image).abs().mean() > 0.004
    assert first.light != other.light


def test_global_randomness_is_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = paint_scene("beach", 9, SIZE_PX).image
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, paint_scene("beach", 9, SIZE_PX).image)


def test_another_process_paints_the_same_bits() -> None:
    code = (
        "import hashlib; from toffee_hf.toy.scenes import SCENES, paint_scene; digest = hashlib.sha256();"
        f"[digest.update(paint_scene(n, 4, {SIZE_PX}).image.numpy().tobytes()) for n in SCENES];"
        "print(digest.hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_the_light_keeps_its_side_and_nearly_its_strength() -> None:
    for name in NAMES:
        base = SCENES[name].light
        for seed in range(20):
            light = paint_scene(name, seed, 16).light
            assert sum(a * b for a, b in zip(base.direction, light.direction, strict=True)) > math.cos(0.25)
            assert light.direction[0] * base.direction[0] > 0
            assert abs(light.colour[0] / base.colour[0] - 1) <= 0.051
            assert light.ambient == base.ambient


def test_scenes_differ_from_one_another_more_than_from_themselves() -> None:
    def look(scene: Background) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(scene.image, 8).flatten()

    means = {name: torch.stack([look(paint_scene(name, seed, SIZE_PX)) for seed in range(4)]).mean(0) for name in NAMES}
    for name in NAMES:
        own = look(paint_scene(name, 77, SIZE_PX))
        nearest = min(NAMES, key=lambda other: float((own - means[other]).norm()))
        assert nearest == name
    gaps = [float((means[a] - means[b]).abs().mean()) for a, b in itertools.combinations(NAMES, 2)]
    assert min(gaps) > 0.04


def test_names_and_phrases_are_ready_for_prompts() -> None:
    assert len(SCENES) >= 14 and all(name == scene.name for name, scene in SCENES.items())
    phrases = [phrase for scene in SCENES.values() for phrase in scene.phrases]
    assert len(set(phrases)) == len(phrases)
    assert all(2 <= len(scene.phrases) <= 3 for scene in SCENES.values())
    assert all(phrase == phrase.strip() and phrase[0].islower() for phrase in phrases)


def test_a_larger_picture_shows_the_same_scene() -> None:
    for name in NAMES:
        large = paint_scene(name, 2, 128).image[None]
        small = paint_scene(name, 2, 64).image[None]
        assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.03


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(KeyError):
        paint_scene("nowhere", 0, SIZE_PX)
