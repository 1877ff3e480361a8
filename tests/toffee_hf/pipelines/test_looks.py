"""Looks at one picture whose mean is drawn: where each one sees what, and what the pipelines make of several."""

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from toffee_hf.pipelines import pipeline_toffee_refiner, pipeline_toffee_view
from toffee_hf.pipelines.pipeline_toffee_refiner import box_to_box, mask_box, warp
from toffee_hf.pipelines.pipeline_toffee_view import (
    LOOKS,
    SHARPENED,
    SHARPENED_PX,
    blurred,
    looked_at,
    looked_back,
    mean_look,
)

PROMPTS = ["a photo of a mug", "a photo of a car"]
TWICE = ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))      # two looks that see the same
SIDE = 8                                        # latent cells of pictures of 64 pixels


def seeds(*numbers):
    return [torch.Generator().manual_seed(n) for n in numbers]


@pytest.fixture
def smooth():
    """(1, 3, 64, 64): nothing in it is finer than 8 pixels."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, (64, 64), mode="bicubic").clamp(-1, 1)


@pytest.fixture
def view(family, picture, mask):
    def run(**changes):
        settings = {"prompt": PROMPTS, "image": picture, "mask": mask, "turn": [0.5, -0.5], "generator": seeds(1, 2),
                    "output_type": "pt"}  # fmt: skip
        return family.view_pipeline(**{**settings, **changes}).images

    return run


@pytest.fixture
def refine(family, picture, mask):
    def run(**changes):
        settings = {"prompt": PROMPTS, "draft": picture, "draft_mask": mask, "reference": picture.flip(0),
                    "reference_mask": mask, "num_inference_steps": 1, "generator": seeds(1, 2), "output_type": "pt"}
        return family.refiner_pipeline(**{**settings, **changes}).images

    return run


@pytest.fixture(params=["view", "refine"])
def draw(request):
    """Either pipeline, with settings of its own."""
    return request.getfixturevalue(request.param)


def test_both_pipelines_look_alike():
    for name in ("blurred", "looked_at", "looked_back", "mean_look", "_resampled"):
        one, other = (inspect.getsource(getattr(m, name)) for m in (pipeline_toffee_refiner, pipeline_toffee_view))
        assert one == other
    assert pipeline_toffee_refiner.LOOKS == LOOKS and LOOKS[0] == (1.0, 0.0, 0.0) and len(set(LOOKS)) == len(LOOKS)


def test_the_first_look_is_the_picture_itself(smooth):
    assert looked_at(smooth, LOOKS[0], SIDE) is smooth
    found, within = looked_back(smooth, LOOKS[0], SIDE)
    assert torch.equal(found, smooth) and within.min() == 1


@pytest.mark.parametrize("cells", [(0.5, 0.0), (0.0, 0.5), (-0.5, 1.0)])
def test_a_look_moves_by_parts_of_a_cell(smooth, cells):
    right, down = (int(c * 64 // SIDE) for c in cells)
    moved = looked_at(smooth, (1.0, *cells), SIDE)
    assert (moved[..., 16:48, 16:48] - smooth[..., 16 + down:48 + down, 16 + right:48 + right]).abs().max() < 1e-5


def test_a_larger_look_shows_the_middle_larger():
    rows = torch.arange(64.0)[:, None].expand(1, 1, 64, 64)
    shown = looked_at(rows, (1.25, 0.0, 0.0), SIDE)[0, 0, 8:56, 32]
    assert torch.allclose(shown, 31.5 + (torch.arange(8.0, 56.0) - 31.5) / 1.25, atol=1e-4)


@pytest.mark.parametrize("look", LOOKS)
def test_what_a_look_shows_comes_back_to_its_place(smooth, look):
    back, within = looked_back(looked_at(smooth, look, SIDE), look, SIDE)
    assert within[..., 10:54, 10:54].min() > 0.999 and 0 <= within.min() <= within.max() <= 1.0001
    assert (back - smooth).abs()[within.expand_as(back) > 0.999].max() < 0.03


def test_beyond_its_frame_a_look_says_nothing(smooth):
    _, within = looked_back(smooth, (1.5, 0.0, 0.0), SIDE)
    assert within[..., 32, 32] == 1 and within[..., 0, :].max() == 0 and within[..., :, 0].max() == 0


def test_a_mean_is_of_the_looks_that_show_a_pixel():
    one, other, there = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1e3), torch.zeros(1, 1, 4, 4)
    there[..., 2:] = 1
    found = mean_look([(one, torch.ones(1, 1, 4, 4)), (other, there)])
    assert found[..., :2].max() == 0 and found[..., 2:].min() == found.max() == 500


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_large_pictures_in_half_precision_come_back_to_their_places(smooth, kind):
    large = F.interpolate(smooth, (512, 512), mode="bicubic").clamp(-1, 1)
    for look in LOOKS:
        back, within = looked_back(looked_at(large.to(kind), look, 64), look, 64)
        assert back.dtype == within.dtype == kind and torch.isfinite(back).all()
        assert (back.float() - large).abs()[(within > 0.99).expand_as(back)].max() < 0.02


@pytest.fixture
def exact(family, monkeypatch):
    """The family's autoencoder loses nothing, and nobody draws: latents stay as they are given."""
    monkeypatch.setattr(family.vae, "encode", lambda x: SimpleNamespace(
        latent_dist=SimpleNamespace(mode=lambda: F.pixel_unshuffle(x, 64 // SIDE))))
    monkeypatch.setattr(family.vae, "decode", lambda z, return_dict: (F.pixel_shuffle(z, 64 // SIDE),))
    for pipeline in (pipeline_toffee_view.ToffeeViewPipeline, pipeline_toffee_refiner.ToffeeRefinerPipeline):
        monkeypatch.setattr(pipeline, "_denoise", lambda self, latents, *rest: latents)
    monkeypatch.setattr(pipeline_toffee_view, "SHARPENED", 0.0)


@pytest.mark.usefixtures("exact")
def test_what_each_look_draws_is_put_back_where_it_belongs(view, refine, smooth):
    both = torch.cat([smooth, smooth.flip(-1)])
    for found in (view(image=both, looks=len(LOOKS)), refine(draft=both, looks=len(LOOKS))):
        assert (found * 2 - 1 - both).abs().max() < 0.05


@pytest.mark.usefixtures("exact")
def test_given_latents_are_the_first_looks(refine, smooth):
    both = torch.cat([smooth, smooth.flip(-1)])
    nothing = torch.zeros(2, 3 * 64, SIDE, SIDE)
    assert (refine(draft=both, draft_latents=nothing) - 0.5).abs().max() < 1e-6
    halved = refine(draft=both, draft_latents=nothing, looks=2) * 2 - 1
    assert (halved - both / 2)[..., 10:54, 10:54].abs().max() < 0.05


@pytest.mark.parametrize("pipeline", [pipeline_toffee_refiner, pipeline_toffee_view])
def test_several_looks_are_their_mean(request, monkeypatch, pipeline):
    draw = request.getfixturevalue("view" if pipeline is pipeline_toffee_view else "refine")
    monkeypatch.setattr(pipeline, "LOOKS", TWICE)
    noises = seeds(1, 2)
    one, other = draw(generator=noises), draw(generator=noises)
    assert (one - other).abs().max() > 1e-4
    monkeypatch.setattr(pipeline_toffee_view, "SHARPENED", 0.0)
    assert (draw(looks=2) - (one + other) / 2).abs().max() < 1e-5


def test_a_view_of_several_looks_is_sharpened(monkeypatch, view):
    monkeypatch.setattr(pipeline_toffee_view, "LOOKS", TWICE)
    noises = seeds(1, 2)
    one, other = view(generator=noises), view(generator=noises)
    mean, sharp = (one + other) / 2, view(looks=2)
    expected = (mean + SHARPENED * (mean - blurred(mean, SHARPENED_PX // 2))).clamp(0, 1)
    assert (sharp - expected).abs().max() < 1e-4 < (sharp - mean).abs().max()


def test_one_look_is_the_default_and_others_change_the_picture(draw):
    first, more = draw(), draw(looks=len(LOOKS))
    assert torch.equal(first, draw(looks=1)) and not torch.equal(first, more)
    assert torch.isfinite(more).all() and 0 <= more.min() <= more.max() <= 1
    assert torch.equal(more, draw(looks=len(LOOKS)))


def test_each_look_may_have_a_depth_of_its_own(monkeypatch, view):
    monkeypatch.setattr(pipeline_toffee_view, "LOOKS", TWICE)
    monkeypatch.setattr(pipeline_toffee_view, "SHARPENED", 0.0)
    slope = torch.linspace(0.2, 0.8, 64).expand(2, 1, 64, 64)
    noises = seeds(1, 2)
    apart = [view(depth=depth, generator=noises) for depth in (slope, slope.flip(-1))]
    assert (view(depth=torch.cat([slope, slope.flip(-1)], 1), looks=2) - sum(apart) / 2).abs().max() < 1e-5
    noises = seeds(1, 2)
    same = [view(depth=slope, generator=noises) for _ in range(2)]
    assert (view(depth=slope, looks=2) - sum(same) / 2).abs().max() < 1e-5


@pytest.mark.parametrize("placed", [True, False])
def test_a_reference_is_laid_by_the_whole_masks_and_moves_with_its_draft(family, refine, picture, monkeypatch, placed):
    where = torch.zeros(2, 1, 64, 64)
    where[:, :, 20:64, 24:64] = 1                  # to the border, which the second look cuts off
    own, seen, grid = where.flip(-2), [], family.refiner_pipeline.reference_grid
    monkeypatch.setattr(type(family.refiner_pipeline), "reference_grid",
                        lambda self, *given, **settings: seen.append((given, settings)) or grid(*given, **settings))
    refine(looks=2, draft_mask=where, reference_mask=own, placed=placed)
    assert [settings["placed"] for _, settings in seen] == [placed, True]
    assert torch.equal(seen[0][0][2], picture.flip(0)) and torch.equal(seen[0][0][3], own)
    lay = box_to_box(mask_box(where), mask_box(own))
    there = (picture.flip(0), own) if placed else (warp(picture.flip(0), lay), warp(own, lay))
    for found, whole in zip(seen[1][0][:4], (picture, where, *there), strict=True):
        assert torch.equal(found, looked_at(whole, LOOKS[1], SIDE))


@pytest.mark.parametrize("wrong", [{"looks": 0}, {"looks": len(LOOKS) + 1}, {"looks": 2, "output_type": "latent"}])
def test_other_numbers_of_looks_are_refused(draw, wrong):
    with pytest.raises(ValueError, match="looks must be in"):
        draw(**wrong)


def test_depth_is_one_estimate_or_one_a_look(view):
    with pytest.raises(ValueError, match="one for each of 2 looks: 3"):
        view(depth=torch.full((2, 3, 64, 64), 0.5), looks=2)


@pytest.mark.parametrize("name", ["refiner_pipeline", "view_pipeline"])
@pytest.mark.parametrize("looks", [1, 2])
def test_a_pipeline_in_half_precision_draws_what_it_draws_in_full(family, name, looks, picture, mask):
    whole = getattr(family, name)
    half = type(whole)(**{part: copy.deepcopy(model) for part, model in whole.components.items()}).to(torch.bfloat16)
    half.set_progress_bar_config(disable=True)

    def drawn(pipeline, kind):
        x, inside = picture.to(kind), mask.to(kind)
        given = (x.flip(0), inside) if name == "refiner_pipeline" else ([0.5, -0.5],)
        return pipeline(PROMPTS, x, inside, *given, num_inference_steps=1, looks=looks, output_type="pt",
                        generator=seeds(1, 2)).images.float()

    assert (drawn(half, torch.bfloat16) - drawn(whole, torch.float32)).abs().mean() < 0.02
