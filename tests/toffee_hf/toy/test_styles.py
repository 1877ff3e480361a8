"""Styles: pure filters of a finished picture, batched, distinct, and gentle enough for a small autoencoder."""

import itertools

import pytest
import torch

from toffee_hf.toy.scenes import SCENES, paint_scene
from toffee_hf.toy.styles import STYLES, stylise

NAMES = list(STYLES)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """(B, 3, 128, 128): every third scene, with a two-coloured disc in the middle."""
    scenes = torch.stack([paint_scene(name, 1, 128).image for name in list(SCENES)[::3]])
    place = (torch.arange(128) + 0.5) / 128
    inside = (torch.hypot(place[None, :] - 0.5, place[:, None] - 0.6) < 0.2).float()
    stripes = (place[:, None] * 20).sin().gt(0).float() * inside
    scenes = scenes * (1 - inside) + inside * torch.tensor([0.85, 0.2, 0.2]).view(1, 3, 1, 1)
    return scenes * (1 - stripes) + stripes * torch.tensor([0.95, 0.9, 0.3]).view(1, 3, 1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_style_keeps_shape_range_and_its_input(name: str, pictures: torch.Tensor) -> None:
    before = pictures.clone()
    out = stylise(pictures, name)
    assert out.shape == pictures.shape and out.dtype == torch.float32
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    assert torch.equal(pictures, before)
    assert torch.equal(out, stylise(pictures, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_looks_the_same_alone_and_in_a_batch(name: str, pictures: torch.Tensor) -> None:
    together = stylise(pictures, name)
    alone = torch.cat([stylise(picture[None], name) for picture in pictures])
    # a kernel may round otherwise for another batch; a rounded step may then fall on the other side, rarely
    assert ((together - alone).abs() > 1e-3).float().mean() < 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(64, 64), (256, 256), (100, 150), (8, 8), (1, 1)])
def test_any_size_can_wear_a_style(name: str, height: int, width: int) -> None:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    out = stylise(image, name)
    assert out.shape == image.shape
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_pictures_are_no_trouble(name: str, level: float) -> None:
    out = stylise(torch.full((1, 3, 128, 128), level), name)
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


def test_photo_is_the_picture_itself(pictures: torch.Tensor) -> None:
    assert torch.equal(stylise(pictures, "photo"), pictures)


def test_styles_differ_from_one_another_in_every_picture(pictures: torch.Tensor) -> None:
    looks = {name: stylise(pictures, name) for name in NAMES}
    for a, b in itertools.combinations(NAMES, 2):
        assert (looks[a] - looks[b]).abs().mean(dim=(1, 2, 3)).min() > 0.012, (a, b)


def test_keeps_colour_says_whether_hues_survive(pictures: torch.Tensor) -> None:
    def strength(image: torch.Tensor) -> torch.Tensor:
        disc = image[:, :, 60:94, 48:80]
        return (disc[:, 0] - disc[:, 2]).mean(dim=(1, 2))  # the disc is red and yellow: far more red than blue

    for name, style in STYLES.items():
        if style.keeps_colour:
            assert (strength(stylise(pictures, name)) > 0.3).all(), name
    pencil = stylise(pictures, "pencil")
    assert (pencil.amax(1) - pencil.amin(1)).max() < 0.05
    sepia = stylise(pictures, "sepia").flatten(2)
    assert ((sepia[:, 0] >= sepia[:, 1]) & (sepia[:, 1] >= sepia[:, 2])).all()


def test_pixel_art_has_blocks_of_four_and_few_colours(pictures: torch.Tensor) -> None:
    out = stylise(pictures, "pixel art")
    assert torch.equal(out, out[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2))
    assert max(len(picture.flatten(1).unique(dim=1).T) for picture in out) <= 160


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pixel art"])
def test_most_detail_survives_at_half_the_size(name: str, pictures: torch.Tensor) -> None:
    image = stylise(pictures, name)
    small = torch.nn.functional.avg_pool2d(image, 2)
    back = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    assert (image - back).square().mean() < 10 ** (-22 / 10)


def test_phrases_have_one_place_for_the_subject() -> None:
    assert len(STYLES) >= 6 and all(name == style.name for name, style in STYLES.items())
    phrases = [phrase for style in STYLES.values() for phrase in style.phrases]
    assert len(set(phrases)) == len(phrases) and all(phrase.count("{}") == 1 for phrase in phrases)


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(KeyError):
        stylise(torch.zeros(1, 3, 8, 8), "cubism")
