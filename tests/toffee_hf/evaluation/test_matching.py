"""Matching of patches: a perfect encoder finds nearly all, one that sees nothing finds few, and both are told apart."""

import math
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from toffee_hf.evaluation import matching
from toffee_hf.evaluation.matching import _steps, matched_within_a_patch
from toffee_hf.pipelines.pipeline_toffee_refiner import mask_box
from toffee_hf.training.correspondences import WIDEST_TURN, laid
from toffee_hf.training.correspondences import pair as rendered_pair

pair = cache(rendered_pair)             # the same few pairs in every test
KINDS = {"deep features", "features and place"}


@pytest.fixture(autouse=True)
def rendered_once(monkeypatch):
    monkeypatch.setattr(matching, "pair", pair)


class Encoder:
    """Gives features (2, P, F) that it was made with, behind a class token."""

    def __init__(self, features):
        self.tokens = torch.cat([torch.zeros_like(features[:, :1]), features], 1)

    def __call__(self, pixels):
        return SimpleNamespace(last_hidden_state=self.tokens)


def true_coordinates(index):
    """Object coordinates of the patches of pair `index`, (2, P, 3)."""
    pictures, masks, coords = pair("held-out", index)
    mask = masks.unsqueeze(1)
    return laid(pictures * 2 - 1, mask, coords, mask_box(mask[:1]).expand(2, 4))[1]


def waves(where):
    """Features whose cosine falls with the distance of two points."""
    rates = torch.randn(3, 512, generator=torch.Generator().manual_seed(0)) * 8
    return torch.cat([(where @ rates).sin(), (where @ rates).cos()], -1)


@pytest.mark.parametrize("index", [0, 5])
def test_an_encoder_that_knows_the_surface_finds_every_patch(index):
    found = matched_within_a_patch(Encoder(waves(true_coordinates(index))), "held-out", index)
    assert found.keys() == KINDS
    assert found["deep features"] > 0.97


def test_an_encoder_that_sees_nothing_finds_few():
    found = [matched_within_a_patch(Encoder(torch.ones(2, 256, 8)), "held-out", i)["deep features"] for i in (0, 5)]
    assert max(found) < 0.2


def test_an_encoder_that_knows_another_surface_finds_few():
    right = waves(true_coordinates(0))
    half = torch.cat([right[:1], right[1:].roll(40, 1)])
    assert matched_within_a_patch(Encoder(half), "held-out", 0)["deep features"] < 0.3


def test_without_features_the_place_decides(monkeypatch):
    """In one pose and frame a patch's counterpart is at its own place, as long as place has a weight."""
    pictures, masks, coords = (torch.stack([both[0]] * 2) for both in pair("held-out", 0))
    monkeypatch.setattr(matching, "pair", lambda split, index: (pictures, masks, coords))
    found = matched_within_a_patch(Encoder(torch.ones(2, 256, 8)), "held-out", 0)
    assert found["features and place"] == 1 and found["deep features"] < 0.2


def test_patches_without_a_counterpart_do_not_count(monkeypatch):
    pictures, masks, coords = pair("held-out", 0)
    coords = torch.stack([coords[0], coords[1] + 9])
    monkeypatch.setattr(matching, "pair", lambda split, index: (pictures, masks, coords))
    found = matched_within_a_patch(Encoder(torch.ones(2, 256, 8)), "held-out", 0)
    assert all(math.isnan(value) for value in found.values())


def test_a_step_is_along_a_row_a_column_or_both():
    a = torch.tensor([0, 0, 0, 5, 15])
    b = torch.tensor([1, 4, 5, 10, 0])
    assert _steps(a, b, 4).tolist() == [1, 1, 1, 1, 3]
    assert _steps(torch.tensor([3]), torch.tensor([4]), 4).tolist() == [3], "neighbours in memory only"


def test_the_poses_of_a_pair_are_near_and_its_designs_differ():
    """The truth that the figure rests on: points seen in both pictures, of a subject in two designs."""
    for index in (0, 5):
        pictures, masks, coords = pair("held-out", index)
        inside = [points[:, mask > 0.9].T for points, mask in zip(coords, masks, strict=True)]
        near = torch.cdist(inside[0][::7], inside[1]).amin(-1) < 0.05
        assert near.float().mean() > 0.5, "a turn within 45° keeps most of the surface in sight"
        colours = [picture[:, mask > 0.9].mean(-1) for picture, mask in zip(pictures, masks, strict=True)]
        assert (colours[0] - colours[1]).abs().max() > 0.02
    assert math.degrees(WIDEST_TURN) == pytest.approx(45, abs=0.01)
