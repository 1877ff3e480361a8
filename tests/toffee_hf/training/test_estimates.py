"""Depth as the depth model sees it, stored for the photos, and what these are turned by, about axes to learn."""

import numpy as np
import pytest
import torch

from toffee_hf.perception.depth import estimate_depth
from toffee_hf.training import view_examples as module
from toffee_hf.training.pool import Pool, estimate_pool
from toffee_hf.training.view_examples import view_examples


def test_all_photos_are_estimated(copied, family):
    estimate_pool(copied, family.depth, batch_size=5)
    found = Pool(copied.folder)
    assert found.arrays["estimated"].shape == (12, 128, 128) and found.arrays["estimated"].dtype == np.uint8
    everything = torch.arange(12)
    expected = estimate_depth(family.depth, found.pictures("photo", everything)).clamp(0, 1)
    assert (found.planes("estimated", everything) - expected).abs().max() <= 1 / 255 + 1e-4
    assert {p.name for p in copied.folder.iterdir() if p.is_file()} == {
        "image.npy", "photo.npy", "mask.npy", "depth.npy", "estimated.npy", "image_latents.npy", "subjects.txt"}


@pytest.fixture
def covered(copied, family, monkeypatch):
    """Where the surfaces of three photos are once turned, (3, 1, h, w)."""
    monkeypatch.setattr(module, "TOLD", 1.0)
    monkeypatch.setattr(module, "IN_SPACE", 1.0)

    def run(seed=0):
        shown, wanted = torch.tensor([0, 4, 8]), torch.tensor([1, 5, 9])
        return view_examples(copied, shown, wanted, family.vae, family.dino,
                             torch.Generator().manual_seed(seed)).covered

    return run


def differ(a, b):
    return ((a - b).abs().amax((1, 2, 3)) > 0.1).tolist()


def test_surfaces_are_turned_by_the_estimate_where_there_is_one(copied, covered):
    true = covered()
    copied.arrays["estimated"] = np.array(copied.arrays["depth"])
    assert differ(covered(), true) == [False] * 3
    copied.arrays["estimated"] = np.full((12, 128, 128), 128, np.uint8)
    assert differ(covered(), true) == [True] * 3


def test_about_the_axes_to_learn_with_the_error_of_those_that_are_found(copied, covered, monkeypatch):
    plain = covered()
    copied.arrays["axes"] = np.tile(np.float32([0.05, 3.0, 0.5]), (12, 1))
    first = covered()
    assert differ(first, plain) == [True] * 3
    assert torch.equal(covered(), first) and not torch.equal(covered(1), first), "the seed decides"
    monkeypatch.setattr(module, "AXIS_ERROR", (0.0, 0.0, 0.0))
    assert torch.equal(covered(), covered(1))
