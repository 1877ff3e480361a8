"""Examples for the View Generator: one view of an object shown, another one wanted, in the same place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Model

from toffee_hf.pipelines.pipeline_toffee_view import (
    fitted,
    in_space,
    subject_patches,
    view_features,
    view_region,
)
from toffee_hf.toy.render import CAMERA
from toffee_hf.training.pool import Pool

TOLD = 0.9                            # share of examples whose turn is told
IN_SPACE = 0.9                        # of these, share whose surface is turned in space
AXIS_ERROR = (0.002, 0.022, 0.03)     # of axes that `ToffeeAxis` finds after 192,000 photos: x at z = 1, z, radians


@dataclass(frozen=True, slots=True)
class ViewExample:
    """clean, known, turned (B, C, h, w) latents; region, covered (B, 1, h, w); features (B, P, F); subject (B, P);
    turn (B,)."""

    clean: Tensor
    known: Tensor
    region: Tensor
    turned: Tensor
    covered: Tensor
    features: Tensor
    subject: Tensor
    turn: Tensor


@dataclass(frozen=True, slots=True)
class TwoViews:
    """Two views of each object in the same surroundings: photo, the shown one, (B, 3, H, W) in [-1, 1]; mask and
    wanted_mask, of the object in both (B, 1, H, W) in [0, 1]; turn from the shown to the wanted one in radians (B,),
    NaN where unknown; depth of the shown one (B, 1, H, W), or None; its axis (B, 3), see `outline_axis`, or None."""

    photo: Tensor
    mask: Tensor
    wanted_mask: Tensor
    turn: Tensor
    depth: Tensor | None = None
    axis: Tensor | None = None


@torch.no_grad()
def view_examples(pool: Pool, shown: Tensor, wanted: Tensor, autoencoder: Any, encoder: Dinov2Model,
                  generator: torch.Generator) -> ViewExample:
    """One example for each pair of pool rows (shown, wanted), without autocast."""
    turn, axis = pool.yaw[wanted] - pool.yaw[shown], None
    depth = pool.planes("estimated" if "estimated" in pool.arrays else "depth", shown)
    if "axes" in pool.arrays:
        axis = pool.rows("axes", shown)
        axis = axis + axis.new_tensor(AXIS_ERROR) * torch.randn(axis.shape, generator=generator)
    views = TwoViews(pool.pictures("photo", shown), pool.planes("mask", shown), pool.planes("mask", wanted), turn,
                     depth, axis)
    known, clean = (pool.rows("image_latents", index).float() for index in (shown, wanted))
    with torch.autocast(shown.device.type, enabled=False):
        return examples_of_views(views, known, clean, autoencoder.latents, encoder, generator)


@torch.no_grad()
def examples_of_views(views: TwoViews, known: Tensor, clean: Tensor, encode: Callable[[Tensor], Tensor], encoder: Any,
                      generator: torch.Generator) -> ViewExample:
    """One example for each pair of views. known, clean: latents of the shown and the wanted one; encode: to latents.

    TOLD of the known turns are told. Without depth nothing is turned in space.
    """
    mask, side = views.mask, known.shape[-1]
    block = mask.shape[-1] // side
    region = torch.maximum(view_region(mask, side), F.max_pool2d(views.wanted_mask, block).gt(0.02).float())
    turn = views.turn.clone()
    turn[torch.rand(len(turn), generator=generator) > TOLD] = torch.nan
    flat = torch.rand(len(turn), generator=generator) > IN_SPACE
    picture, covered = in_space(views.photo, mask, views.depth, turn.masked_fill(flat, torch.nan), views.axis,
                                **CAMERA)
    filled = F.avg_pool2d(covered, block)
    moved = known if views.depth is None else encode(picture.contiguous(memory_format=torch.channels_last))
    features = view_features(encoder, fitted(encoder, views.photo * mask, side))
    return ViewExample(clean, known, region, moved, filled, features,
                       subject_patches(mask, math.isqrt(features.shape[1])), turn)
