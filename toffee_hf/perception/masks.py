"""Masks of the thing that a word names, cleaned of crumbs. B batch, T features of a text embedding, H, W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

CRUMB = 0.15                          # components under this part of the largest one are dropped


@torch.no_grad()
def name_embeddings(clip: Any, tokenizer: Any, names: Sequence[str]) -> Tensor:
    """CLIP text embeddings (B, T) of «a photo of a …»."""
    text = tokenizer([f"a photo of a {name}" for name in names], padding="max_length", truncation=True,
                     max_length=tokenizer.model_max_length, return_tensors="pt").to(clip.device)
    return clip.get_text_features(**text).pooler_output


def subject_masks(segmenter: Any, clip: Any, tokenizer: Any, x_B3HW: Tensor, names: Sequence[str]) -> Tensor:
    """Binary masks (B, 1, H, W) of 0 and 1 of the named things in pictures in [-1, 1]; empty where there is none."""
    soft = segmenter.probability(x_B3HW, name_embeddings(clip, tokenizer, names))
    return torch.stack([torch.from_numpy(cleaned(m[0].cpu().numpy() > 0.5)) for m in soft]).unsqueeze(1).to(x_B3HW)


def cleaned(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask (H, W) with holes filled and only its large components kept."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    large = 1 + np.flatnonzero(sizes >= CRUMB * sizes.max())
    filled: np.ndarray[Any, np.dtype[np.bool_]] = _small_holes_filled(np.isin(labels, large))
    return filled


def _small_holes_filled(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Holes of less than a hundredth of the mask are noise; larger ones (inside a handle) are real."""
    from scipy import ndimage

    holes, _ = ndimage.label(~mask)
    sizes = np.bincount(holes.ravel())
    small = np.flatnonzero(sizes < 0.01 * mask.sum())
    return mask | np.isin(holes, small)


def components(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
    """How many pieces a mask (H, W) has."""
    from scipy import ndimage

    return int(ndimage.label(mask)[1])


def border_touch(mask_B1HW: Tensor) -> Tensor:
    """Part of the picture's border that each mask covers, (B,) in [0, 1]."""
    m = mask_B1HW[:, 0]
    edge = torch.cat([m[:, 0], m[:, -1], m[:, :, 0], m[:, :, -1]], -1)
    return edge.mean(-1)
