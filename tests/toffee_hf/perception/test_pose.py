"""A subject turned to a draft's pose: found where the draft is the subject turned, left where it is not."""

import math
from dataclasses import replace

import pytest
import torch

from toffee_hf.perception.light import Surface
from toffee_hf.perception.pose import GROUND, TURNS, posed_like
from toffee_hf.pipelines.pipeline_toffee_refiner import laid
from toffee_hf.toy.render import CAMERA
from toffee_hf.toy.world import reference_shot, toy_subject

TOYS = (0, 3, 8)                      # a car, a watering can, a cat: turns show in their outlines


def seen(turn, shift=(0.0, 0.0)):
    """The toys turned by so many radians more than in their reference pictures, and shifted."""
    found = []
    for i in TOYS:
        subject = toy_subject("train", i)
        first = reference_shot(subject)
        camera = replace(first.camera, yaw=first.camera.yaw + turn, shift=shift)
        found.append(subject.render([replace(first, camera=camera)]))
    image, mask, depth = (torch.cat([getattr(r, name) for r in found]) for name in ("photo", "mask", "depth"))
    return Surface(image * 2 - 1, mask, depth)


@pytest.mark.parametrize("turn", [0.3, -0.22])
def test_the_turn_is_found_and_what_is_seen_after_it_is_the_draft(turn):
    shown, draft = seen(0.0, (0.05, 0.0)), seen(turn, (-0.05, 0.02))
    found, turns = posed_like(shown, draft, **CAMERA)
    assert (turns - turn).abs().max() < 0.12
    placed = torch.minimum(found.mask, draft.mask).sum((1, 2, 3)) / found.mask.sum((1, 2, 3))
    assert placed.min() > 0.93, "what is seen lies where the draft shows it"
    both = (found.mask == 1) & (draft.mask == 1)
    boxed, _ = laid(draft.mask, shown.x, shown.mask)
    near, far = (((x - draft.x) * both).square().sum() for x in (found.x, boxed))
    assert near < 0.7 * far, "nearer to it than by the boxes alone"
    assert found.x.shape == shown.x.shape and found.mask.shape == found.depth.shape == shown.mask.shape
    assert (found.x[(found.mask == 0).expand_as(found.x)] == GROUND).all()
    assert found.x.abs().max() <= 1 + 1e-4 and 0 <= found.depth.min() <= found.depth.max() <= 1


def test_a_subject_in_the_drafts_pose_stays_as_it_is():
    shown = seen(0.0)
    found, turns = posed_like(shown, shown, **CAMERA)
    assert turns.tolist() == [0.0] * len(TOYS)
    assert torch.allclose(found.mask, shown.mask, atol=1e-3)
    for field in ("x", "depth"):
        assert ((getattr(found, field) - getattr(shown, field)) * (shown.mask == 1)).abs().max() < 1e-3


def test_a_batch_is_its_single_pictures():
    shown, draft = seen(0.0), seen(0.25)
    together, turns = posed_like(shown, draft, **CAMERA)
    for i in range(len(TOYS)):
        one, turn = posed_like(*(Surface(s.x[i : i + 1], s.mask[i : i + 1], s.depth[i : i + 1])
                                 for s in (shown, draft)), **CAMERA)
        assert torch.allclose(turn, turns[i : i + 1], atol=1e-4)
        assert (one.x - together.x[i : i + 1]).abs().mean() < 1e-3


def test_a_mask_too_thin_to_turn_is_laid_by_its_box():
    shown, thin = seen(0.0), torch.zeros_like(seen(0.0).mask)
    thin[:, :, 40:80, 64] = 1
    found, turns = posed_like(Surface(shown.x, thin, shown.depth), seen(0.3), **CAMERA)
    assert turns.tolist() == [0.0] * len(TOYS) and found.mask.sum((1, 2, 3)).min() > 100


def test_the_axes_say_where_it_lies():
    """By the true axes better than by those of each other, in frames that are shifted apart."""
    shown, draft = seen(0.0, (0.08, 0.0)), seen(0.3, (-0.08, 0.0))
    cameras = [reference_shot(toy_subject("train", i)).camera for i in TOYS]
    half = math.tan(CAMERA["field_of_view"] / 2)
    own, wanted = (torch.tensor([[2 * x * half, c.distance, c.elevation] for c in cameras]) for x in (0.08, -0.08))
    right, _ = posed_like(shown, draft, (own, wanted), **CAMERA)
    wrong, _ = posed_like(shown, draft, (wanted, own), **CAMERA)
    shares = [(torch.minimum(f.mask, draft.mask).sum() / torch.maximum(f.mask, draft.mask).sum()).item()
              for f in (right, wrong)]
    assert shares[0] > 0.8 and shares[0] > shares[1] + 0.1


def test_an_empty_mask_turns_nothing():
    shown = seen(0.0)
    nothing = Surface(shown.x, torch.zeros_like(shown.mask), shown.depth)
    for a, b in ((nothing, shown), (shown, nothing)):
        found, turns = posed_like(a, b, **CAMERA)
        assert turns.tolist() == [0.0] * len(TOYS)
        assert torch.equal(found.x, a.x) and torch.equal(found.mask, a.mask)
    assert len(TURNS) > 3 and max(TURNS) == -min(TURNS) > 0.5
