"""Does a patch find its counterpart on the same shape in another design? Surface coordinates are the truth."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import mask_box, matched, parts
from toffee_hf.toy.world import Split
from toffee_hf.training.correspondences import VISIBLE, laid, pair

PLACE = 1.0                           # weight of the place in the Refiner's matching


def matched_within_a_patch(encoder: Any, split: Split, index: int) -> dict[str, float]:
    """Shares in [0, 1] of the first picture's patches that land within one patch of their counterpart.

    By `deep features` alone, and by `features and place` as the Refiner matches; the poses are within 45°. Patches
    whose counterpart is hidden do not count; NaN if there are none.
    """
    pictures, masks, coords = pair(split, index)
    x, mask = pictures * 2 - 1, masks.unsqueeze(1)
    box = mask_box(mask[:1]).expand(2, 4)
    cut, where, shown = laid(x, mask, coords, box)
    features = parts(encoder, cut)
    distance = torch.cdist(where[:1], where[1:])[0].masked_fill(~shown[1], math.inf)
    counts = shown[0] & (distance.amin(-1) < VISIBLE)
    side = round(where.shape[1] ** 0.5)
    found: dict[str, float] = {}
    for name, nearness in (("deep features", 0.0), ("features and place", PLACE)):
        weights, _ = matched(features[:1], features[1:], shown[1:], side, top_k=1, temperature=0.05, threshold=-1.0,
                             nearness=nearness)
        hit = _steps(weights[0].argmax(-1), distance.argmin(-1), side) <= 1
        found[name] = (hit & counts).sum().item() / int(counts.sum()) if counts.any() else math.nan
    return found


def _steps(a_P: Tensor, b_P: Tensor, side: int) -> Tensor:
    """Chebyshev distance of two places in a grid of patches."""
    return torch.maximum((a_P // side - b_P // side).abs(), (a_P % side - b_P % side).abs())
