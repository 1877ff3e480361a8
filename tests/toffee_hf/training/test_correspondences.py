"""Pairs with the truth of which point is which: the same for ever, empty off the subject; and a loss that knows it."""

import math

import numpy as np
import pytest
import torch

from tests.toffee_hf.training.in_process import InProcess
from toffee_hf.pipelines.pipeline_toffee_refiner import mask_box
from toffee_hf.toy.render import Camera, Shot
from toffee_hf.toy.scenes import SCENES
from toffee_hf.training import correspondences as module
from toffee_hf.training.correspondences import (
    WIDEST_TURN,
    correspondence_loss,
    frames,
    laid,
    open_pairs,
    pair,
    render_pairs,
)


@pytest.fixture(scope="module")
def first():
    return pair("train", 0)


@pytest.fixture
def shown(monkeypatch):
    """(subject, shot) of every picture asked for, in place of rendering it."""
    asked = []

    def rendered(subject, shot):
        asked.append((subject, shot))
        return torch.zeros(3, 2, 2), torch.zeros(2, 2), torch.zeros(3, 2, 2)

    monkeypatch.setattr(module, "_rendered", rendered)
    return asked


def test_a_pair_is_the_same_for_ever(first):
    assert all(torch.equal(a, b) for a, b in zip(first, pair("train", 0), strict=True))


def test_shapes_and_ranges(first):
    pictures, masks, coords = first
    assert pictures.shape == coords.shape == (2, 3, 128, 128) and masks.shape == (2, 128, 128)
    for values in (pictures, masks):
        assert values.min() >= 0 and values.max() <= 1
    assert (masks > 0.5).float().mean((1, 2)).min() > 0.02, "both show the subject"


def test_coordinates_are_zero_off_the_subject_and_on_it_are_points_of_it(first):
    _, masks, coords = first
    for mask, where in zip(masks, coords, strict=True):
        assert where[:, mask == 0].abs().max() == 0
        inside = where[:, mask > 0.99]
        assert (inside.abs().sum(0) > 0).all() and inside.abs().max() < 1.5
        assert inside[1].max() - inside[1].min() > 0.3, "upwards it has some height"


def test_the_same_pose_gives_identical_coordinates_under_another_design(monkeypatch):
    scene = next(iter(SCENES))
    monkeypatch.setattr(module, "toy_shot", lambda choice, style=None, yaw=None: Shot(Camera(yaw=0.3), scene, 7))
    pictures, masks, coords = pair("train", 3)
    assert torch.equal(coords[0], coords[1]) and torch.equal(masks[0], masks[1])
    assert (pictures[0] - pictures[1]).abs().mean((0,))[masks[0] > 0.5].mean() > 0.03, "the designs differ"


def test_pairs_are_one_shape_in_two_designs_within_the_widest_turn(shown):
    for i in range(60):
        pair("train", i)
    pairs = list(zip(shown[::2], shown[1::2], strict=True))
    turns = [b.camera.yaw - a.camera.yaw for (_, a), (_, b) in pairs]
    assert max(map(abs, turns)) <= WIDEST_TURN + 1e-6 and max(map(abs, turns)) > 0.6
    assert 0.1 < sum(turn == 0 for turn in turns) / 60 < 0.5
    assert min(sum(turn > 0 for turn in turns), sum(turn < 0 for turn in turns)) > 10, "either way"
    for (one, a), (other, b) in pairs:
        assert (one.class_name, one.params) == (other.class_name, other.params)
        assert one.split == other.split == "train" and a.scene_seed != b.scene_seed
    assert sum(one.design == other.design for (one, _), (other, _) in pairs) == 0


def test_splits_and_numbers_differ(shown):
    for split, index in (("train", 0), ("train", 1), ("held-out", 0)):
        pair(split, index)
    assert len({(shot.scene_seed, subject.split) for subject, shot in shown}) == 6


def test_rendered_pairs_are_read_back(tmp_path, monkeypatch, first):
    monkeypatch.setattr(module, "ProcessPoolExecutor", InProcess)
    made = [first, tuple(x.flip(0) for x in first), tuple(x.flip(-1) for x in first)]
    monkeypatch.setattr(module, "pair", lambda split, i: made[i])
    render_pairs(tmp_path / "pairs", 3, 1)
    assert np.load(tmp_path / "pairs" / "coords.npy", mmap_mode="r").dtype == np.float16
    found = open_pairs(tmp_path / "pairs", torch.tensor([0, 2]))
    assert found.pictures.shape == found.coords.shape == (2, 2, 3, 128, 128)
    assert found.masks.shape == (2, 2, 1, 128, 128)
    for k, i in enumerate((0, 2)):
        pictures, masks, coords = made[i]
        assert ((found.pictures[k] + 1) / 2 - pictures).abs().max() <= 0.5 / 255 + 1e-6
        assert (found.masks[k, :, 0] - masks).abs().max() <= 0.5 / 255 + 1e-6
        assert (found.coords[k] - coords).abs().max() < 1e-3


def a_square():
    """A picture (1, 3, 64, 64), the mask of a square of 32 pixels in it, and its pixels' columns and rows as points."""
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    return torch.rand(1, 3, 64, 64) * 2 - 1, mask, torch.stack([column, row, torch.ones(64, 64)])[None] * mask


def test_laid_into_its_own_box_nothing_moves():
    x, mask, coords = a_square()
    cut, where, shown = laid(x, mask, coords, mask_box(mask))
    assert (cut - x * mask).abs().max() < 1e-4
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert torch.equal(shown[0], inside.flatten())
    centres = torch.arange(8) * 8 + 3.5
    assert (where.unflatten(1, (8, 8))[0, 2:6, 2:6, 0] - centres[2:6]).abs().max() < 1e-2
    assert (where.unflatten(1, (8, 8))[0, 2:6, 2:6, 1] - centres[2:6, None]).abs().max() < 1e-2


def test_laid_into_another_box_points_move_along():
    x, mask, coords = a_square()
    cut, where, shown = laid(x, mask, coords, torch.tensor([[-1.0, -1.0, 1.0, 0.0]]))       # the upper half
    assert cut[:, :, 33:].abs().max() == 0
    assert torch.equal(shown.unflatten(1, (8, 8)), torch.arange(8)[None, :, None].expand(1, 8, 8) < 4)
    grid = where.unflatten(1, (8, 8))[0]
    assert (grid[1:3, 1:7, 0] - (15.5 + 4 * torch.arange(8) + 2)[1:7]).abs().max() < 0.1
    assert (grid[1:3, 1:7, 1] - (15.5 + 8 * torch.arange(4) + 4)[1:3, None]).abs().max() < 0.1


def test_frames_are_boxes_inside_the_picture():
    mask = torch.zeros(300, 1, 64, 64)
    mask[:, :, 20:40, 2:30] = 1
    found = frames(mask, torch.Generator().manual_seed(0))
    assert found.shape == (300, 4) and found.abs().max() <= 1
    width, height = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    own = mask_box(mask[:1])[0]
    assert width.min() > own[2] - own[0] - 0.3 and height.min() > own[3] - own[1] - 0.3
    assert height.max() > 1.7 and height.min() < 0.8, "from its own box to nearly the whole frame"
    assert torch.equal(found, frames(mask, torch.Generator().manual_seed(0)))
    assert not torch.equal(found, frames(mask, torch.Generator().manual_seed(1)))


PATCHES = 64


def points(count=2):
    """(B, P, 3): a grid in which every point is alone."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.stack([x, y, 0 * x], -1).flatten(0, 1).mul(0.3).expand(count, -1, -1)


def features(seed, dim=PATCHES):
    found = torch.randn(2, PATCHES, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(found, dim=-1)


ALL = torch.ones(2, PATCHES, dtype=torch.bool)
PERFECT = torch.eye(PATCHES).expand(2, -1, -1)


def test_perfect_features_lose_nothing_and_find_everything():
    order = torch.randperm(PATCHES, generator=torch.Generator().manual_seed(0))
    loss, found = correspondence_loss(PERFECT, PERFECT[:, order], points(), points()[:, order], ALL, ALL)
    assert loss < 1e-3 and found == 1


def test_random_features_are_near_chance():
    loss, found = correspondence_loss(features(0, 512), features(1, 512), points(), points(), ALL, ALL)
    assert abs(loss - math.log(PATCHES)) < 0.6 and found < 0.1
    flat, _ = correspondence_loss(torch.ones(2, PATCHES, 1), torch.ones(2, PATCHES, 1), points(), points(), ALL, ALL)
    assert flat == pytest.approx(math.log(PATCHES), abs=1e-3)
    shifted, found = correspondence_loss(PERFECT, PERFECT.roll(1, 1), points(), points(), ALL, ALL)
    assert shifted > 10 and found == 0, "to be sure of the wrong patch is worst"


def test_hidden_patches_do_not_count():
    half = ALL.clone()
    half[:, PATCHES // 2 :] = False
    spoilt = torch.where(half[..., None], PERFECT, PERFECT.roll(1, 1))
    loss, found = correspondence_loss(spoilt, PERFECT, points(), points(), half, ALL)
    assert loss < 1e-3 and found == 1, "what is not shown here is not asked for"
    loss, found = correspondence_loss(spoilt, PERFECT, points(), points(), ALL, half)
    assert loss < 1e-3 and found == 1, "and what has no counterpart there neither"
    loss, found = correspondence_loss(spoilt, PERFECT, points(), points(), ALL, ALL)
    assert loss > 5 and found == pytest.approx(0.5)


def test_a_hidden_patch_there_is_never_taken():
    half = ALL.clone()
    half[:, PATCHES // 2 :] = False
    there = torch.cat([PERFECT[:, : PATCHES // 2], PERFECT[:, : PATCHES // 2]], 1)     # the hidden ones look alike
    loss, found = correspondence_loss(PERFECT, there, points(), points(), half, half)
    assert loss < 1e-3 and found == 1


def test_with_nothing_to_find_the_loss_is_nothing():
    hidden = torch.zeros_like(ALL)
    for here, there in ((hidden, ALL), (ALL, hidden), (hidden, hidden)):
        loss, found = correspondence_loss(features(0), features(1), points(), points(), here, there)
        assert loss == 0 and found == 0
    loss, _ = correspondence_loss(features(0), features(1), points(), points() + 5, ALL, ALL)
    assert loss == 0, "no counterpart lies near"


def test_near_points_share_the_target():
    """Two patches there show nearly the same point: to look like either is right, to be torn between both is best."""
    twins = points().clone()
    twins[:, 1] = twins[:, 0] + torch.tensor([0.01, 0.0, 0.0])
    only = torch.zeros_like(ALL)
    only[:, 0] = True
    mean = torch.nn.functional.normalize(PERFECT[:, :1] + PERFECT[:, 1:2], dim=-1)
    sides = [correspondence_loss(a.expand(-1, PATCHES, -1), PERFECT, points(), twins, only, ALL)
             for a in (PERFECT[:, :1], PERFECT[:, 1:2], mean, PERFECT[:, 5:6])]
    assert [round(found.item()) for _, found in sides] == [1, 1, 1, 0]
    assert sides[2][0] < min(sides[0][0], sides[1][0]) < max(sides[0][0], sides[1][0]) < sides[3][0]


def test_the_loss_can_be_learned():
    a = features(0, 16).requires_grad_(True)
    loss, _ = correspondence_loss(a, features(1, 16), points(), points(), ALL, ALL)
    loss.backward()
    assert torch.isfinite(a.grad).all() and a.grad.abs().max() > 0
