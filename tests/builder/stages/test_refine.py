"""Stages 3, 4 and 6: what is outside the mask is the source's in every pixel, the seam lies inside."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from builder.stages import as_pictures, pixels
from builder.stages.draft import Draft
from builder.stages.refine import Refine, edit_mask
from tests.builder.stages.conftest import box, noise
from toffee_hf.drafting import Steering
from toffee_hf.perception.light import Surface, lit_like

SETTINGS = {"transfers": (("style", "full"), ("colour", "pattern"), ("texture", "palette")), "strength": 0.6,
            "steps": 2, "top_k": 4, "temperature": 0.05, "threshold": -1.0, "nearness": 1.0, "margin_px": 5,
            "feather_px": 3}  # fmt: skip


def columns(count, **changed):
    made = {"reference": noise(count, 1), "reference_mask": box(count), "posed": noise(count, 2),
            "posed_mask": box(count), "posed_depth": torch.rand(count, 1, 64, 64), "draft": noise(count, 3),
            "draft_latents": torch.randn(count, 4, 8, 8)}  # fmt: skip
    return {**made, **changed}


@pytest.mark.parametrize(("margin", "feather"), [(5, 3), (0, 0), (4, 0), (2, 5), (0, 3)])
def test_an_edit_reaches_its_margin_and_its_seam_lies_inside(margin, feather):
    mask = box(1).float().unsqueeze(1) / 255
    edit, blend = edit_mask(mask, margin, feather)
    expected = torch.zeros_like(mask)
    expected[:, :, 20 - margin : 44 + margin, 20 - margin : 44 + margin] = 1
    assert torch.equal(edit, expected)
    assert blend[edit == 0].abs().max() == 0, "nothing of the edit is outside its region"
    assert blend.min() >= 0 and blend.max() <= 1 + 1e-6
    row = blend[0, 0, 32, 20 - margin : 32]
    assert (row.diff() >= -1e-6).all(), "it rises from the border inwards"
    assert row[-1] == pytest.approx(1.0)
    if margin >= 2 * feather:
        assert blend[mask == 1].min() == pytest.approx(1.0), "the subject itself is all new"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_masks_are_no_trouble(value):
    edit, blend = edit_mask(torch.full((1, 1, 32, 32), value), 5, 3)
    assert torch.equal(edit, torch.full_like(edit, value)) and torch.allclose(blend, torch.full_like(edit, value))


def test_target_and_source_are_equal_outside_the_mask_in_every_pixel(family, batch):
    done = Refine(family=family, **SETTINGS).run(batch("style", "colour", "texture", **columns(3)))
    outside = (done["mask"] == 0).unsqueeze(1).expand(-1, 3, -1, -1)
    assert torch.equal(done["target"][outside], done["source"][outside])
    assert (done["target"] != done["source"])[~outside].float().mean() > 0.5
    assert torch.equal(done["source"], noise(3, 3))
    assert set(done["mask"].unique().tolist()) == {0, 255}
    assert done["target"].dtype == done["mask"].dtype == torch.uint8


@pytest.mark.parametrize("relight", [False, True])
def test_the_refiner_is_given_what_the_category_transfers(batch, monkeypatch, relight):
    seen = {}

    def pipeline(prompts, draft, mask, reference, reference_mask, **settings):
        seen.update(settings, prompts=prompts, reference=reference)
        return SimpleNamespace(images=torch.zeros(len(prompts), 3, 64, 64))

    camera = {"field_of_view": 0.6, "nearest": 1.5, "farthest": 9.0}
    family = SimpleNamespace(device="cpu", refiner_pipeline=pipeline, camera=camera)
    monkeypatch.setattr("toffee_hf.family.open_family", lambda name: family)
    made = batch("texture", "style", **columns(2))
    parts = {"surfaces": (("texture", 0.25),), "grains": (("style", 0.5), ("pose", 1.0))}
    done = Refine(family="unused", relight=relight, looks=2, **parts, **SETTINGS).run(made)
    assert seen["surface"] == [0.25, 0.0] and seen["grain"] == [0.0, 0.5]
    assert seen["transfer"] == ["palette", "full"] and seen["prompts"] == [pair.prompt for pair in made.pairs]
    posed, draft, mask = pixels(made["posed"], "cpu"), pixels(made["draft"], "cpu"), made["posed_mask"][:, None] / 255
    lit = lit_like(Surface(posed, mask, made["posed_depth"]), Surface(draft, mask, made["posed_depth"]), **camera)
    assert not torch.equal(lit, posed)
    assert torch.equal(seen["reference"], lit if relight else posed)
    assert torch.equal(done["given"], as_pictures(lit if relight else posed))
    assert torch.equal(seen["draft_latents"], made["draft_latents"]) and seen["strength"] == 0.6
    assert seen["looks"] == 2
    middle = done["target"][:, :, 26:38, 26:38]
    assert middle.max() == 0, "inside, the target is the refined picture"


def test_a_category_without_a_transfer_is_a_fault(family, batch):
    with pytest.raises(KeyError, match="pose"):
        Refine(family=family, **SETTINGS).run(batch("pose", **columns(1)))


def test_a_draft_follows_its_pair_and_not_its_neighbours(family, batch):
    made = batch("style", "colour", posed=noise(2), posed_mask=box(2))
    stage = Draft(family=family, steps=2, steering=Steering(guidance=3.0),
                  steerings=(("style", Steering(guidance=4.0, guidance_end=0.5)),))
    done = stage.run(made)
    assert done["draft"].shape == (2, 3, 64, 64) and done["draft"].dtype == torch.uint8
    assert done["draft_latents"].shape == (2, 4, 8, 8) and done["posed_depth"].shape == (2, 1, 64, 64)
    assert not torch.equal(*done["posed_depth"]), "each its own"
    alone = stage.run(made.select([1]))
    assert (alone["draft_latents"][0] - done["draft_latents"][1]).abs().max() < 1e-3
    assert torch.equal(stage.run(made)["draft"], done["draft"])


def test_each_category_is_steered_in_its_own_way(family, batch):
    made = batch("style", "colour", posed=noise(2), posed_mask=box(2))
    plain = Draft(family=family, steps=2, steering=Steering(guidance=3.0))
    other = replace(plain, steerings=(("style", Steering(guidance=3.0, control=0.2)),))
    plain, other = plain.run(made)["draft_latents"], other.run(made)["draft_latents"]
    assert not torch.allclose(plain[0], other[0], atol=1e-2) and torch.allclose(plain[1], other[1], atol=1e-3)
