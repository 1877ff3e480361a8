"""Self-supervised examples for the Refiner, made from single pictures with a mask.

The picture is the target. Its *draft* keeps layout, light and surroundings but has wrong details; its *reference* is an
altered copy (moved, relit, without the style) whose patch features say how the subject looks. What may be trusted of
the reference depends on the transfer: `full` everything, `pattern` its design without colour, `palette` its colours
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Model

from toffee_hf.pipelines.pipeline_toffee_refiner import (
    TRANSFERS,
    appearance,
    blurred,
    box_to_box,
    limited,
    mask_box,
    warp,
)
from toffee_hf.training.pool import Pool

PATTERN, PALETTE = TRANSFERS.index("pattern"), TRANSFERS.index("palette")
SHARES = (0.72, 0.14, 0.14)           # of the transfers, in their order


@dataclass(frozen=True, slots=True)
class RefinerExample:
    """clean, draft (B, C, h, w) latents; mask, known (B, 1, h, w) in [0, 1]; features (B, F, h, w)."""

    clean: Tensor
    draft: Tensor
    mask: Tensor
    features: Tensor
    known: Tensor


@torch.no_grad()
def refiner_examples(pool: Pool, index: Tensor, autoencoder: Any, encoder: Dinov2Model, generator: torch.Generator
                     ) -> RefinerExample:
    """One example for each row of the pool."""
    image, photo, mask = pool.pictures("image", index), pool.pictures("photo", index), pool.planes("mask", index)
    transfer = torch.multinomial(torch.tensor(SHARES), len(index), replacement=True, generator=generator)
    reference, seen = altered(photo, mask, generator)
    reference = limited(reference, seen, transfer)
    seen_grid = F.avg_pool2d(seen, 8)
    features = appearance(encoder, reference * seen)
    dropped = (torch.rand(seen_grid.shape, generator=generator)
               < 0.15 * torch.rand(len(index), 1, 1, 1, generator=generator))
    known = (seen_grid > 0.05).float() * (~dropped)
    worse = degraded(image, mask, transfer, generator).contiguous(memory_format=torch.channels_last)
    draft, clean = autoencoder.latents(worse), pool.rows("image_latents", index).float()
    return RefinerExample(clean, draft, F.avg_pool2d(mask, 8), features * known, known)


def altered(photo: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The subject on grey, moved and relit, then laid back by the boxes of the masks: (B, 3, H, W), (B, 1, H, W)."""
    u = torch.rand(6, len(photo), generator=generator) * 2 - 1
    still = torch.rand(len(photo), generator=generator) < 0.4
    angle, size = torch.where(still, 0.0, 0.3 * u[0]), torch.where(still, 1.0, torch.exp(0.12 * u[1]))
    shift = torch.where(still, 0.0, 0.1 * u[2:4])
    c, s = size * angle.cos(), size * angle.sin()
    moved = torch.stack([torch.stack([c, -s, shift[0]], -1), torch.stack([s, c, shift[1]], -1)], 1)
    cut, seen = warp(photo * mask, moved), warp(mask, moved)
    lay = box_to_box(mask_box(mask), mask_box(seen))
    return relit(warp(cut, lay), generator), warp(seen, lay)


def relit(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] under another light: tint, exposure and a gradient across the frame."""
    b, _, h, w = x.shape
    gain = torch.exp(0.25 * torch.randn(b, 1, 1, 1, generator=generator)
                     + 0.13 * torch.randn(b, 3, 1, 1, generator=generator))
    slope = 0.25 * torch.randn(b, 2, generator=generator)
    ramp = slope[:, :1, None] * torch.linspace(-1, 1, w) + slope[:, 1:, None] * torch.linspace(-1, 1, h)[:, None]
    return (((x + 1) / 2 * gain * torch.exp(ramp)[:, None]).clamp(0, 1) * 2 - 1)


def degraded(image: Tensor, mask: Tensor, transfer: Tensor, generator: torch.Generator) -> Tensor:
    """The picture with a wrong surface inside the mask, in [-1, 1]; light, silhouette and surroundings stay."""
    b, _, h, w = image.shape
    weight = blurred(mask, 9).clamp_min(1e-3)
    smooth = blurred(image * mask, 9) / weight
    light = ((smooth.mean(1, keepdim=True) + 1) / 2).clamp(0.05, 1)
    cells = int(torch.randint(2, 9, (1,), generator=generator))
    paint = torch.rand(b, 3, cells, cells, generator=generator)
    paint = F.interpolate(paint, (h, w), mode="bilinear", align_corners=False)
    hard = (torch.rand(b, 1, 1, 1, generator=generator) < 0.5).float()
    paint = hard * (0.15 + 0.75 * (paint > 0.5).float()) + (1 - hard) * paint
    wrong = (paint * (0.35 + light) * 2 - 1).clamp(-1, 1)
    mix = torch.eye(3) + 0.6 * torch.randn(b, 3, 3, generator=generator)
    hued = torch.einsum("bij,bjhw->bihw", mix, image).clamp(-1, 1)
    other, others_mask = image.roll(1, 0), mask.roll(1, 0)      # the next picture's subject, laid onto this one's box
    lay = box_to_box(mask_box(mask), mask_box(others_mask))
    covered = warp(others_mask, lay)
    swapped = warp(other * others_mask, lay) + (1 - covered) * smooth
    choice = torch.rand(b, 1, 1, 1, generator=generator)
    full = torch.where(choice < 0.3, wrong, torch.where(choice < 0.5, hued, torch.where(choice < 0.6, smooth, swapped)))
    kind = transfer[:, None, None, None]
    inside = torch.where(kind == PATTERN, smooth, torch.where(kind == PALETTE, hued, full))
    return image * (1 - mask) + inside * mask
