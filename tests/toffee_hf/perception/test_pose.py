"""A subject turned to a draft's pose: found where the draft is the subject turned, left where it is not."""

from dataclasses import replace

import pytest
import torch

from toffee_hf.perception.light import Surface
from toffee_hf.perception.pose import GROUND, TURNS, posed_like
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
    assert found.x.shape == shown.x.shape and found.mask.shape == found.depth.shape == shown.mask.shape
    assert (found.x[(found.mask == 0).expand_as(found.x)] == GROUND).all()
    assert found.x.abs().max() <= 1 + 1e-4 and 0 <= found.depth.min() <= found.depth.max() <= 1


def test_a_subject_in_the_drafts_pose_stays_as_it_is():
    shown = seen(0.0)
    found, turns = posed_like(shown, shown, **CAMERA)
    assert turns.tolist() == [0.0] * len(TOYS)
    for field in ("x", "mask", "depth"):
        assert torch.equal(getattr(found, field), getattr(shown, field))


def test_a_batch_is_its_single_pictures():
    shown, draft = seen(0.0), seen(0.25)
    together, turns = posed_like(shown, draft, **CAMERA)
    for i in range(len(TOYS)):
        one, turn = posed_like(*(Surface(s.x[i : i + 1], s.mask[i : i + 1], s.depth[i : i + 1])
                                 for s in (shown, draft)), **CAMERA)
        assert torch.allclose(turn, turns[i : i + 1], atol=1e-4)
        assert (one.x - together.x[i : i + 1]).abs().mean() < 1e-3


def test_an_empty_mask_turns_nothing():
    shown = seen(0.0)
    nothing = Surface(shown.x, torch.zeros_like(shown.mask), shown.depth)
    for a, b in ((nothing, shown), (shown, nothing)):
        found, turns = posed_like(a, b, **CAMERA)
        assert turns.tolist() == [0.0] * len(TOYS) and torch.equal(found.x, shown.x)
    assert len(TURNS) > 3
