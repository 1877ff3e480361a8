"""The Refiner: keeps what is outside the mask, repeats itself for one seed, and says what it cannot do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import Dinov2Config, Dinov2Model

from tests.tiny_family import FEATURES, SIZE_PX
from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline, appearance, blurred, laid

PROMPTS = ["a mug on the beach", "a photo of a red car in the snow"]
MATCH = {"top_k": 1, "temperature": 0.05, "threshold": -1.0}


def seeds(*numbers):
    return [torch.Generator().manual_seed(n) for n in numbers]


@pytest.fixture
def refine(family, picture, mask):
    def run(**changes):
        settings = {"prompt": PROMPTS, "draft": picture, "draft_mask": mask, "reference": picture.flip(0),
                    "reference_mask": mask, "generator": seeds(1, 2), "num_inference_steps": 2, "output_type": "latent"}
        return family.refiner_pipeline(**{**settings, **changes}).images

    return run


def test_latents_outside_the_mask_stay_exactly(family, refine, picture, mask):
    known = family.vae.encode(picture).latent_dist.mode()
    refined = refine(strength=1.0)
    outside = F.max_pool2d(F.adaptive_avg_pool2d(mask, 8), 3, 1, 1).expand_as(known) == 0
    assert torch.equal(refined[outside], known[outside])
    assert (refined - known)[~outside].abs().mean() > 1e-3


@pytest.mark.parametrize("steps", [1, 3])
def test_one_seed_is_one_picture_and_another_seed_another(refine, steps):
    first, again = refine(num_inference_steps=steps), refine(num_inference_steps=steps)
    assert torch.equal(first, again) and torch.isfinite(first).all()
    assert (first - refine(generator=seeds(3, 4), num_inference_steps=steps)).abs().max() > 1e-4


def test_a_pair_is_refined_alone_as_in_a_batch(refine, picture, mask):
    together = refine()
    for i in range(2):
        alone = refine(prompt=PROMPTS[i], draft=picture[i : i + 1], draft_mask=mask[i : i + 1], generator=seeds(i + 1),
                       reference=picture[1 - i : 2 - i], reference_mask=mask[i : i + 1])  # fmt: skip
        assert (alone[0] - together[i]).abs().max() < 1e-4


def test_given_latents_save_the_encoding(family, refine, picture):
    latents = family.vae.encode(picture).latent_dist.mode()
    assert torch.equal(refine(draft_latents=latents), refine())


def test_prompt_reference_and_transfer_matter(refine, picture):
    base = refine()
    for change in ({"prompt": PROMPTS[::-1]}, {"reference": picture}, {"transfer": ["pattern", "palette"]},
                   {"transfer": "palette"}, {"strength": 0.3}):  # fmt: skip
        assert (refine(**change) - base).abs().max() > 1e-5, change


def test_a_transfer_each_is_the_transfer_of_each(refine):
    mixed, pattern, full = refine(transfer=["pattern", "full"]), refine(transfer="pattern"), refine(transfer="full")
    assert (mixed[0] - pattern[0]).abs().max() < 1e-4 and (mixed[1] - full[1]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "wrong",
    [{"strength": 0.0}, {"strength": -0.1}, {"strength": 1.01}, {"num_inference_steps": 0}, {"transfer": "everything"},
     {"strength": float("nan")}],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused(refine, wrong):
    with pytest.raises(ValueError):
        refine(**wrong)


@pytest.mark.parametrize(("output_type", "kind"), [("pt", torch.Tensor), ("pil", list)])
def test_pictures_come_as_asked(refine, output_type, kind):
    images = refine(output_type=output_type)
    assert isinstance(images, kind) and len(images) == 2
    if output_type == "pt":
        assert images.shape == (2, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    else:
        assert images[0].size == (64, 64)


def test_a_picture_maps_each_of_its_patches_to_itself(family, picture, mask):
    pipeline, kinds = family.refiner_pipeline, torch.zeros(2, dtype=torch.long)
    features, latents, known = pipeline.reference_grid(picture, mask, picture, mask, kinds, nearness=10.0, **MATCH)
    inside = F.adaptive_avg_pool2d(mask, 8) > 0.05
    assert torch.equal(known > 0, inside)
    expected = appearance(family.dino, picture * mask) * inside
    assert (features - expected).abs().max() < 1e-3 * expected.abs().max()
    own = family.vae.encode(picture).latent_dist.mode() * inside
    assert (latents - own).abs().max() < 1e-3 * own.abs().max()


def test_the_references_latents_are_those_of_the_reference_pasted_into_the_draft(family, picture, mask):
    """So the autoencoder sees no cut-out's edge, and nothing of the reference's own surroundings."""
    pipeline, kinds, reference = family.refiner_pipeline, torch.zeros(2, dtype=torch.long), picture.flip(0)
    _, latents, known = pipeline.reference_grid(picture, mask, reference, mask, kinds, nearness=10.0, **MATCH)
    pasted = family.vae.encode(picture * (1 - mask) + reference * mask).latent_dist.mode() * known
    assert known.sum() > 0 and (latents - pasted).abs().max() < 1e-3 * pasted.abs().max()
    around = torch.where(mask > 0, reference, -reference)
    other = pipeline.reference_grid(picture, mask, around, mask, kinds, nearness=10.0, **MATCH)[1]
    assert (latents - other).abs().max() < 1e-3 * pasted.abs().max()


@pytest.fixture
def coarse(family):
    """A Refiner whose patches are four latent cells each."""
    torch.manual_seed(0)
    encoder = Dinov2Model(Dinov2Config(hidden_size=FEATURES, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2,
                                       patch_size=16, image_size=SIZE_PX)).eval()
    made = ToffeeRefinerPipeline(family.vae, family.text_encoder, family.tokenizer, family.refiner_unet, encoder,
                                 family.scheduler())
    made.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()
def test_latents_may_be_finer_than_the_patches(family, coarse, picture, mask):
    kinds = torch.zeros(2, dtype=torch.long)
    features, latents, known = coarse.reference_grid(picture, mask, picture, mask, kinds, nearness=10.0, **MATCH)
    assert features.shape == (2, FEATURES, 8, 8) and latents.shape == (2, 4, 8, 8) and known.shape == (2, 1, 8, 8)
    assert torch.equal(known > 0, F.adaptive_avg_pool2d(mask, 8) > 0)
    for grid in (features, known):
        assert torch.equal(grid, F.interpolate(grid[..., ::2, ::2], scale_factor=2)), "a patch's cells are alike"
    own = family.vae.encode(picture).latent_dist.mode() * known
    assert (latents - own).abs().max() < 1e-3 * own.abs().max(), "and their latents are not"


@torch.no_grad()
def test_finer_latents_move_with_their_patch(family, coarse, picture, mask, monkeypatch):
    """Matching that takes the left patch for the right one and the other way round moves whole blocks of cells."""
    def swapped(draft, reference, seen, side, **_):
        weights = torch.eye(side * side)[torch.arange(side * side).view(side, side).flip(1).flatten()]
        return weights.expand(len(draft), -1, -1), torch.ones(draft.shape[:2], dtype=torch.bool)

    monkeypatch.setattr("toffee_hf.pipelines.pipeline_toffee_refiner.matched", swapped)
    kinds = torch.zeros(2, dtype=torch.long)
    _, latents, known = coarse.reference_grid(picture, mask, picture, mask, kinds, nearness=0.0, **MATCH)
    blocks = family.vae.encode(picture).latent_dist.mode().unflatten(3, (4, 2)).flip(3).flatten(3) * known
    assert (latents - blocks).abs().max() < 1e-3 * blocks.abs().max()


def test_a_refiner_with_coarse_patches_runs(coarse, picture, mask):
    refined = coarse(PROMPTS, picture, mask, picture.flip(0), mask, generator=seeds(1, 2), num_inference_steps=1,
                     output_type="latent").images
    assert refined.shape == (2, 4, 8, 8) and torch.isfinite(refined).all()


def test_what_is_not_found_or_not_the_subject_is_empty(family, picture, mask):
    pipeline, kinds = family.refiner_pipeline, torch.zeros(2, dtype=torch.long)
    *grids, known = pipeline.reference_grid(picture, mask, picture.flip(0), mask, kinds, nearness=0.0,
                                            **{**MATCH, "threshold": 1.01})
    assert known.sum() == 0 and all(grid.abs().max() == 0 for grid in grids)
    *grids, known = pipeline.reference_grid(picture, mask, picture, mask, kinds, nearness=1.0, **MATCH)
    for grid in grids:
        assert grid[(known == 0).expand_as(grid)].abs().max() == 0 and grid.abs().max() > 0


def test_a_moved_reference_gives_the_same_grid(family, picture):
    """Boxes are laid onto each other, so where the subject stands in its photo does not matter."""
    pipeline, kinds, where = family.refiner_pipeline, torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, 64, 64)
    where[:, :, 8:40, 8:40] = 1
    moved, there = picture.roll((16, 8), (2, 3)), where.roll((16, 8), (2, 3))
    here = pipeline.reference_grid(picture, where, picture, where, kinds, nearness=10.0, **MATCH)
    same = pipeline.reference_grid(picture, where, moved, there, kinds, nearness=10.0, **MATCH)
    for grid, again in zip(here, same, strict=True):
        assert (grid - again).abs().max() < 1e-2 * grid.abs().max()


@pytest.mark.parametrize("cutout", [True, False])
def test_a_placed_reference_stays_where_it_is(refine, picture, mask, cutout):
    own = {"reference": picture.flip(0), "reference_mask": mask, "cutout": cutout, "surface": 0.5, "output_type": "pt"}
    assert (refine(placed=True, **own) - refine(**own)).abs().max() < 1e-4, "its box is the draft's"
    half = mask.clone()
    half[..., :32] = 0
    part = {**own, "reference_mask": half}
    assert (refine(placed=True, **part) - refine(**part)).abs().max() > 1e-2, "half of it is not drawn out over all"
    subject, seen = laid(mask, picture, half, placed=True)
    assert torch.equal(subject, picture * half) and torch.equal(seen, half)


def test_an_empty_mask_is_no_trouble(refine, family, picture, mask):
    refined = refine(draft_mask=torch.zeros_like(mask), reference_mask=torch.zeros_like(mask))
    assert torch.equal(refined, family.vae.encode(picture).latent_dist.mode())


def test_saved_and_loaded_it_is_the_same(family, refine, picture, mask, tmp_path):
    family.refiner_pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").exists()
    assert {p.name for p in tmp_path.iterdir()} >= {"vae", "unet", "encoder", "text_encoder", "tokenizer", "scheduler"}


def test_the_references_own_pixels_show_where_they_are_asked_for(refine):
    drawn, all_of_it, one = (refine(surface=s, output_type="pt") for s in (0.0, 1.0, [1.0, 0.0]))
    changed = (all_of_it - drawn).abs().sum(1) > 1e-6
    assert changed.any((1, 2)).all() and changed.float().mean() < 0.9, "inside the subject alone"
    assert torch.equal(one[0], all_of_it[0]) and torch.equal(one[1], drawn[1])
    half = refine(surface=0.5, output_type="pt")
    assert (half - (drawn + all_of_it) / 2).abs().max() < 0.02
    assert torch.equal(refine(surface=1.0), refine(surface=0.0)), "latents have none of it"


def test_a_drafts_grain_lies_over_the_refined_subject(refine, picture, mask):
    strokes = picture * 0.2 + (torch.arange(64) % 2 * 0.4 - 0.2)
    drawn, all_of_it, one = (refine(draft=strokes, grain=g, output_type="pt") for g in (0.0, 1.0, [1.0, 0.0]))
    assert torch.equal(one[0], all_of_it[0]) and torch.equal(one[1], drawn[1])
    more = all_of_it - drawn
    assert torch.equal(more != 0, (more != 0) & (mask > 0)), "inside the subject alone"
    fine = (strokes - blurred(strokes, 1)) / 2
    told = ((mask > 0) & (all_of_it > 0) & (all_of_it < 1) & (drawn > 0) & (drawn < 1)).expand_as(more)
    assert told.float().mean() > 0.05 and torch.allclose(more[told], fine[told], atol=1e-5)
    assert torch.equal(refine(draft=strokes, grain=np.float32(1), output_type="pt"), all_of_it)
    assert torch.equal(refine(grain=1.0), refine(grain=0.0)), "latents have none of it"


@pytest.mark.parametrize("name", ["surface", "grain"])
@pytest.mark.parametrize("part", [-0.1, 1.1, [0.5], [0.5, 2.0], "0.5", [0.5, None]])
def test_a_part_out_of_range_is_refused(refine, name, part):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        refine(**{name: part})
