"""Depth as the depth model sees it: stored for the photos that are turned, and what they are turned by."""

import numpy as np
import torch

from toffee_hf.perception.depth import estimate_depth
from toffee_hf.training import view_examples as module
from toffee_hf.training.pool import SHOTS, Pool, estimate_pool
from toffee_hf.training.view_examples import view_examples


def test_the_photos_of_the_first_two_shots_are_estimated(copied, family):
    estimate_pool(copied, family.depth, batch_size=4)
    found = Pool(copied.folder)
    assert found.arrays["estimated"].shape == (12, 128, 128) and found.arrays["estimated"].dtype == np.uint8
    seen = found.planes("estimated", torch.arange(12))
    first = torch.arange(12) % SHOTS < 2
    expected = estimate_depth(family.depth, found.pictures("photo", first.nonzero().flatten())).clamp(0, 1)
    assert (seen[first] - expected).abs().max() <= 1 / 255 + 1e-4
    assert seen[~first].max() == 0
    assert {p.name for p in copied.folder.iterdir() if p.is_file()} == {
        "image.npy", "photo.npy", "mask.npy", "depth.npy", "estimated.npy", "image_latents.npy", "subjects.txt"}


def test_surfaces_are_turned_by_the_estimate_or_by_the_truth(copied, family, monkeypatch):
    monkeypatch.setattr(module, "TOLD", 1.0)
    monkeypatch.setattr(module, "IN_SPACE", 1.0)

    def covered():
        shown, wanted = torch.tensor([0, 4, 8]), torch.tensor([1, 5, 9])
        return view_examples(copied, shown, wanted, family.vae, family.dino, torch.Generator().manual_seed(0)).covered

    true = covered()
    copied.arrays["estimated"] = np.full((12, 128, 128), 128, np.uint8)
    for guessed, differs in ((1.0, True), (-1.0, False)):
        monkeypatch.setattr(module, "GUESSED", guessed)
        assert ((covered() - true).abs().amax((1, 2, 3)) > 0.1).tolist() == [differs] * 3
