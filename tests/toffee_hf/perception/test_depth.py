"""Depth, and the picture that shows it to a ControlNet."""

import pytest
import torch

from toffee_hf.perception.depth import LOOKS, control_picture, depth_looks, depth_of, estimate_depth


def test_depth_has_the_size_of_its_picture(family, picture):
    depth = estimate_depth(family.depth, picture)
    assert depth.shape == (2, 1, 64, 64) and torch.isfinite(depth).all()
    assert torch.equal(depth, estimate_depth(family.depth, picture))


def test_pictures_are_seen_at_the_size_that_the_model_learnt_at(family, picture):
    learnt, seen = family.depth.config.backbone_config.image_size, []
    larger = torch.nn.functional.interpolate(picture, (96, 96), mode="bilinear")
    handle = family.depth.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"].shape[-1]), with_kwargs=True)
    found = [estimate_depth(family.depth, x) for x in (picture, larger)]
    handle.remove()
    assert learnt != 64 and seen == [learnt, learnt] and [x.shape[-1] for x in found] == [64, 96]
    near, of = torch.nn.functional.avg_pool2d(found[0], 16), torch.nn.functional.avg_pool2d(found[1], 24)
    assert (near - of).abs().max() < 0.2 * (near.max() - near.min()), "the same picture, hardly another depth"


def test_looks_at_depth_are_of_the_picture_mirrored_and_moved(family, picture):
    found = depth_looks(family.depth, picture, 3)
    assert found.shape == (2, 3, 64, 64)
    assert torch.equal(found[:, :1], estimate_depth(family.depth, picture))
    assert torch.equal(found[:, 1:2], estimate_depth(family.depth, picture.flip(-1)).flip(-1))
    assert not torch.equal(found[:, 2], found[:, 0])


def test_each_look_at_depth_comes_back_to_its_place(family, picture, monkeypatch):
    seen = []
    monkeypatch.setattr("toffee_hf.perception.depth.estimate_depth", lambda model, x: seen.append(x) or x[:, :1] / 2)
    found = depth_looks(family.depth, picture, len(LOOKS))
    inside = found[..., 8:56, 8:56]
    assert torch.equal(inside, (picture[:, :1] / 2).expand_as(found)[..., 8:56, 8:56])
    assert len({x.flatten()[:400].sum().item() for x in seen}) == len(LOOKS), "each saw another picture"


def test_depth_has_gradients_where_they_are_asked_for(family, picture):
    x = picture.clone().requires_grad_()
    depth_of(family.depth, x).mean().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert not estimate_depth(family.depth, x).requires_grad


def test_a_control_picture_spans_its_range_inside_the_mask_and_is_black_outside(mask):
    depth = torch.rand(2, 1, 64, 64) * torch.tensor([0.1, 1.0])[:, None, None, None]
    shown = control_picture(depth, mask)
    inside = (mask > 0).expand_as(shown)
    assert shown.shape == (2, 3, 64, 64) and shown[~inside].abs().max() == 0
    for one, there in zip(shown, inside, strict=True):
        assert one[there].min() == pytest.approx(0.3) and one[there].max() == pytest.approx(1.0)
    assert torch.equal(shown[:, 0], shown[:, 2])


def test_nearer_is_brighter_and_what_is_outside_does_not_count(mask):
    depth = torch.linspace(0, 1, 64).expand(2, 1, 64, 64).clone()
    shown = control_picture(depth, mask)[:, 0, 32, 16:48]
    assert (shown.diff(dim=-1) > 0).all()
    wild = torch.where(mask > 0, depth, torch.full_like(depth, 100.0))
    assert torch.equal(control_picture(wild, mask), control_picture(depth, mask))


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_flat_depth_and_empty_masks_are_no_trouble(mask, level):
    flat = torch.full((2, 1, 64, 64), level)
    assert torch.isfinite(control_picture(flat, mask)).all()
    assert control_picture(flat, torch.zeros_like(mask)).abs().max() == 0


def test_the_unit_of_depth_does_not_matter(mask):
    depth = torch.rand(2, 1, 64, 64)
    assert (control_picture(depth, mask) - control_picture(0.5 * depth + 0.2, mask)).abs().max() < 1e-5
