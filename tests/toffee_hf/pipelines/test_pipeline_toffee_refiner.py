"""The Refiner: keeps what is outside the mask, repeats itself for one seed, and says what it cannot do."""

import pytest
import torch
import torch.nn.functional as F

from toffee_hf.pipelines.pipeline_toffee_refiner import appearance

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
    grid, known = pipeline.feature_grid(picture, mask, picture, mask, kinds, nearness=10.0, **MATCH)
    inside = F.adaptive_avg_pool2d(mask, 8) > 0.05
    assert torch.equal(known > 0, inside)
    expected = appearance(family.dino, picture * mask) * inside
    assert (grid - expected).abs().max() < 1e-3 * expected.abs().max()


def test_what_is_not_found_or_not_the_subject_is_empty(family, picture, mask):
    pipeline, kinds = family.refiner_pipeline, torch.zeros(2, dtype=torch.long)
    grid, known = pipeline.feature_grid(picture, mask, picture.flip(0), mask, kinds, nearness=0.0,
                                        **{**MATCH, "threshold": 1.01})
    assert known.sum() == 0 and grid.abs().max() == 0
    grid, known = pipeline.feature_grid(picture, mask, picture, mask, kinds, nearness=1.0, **MATCH)
    assert grid[(known == 0).expand_as(grid)].abs().max() == 0


def test_a_moved_reference_gives_the_same_grid(family, picture):
    """Boxes are laid onto each other, so where the subject stands in its photo does not matter."""
    pipeline, kinds, where = family.refiner_pipeline, torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, 64, 64)
    where[:, :, 8:40, 8:40] = 1
    moved, there = picture.roll((16, 8), (2, 3)), where.roll((16, 8), (2, 3))
    here, _ = pipeline.feature_grid(picture, where, picture, where, kinds, nearness=10.0, **MATCH)
    same, _ = pipeline.feature_grid(picture, where, moved, there, kinds, nearness=10.0, **MATCH)
    assert (here - same).abs().max() < 1e-2 * here.abs().max()


def test_an_empty_mask_is_no_trouble(refine, family, picture, mask):
    refined = refine(draft_mask=torch.zeros_like(mask), reference_mask=torch.zeros_like(mask))
    assert torch.equal(refined, family.vae.encode(picture).latent_dist.mode())


def test_saved_and_loaded_it_is_the_same(family, refine, picture, mask, tmp_path):
    family.refiner_pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").exists()
    assert {p.name for p in tmp_path.iterdir()} >= {"vae", "unet", "encoder", "text_encoder", "tokenizer", "scheduler"}
