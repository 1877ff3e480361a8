"""The View Generator: another view within the object's reach, the surroundings as they were."""

import json
import math

import pytest
import torch

from toffee_hf.pipelines.pipeline_toffee_view import (
    FINE_PX,
    REACH,
    ToffeeViewPipeline,
    axes_of,
    blurred,
    in_space,
    inner,
    outline_axis,
    subject_patches,
    view_region,
)
from toffee_hf.toy.render import FARTHEST, FIELD_OF_VIEW, NEAREST

PROMPTS = ["a photo of a mug", "a photo of a car"]


def seeds(*numbers):
    return [torch.Generator().manual_seed(n) for n in numbers]


@pytest.fixture
def corner():
    """(2, 1, 64, 64): an object of 8 pixels in a corner, so that something lies beyond its reach."""
    mask = torch.zeros(2, 1, 64, 64)
    mask[:, :, 0:8, 0:8] = 1
    return mask


@pytest.fixture
def depth():
    """(2, 1, 64, 64) in [0, 1]: a slope, the same for both."""
    return torch.linspace(0.2, 0.8, 64).expand(2, 1, 64, 64)


@pytest.fixture
def view(family, picture, corner):
    def run(**changes):
        settings = {"prompt": PROMPTS, "image": picture, "mask": corner, "turn": [0.5, -0.5], "num_inference_steps": 2,
                    "generator": seeds(1, 2), "output_type": "latent"}  # fmt: skip
        return family.view_pipeline(**{**settings, **changes}).images

    return run


def test_the_region_is_the_outline_grown_by_the_reach(corner):
    region = view_region(corner, 8)
    assert region.shape == (2, 1, 8, 8) and set(region.unique().tolist()) == {0.0, 1.0}
    assert region[0, 0, : REACH + 1, : REACH + 1].min() == 1 and region.sum() == 2 * (REACH + 1) ** 2
    assert subject_patches(corner, 8).sum(1).tolist() == [1, 1]
    assert view_region(torch.zeros(1, 1, 64, 64), 8).sum() == 0


def test_surroundings_stay_exactly_and_the_object_does_not(family, view, picture, corner):
    known, found = family.vae.encode(picture).latent_dist.mode(), view()
    outside = (view_region(corner, 8) == 0).expand_as(known)
    assert torch.equal(found[outside], known[outside])
    assert (found - known)[~outside].abs().mean() > 1e-2


def test_one_seed_is_one_view_and_turn_and_seed_matter(view):
    base = view()
    assert torch.equal(base, view()) and torch.isfinite(base).all()
    assert (base - view(generator=seeds(3, 4))).abs().max() > 1e-3
    assert (base - view(turn=[1.5, 0.1])).abs().max() > 1e-6


def test_a_turn_may_be_left_open(view):
    unknown = view(turn=[math.nan, math.nan])
    assert torch.isfinite(unknown).all()
    assert torch.equal(unknown, view(turn=None))
    mixed = view(turn=[0.5, math.nan])
    assert (mixed[0] - view()[0]).abs().max() < 1e-4 and (mixed[1] - unknown[1]).abs().max() < 1e-4


@pytest.mark.parametrize("in_space", [False, True])
def test_a_view_is_drawn_alone_as_in_a_batch(view, picture, corner, depth, in_space):
    together = view(depth=depth if in_space else None)
    for i in range(2):
        alone = view(prompt=PROMPTS[i], image=picture[i : i + 1], mask=corner[i : i + 1], turn=[(0.5, -0.5)[i]],
                     depth=depth[i : i + 1] if in_space else None, generator=seeds(i + 1))  # fmt: skip
        assert (alone[0] - together[i]).abs().max() < 1e-4


def test_depth_turns_the_surface_and_surroundings_stay(family, view, picture, corner, depth):
    known, found = family.vae.encode(picture).latent_dist.mode(), view(depth=depth)
    outside = (view_region(corner, 8) == 0).expand_as(known)
    assert torch.equal(found[outside], known[outside]) and torch.isfinite(found).all()
    assert (found - view()).abs().amax((1, 2, 3)).min() > 1e-4, "what turns in space is heard"
    assert (found - view(depth=depth.flip(-1))).abs().max() > 1e-4


def test_the_turned_surface_is_laid_over_what_was_drawn(family, view, picture, corner, depth):
    axes = axes_of(family.axis, picture, corner, depth, **family.camera)
    moved, covered = in_space(picture, corner, depth, torch.tensor([0.5, -0.5]), axes, **family.camera)
    drawn, all_of_it, half = (view(depth=depth, surface=s, output_type="pt") for s in (0.0, 1.0, 0.5))
    deep = (inner(covered) == 1).expand_as(drawn)
    assert deep.any()
    other = (moved + 1) / 2 - drawn
    expected = drawn + other - blurred(other, FINE_PX)
    unclipped = deep & (drawn > 0.01) & (drawn < 0.99) & (expected > 0.01) & (expected < 0.99)
    assert unclipped.any() and (all_of_it - expected)[unclipped].abs().max() < 0.02
    unclipped = (all_of_it > 0.01) & (all_of_it < 0.99) & (drawn > 0.01) & (drawn < 0.99)
    assert (half - (drawn + all_of_it) / 2)[unclipped].abs().max() < 1e-3
    beyond = (covered == 0).expand_as(drawn)
    assert torch.equal(all_of_it[beyond], drawn[beyond]) and not torch.equal(half, drawn)
    assert torch.equal(view(surface=1.0, output_type="pt"), view(surface=0.0, output_type="pt")), "nothing has turned"
    assert torch.equal(view(depth=depth, surface=1.0), view(depth=depth, surface=0.0)), "latents have none of it"


def test_inside_a_region_a_pixel_is_as_deep_as_its_border_is_far():
    covered = torch.zeros(1, 1, 64, 64)
    covered[..., 16:48, 16:48] = 1
    found = inner(covered)
    assert found[covered == 0].max() == 0 and found[..., 32, 32] == 1
    row = found[0, 0, 32, 16:32]
    assert row[0] < 0.5 and (row.diff() >= 0).all()


@pytest.mark.parametrize("settings", [{"surface": -0.1}, {"surface": 1.1}, {"strength": 0.0},
                                      {"num_inference_steps": 0}])  # fmt: skip
def test_settings_out_of_range_are_refused(view, settings):
    with pytest.raises(ValueError, match="must be in"):
        view(**settings)


def test_without_a_turn_depth_says_nothing(view, depth):
    assert torch.equal(view(turn=None, depth=depth), view(turn=None))
    mixed = view(turn=[0.5, math.nan], depth=depth)
    assert (mixed[0] - view(depth=depth)[0]).abs().max() < 1e-4
    assert (mixed[1] - view(turn=None)[1]).abs().max() < 1e-4


def test_the_camera_is_the_toy_worlds_and_is_saved(family, tmp_path):
    pipeline = family.view_pipeline
    assert pipeline.config.field_of_view == pytest.approx(FIELD_OF_VIEW, abs=1e-3)
    assert (pipeline.config.nearest, pipeline.config.farthest) == (NEAREST, FARTHEST)
    assert pipeline.camera == {"field_of_view": 0.628, "nearest": 1.5, "farthest": 9.0}
    pipeline.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "model_index.json").read_text())
    assert (saved["field_of_view"], saved["nearest"], saved["farthest"]) == (0.628, 1.5, 9.0)


def test_objects_turn_about_the_axes_that_are_found_or_those_of_their_outlines(family, picture, corner, depth):
    pipeline = family.view_pipeline
    plain = ToffeeViewPipeline(**{**pipeline.components, "axis": None}, **family.camera)
    plain.set_progress_bar_config(disable=True)
    outline = outline_axis(corner, depth, **family.camera)
    found = axes_of(family.axis, picture, corner, depth, **family.camera)
    assert found.shape == (2, 3) and (found - outline).abs().amin(0).max() > 0 and not found.requires_grad
    assert axes_of(None, picture, corner, depth, **family.camera) is None
    assert axes_of(family.axis, picture, corner, None, **family.camera) is None
    views = [p(PROMPTS, picture, corner, [0.5, -0.5], depth, generator=seeds(1, 2), output_type="pt").images
             for p in (pipeline, plain)]
    assert not torch.equal(*views)


def test_the_object_itself_matters_and_what_is_around_it_only_as_surroundings(view, picture, corner):
    other = torch.where(corner > 0, -picture, picture)
    assert (view(image=other) - view()).abs().max() > 1e-4


def test_pictures_come_as_asked(view):
    images = view(output_type="pt")
    assert images.shape == (2, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert view(output_type="pil")[1].size == (64, 64)
