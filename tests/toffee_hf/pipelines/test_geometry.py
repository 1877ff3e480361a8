"""Boxes, warps and matching: the parts of the Refiner that need no model."""

import pytest
import torch

from toffee_hf.pipelines.pipeline_toffee_refiner import (
    TRANSFERS,
    blurred,
    box_to_box,
    limited,
    mask_box,
    matched,
    warp,
)


def box_mask(top, bottom, left, right, size=64):
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (box_mask(0, 64, 0, 64), (-1.0, -1.0, 1.0, 1.0)),
        (box_mask(16, 48, 0, 32), (-1.0, -0.5, 0.0, 0.5)),
        (box_mask(63, 64, 63, 64), (0.96875, 0.96875, 1.0, 1.0)),
        (box_mask(0, 0, 0, 0), (-1.0, -1.0, 1.0, 1.0)),
        (0.4 * box_mask(16, 48, 0, 32), (-1.0, -1.0, 1.0, 1.0)),
    ],
)
def test_a_box_is_tight_and_an_empty_mask_is_the_whole_frame(mask, box):
    assert mask_box(mask)[0].tolist() == pytest.approx(box)


def test_boxes_of_a_batch_are_boxes_of_its_pictures():
    masks = torch.cat([box_mask(4, 20, 8, 30), box_mask(0, 0, 0, 0), box_mask(50, 60, 1, 63)])
    assert torch.equal(mask_box(masks), torch.cat([mask_box(m[None]) for m in masks]))


def test_what_the_source_box_holds_fills_the_output_box():
    x = torch.rand(1, 3, 64, 64)
    small, large = box_mask(8, 24, 8, 24), box_mask(0, 64, 0, 64)
    found = warp(x * small, box_to_box(mask_box(large), mask_box(small)))
    expected = torch.nn.functional.interpolate(x[:, :, 8:24, 8:24], scale_factor=4, mode="bilinear")
    assert (found - expected)[:, :, 4:-4, 4:-4].abs().max() < 1e-4


def test_a_box_onto_itself_changes_nothing():
    x, box = torch.rand(2, 3, 64, 64), mask_box(torch.cat([box_mask(4, 20, 8, 30), box_mask(1, 9, 40, 63)]))
    assert (warp(x, box_to_box(box, box)) - x).abs().max() < 1e-4


def test_there_and_back_is_the_picture_and_outside_is_zero():
    x = blurred(torch.rand(1, 3, 64, 64), 12)
    a, b = mask_box(box_mask(10, 50, 12, 44)), mask_box(box_mask(6, 58, 20, 60))
    there = warp(x * box_mask(10, 50, 12, 44), box_to_box(b, a))
    assert there[:, :, :4].abs().max() == 0 and there[..., :17].abs().max() == 0
    back = warp(there, box_to_box(a, b))
    assert (back - x)[:, :, 14:46, 16:40].abs().max() < 0.03


def one_hot(rows):
    return torch.eye(4)[torch.tensor(rows)][None].float()


@pytest.mark.parametrize(
    ("draft", "reference", "seen", "options", "best", "found"),
    [
        # each patch finds its like, wherever it lies
        ([0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 1, 1], {}, [3, 2, 1, 0], [1, 1, 1, 1]),
        # what lies off the subject is never taken, however alike
        ([0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1], {}, [1, 1, 1, 1], [1, 1, 1, 1]),
        # under the threshold nothing is found
        ([0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], {"threshold": 0.5}, None, [1, 0, 1, 0]),
        # with nothing seen, nothing is found
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0], {}, None, [0, 0, 0, 0]),
        # equal patches: the near one wins
        ([0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], {"nearness": 1.0}, [0, 1, 2, 3], [1, 1, 1, 1]),
        # nearness is a tie-break at most as strong as it is said to be
        ([0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 1, 1], {"nearness": 0.5}, [3, 2, 1, 0], [1, 1, 1, 1]),
        ([0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 1, 1], {"nearness": 5.0}, [0, 1, 2, 3], [1, 1, 1, 1]),
    ],
)
def test_matching_by_hand_made_features(draft, reference, seen, options, best, found):
    settings = {"top_k": 1, "temperature": 0.05, "threshold": -1.0, "nearness": 0.0, **options}
    weights, known = matched(one_hot(draft), one_hot(reference), torch.tensor([seen]) > 0, 2, **settings)
    assert known[0].tolist() == [bool(v) for v in found]
    if best is not None:
        assert weights.argmax(-1)[0].tolist() == best
    assert torch.allclose(weights.sum(-1), torch.ones(1, 4))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_weights_are_spread_over_the_best_alone(top_k):
    a = torch.nn.functional.normalize(torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    b = torch.nn.functional.normalize(torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    seen = torch.ones(2, 16) > 0
    weights, _ = matched(a, b, seen, 4, top_k=top_k, temperature=0.3, threshold=-1.0, nearness=0.0)
    assert ((weights > 0).sum(-1) == top_k).all()
    assert torch.equal(weights.argmax(-1), (a @ b.transpose(1, 2)).argmax(-1))
    sharp, _ = matched(a, b, seen, 4, top_k=top_k, temperature=0.01, threshold=-1.0, nearness=0.0)
    assert sharp.amax(-1).mean() >= weights.amax(-1).mean()


def test_transfers_limit_what_is_taken():
    x, seen = torch.rand(3, 3, 64, 64) * 2 - 1, torch.zeros(3, 1, 64, 64)
    seen[:, :, 8:56, 8:56] = 1
    kinds = torch.tensor([TRANSFERS.index(name) for name in ("full", "pattern", "palette")])
    full, pattern, palette = limited(x, seen, kinds)
    assert torch.equal(full, x[0])
    assert (pattern[0] - pattern[1]).abs().max() == 0 and pattern.std() > 0.1
    assert palette[:, 20:44, 20:44].std() < 0.4 * x[2][:, 20:44, 20:44].std()
    flat = torch.tensor([0.8, -0.3, 0.1])[None, :, None, None].expand(1, 3, 64, 64)
    paint = limited(flat, seen[:1], torch.tensor([2]))[0]
    assert (paint - flat[0])[:, 8:56, 8:56].abs().max() < 1e-4, "the surroundings do not leak into the colours"


def test_blurring_keeps_a_flat_picture_and_calms_a_wild_one():
    flat, wild = torch.full((1, 1, 32, 32), 0.3), torch.rand(1, 1, 32, 32)
    assert torch.allclose(blurred(flat, 9), flat)
    assert blurred(wild, 9).std() < 0.3 * wild.std()
