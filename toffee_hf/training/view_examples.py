"""Examples for the View Generator: one view of an object shown, another one wanted, in the same shown_latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Model

from toffee_hf.pipelines.pipeline_toffee_view import subject_patches, view_features, view_region
from toffee_hf.training.pool import Pool

TOLD = 0.75                           # share of examples whose turn is told


@dataclass(frozen=True, slots=True)
class ViewExample:
    """clean, shown_latents (B, C, h, w) latents; region (B, 1, h, w); features (B, P, F); subject (B, P); turn (B,)."""

    clean: Tensor
    shown_latents: Tensor
    region: Tensor
    features: Tensor
    subject: Tensor
    turn: Tensor


@torch.no_grad()
def view_examples(pool: Pool, shown: Tensor, wanted: Tensor, encoder: Dinov2Model, generator: torch.Generator
                  ) -> ViewExample:
    """One example for each pair of pool rows (shown, wanted)."""
    photo, mask = pool.pictures("photo", shown), pool.planes("mask", shown)
    clean = pool.rows("image_latents", wanted).float()
    region = torch.maximum(view_region(mask, 16), F.max_pool2d(pool.planes("mask", wanted), 8).gt(0.02).float())
    turn = torch.tensor([pool.shots[w].camera.yaw - pool.shots[s].camera.yaw
                         for s, w in zip(shown.tolist(), wanted.tolist(), strict=True)])
    turn[torch.rand(len(turn), generator=generator) > TOLD] = torch.nan
    around = pool.rows("image_latents", shown).float()
    return ViewExample(clean, around, region, view_features(encoder, photo * mask),
                       subject_patches(mask, 16), turn)
