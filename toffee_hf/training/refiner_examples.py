"""Self-supervised examples for the Refiner, made from single pictures with a mask.

The picture is the target. Its *draft* keeps layout, light and surroundings but has wrong details, or, better, is what
the text-to-image model made of the picture's own caption and depth; its *reference* is an altered copy (moved, relit,
without the style) whose patch features say how the subject looks. What may be trusted of the reference depends on the
transfer: `full` everything, `pattern` its design without colour, `palette` its colours only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    fitted,
    limited,
    mask_box,
    warp,
)
from toffee_hf.pipelines.pipeline_toffee_view import outline_axis, turned, turned_depth
from toffee_hf.toy.render import CAMERA
from toffee_hf.training.pool import Pool

PATTERN, PALETTE = TRANSFERS.index("pattern"), TRANSFERS.index("palette")
SHARES = (0.72, 0.14, 0.14)           # of the transfers, in their order
MOVED, TURNED, RETURNED = 0.15, 0.2, 0.25          # shares of references that are moved, turned, or turned and back
WIDEST_TURN, WIDEST_RETURN = 0.4, 0.5              # radians about the vertical
AXIS_OFF, TURN_OFF = (0.004, 0.03, 0.04), 0.05     # by which the way back misses: x at z = 1, z, elevation; radians


@dataclass(frozen=True, slots=True)
class RefinerExample:
    """clean, draft, reference (B, C, h, w) latents; mask, known (B, 1, h, w) in [0, 1]; features (B, F, h, w)."""

    clean: Tensor
    draft: Tensor
    mask: Tensor
    features: Tensor
    reference: Tensor
    known: Tensor

    @property
    def grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the denoiser is told of the reference."""
        return self.features, self.reference, self.known


@dataclass(frozen=True, slots=True)
class Shown:
    """Single pictures: image and photo, the same before its style, (B, 3, H, W) in [-1, 1]; mask (B, 1, H, W) in
    [0, 1]; depth (B, 1, H, W) of the toy world's camera, or None where nobody knows."""

    image: Tensor
    photo: Tensor
    mask: Tensor
    depth: Tensor | None = None


@torch.no_grad()
def refiner_examples(pool: Pool, index: Tensor, autoencoder: Any, encoder: Dinov2Model, generator: torch.Generator
                     ) -> RefinerExample:
    """One example for each row of the pool, without autocast."""
    shown = Shown(pool.pictures("image", index), pool.pictures("photo", index), pool.planes("mask", index),
                  pool.planes("depth", index))
    with torch.autocast(index.device.type, enabled=False):
        example, transfer = examples_of(shown, pool.rows("image_latents", index).float(), autoencoder.latents, encoder,
                                        generator)
    own, has = pool.drafts(index)
    return replace(example, draft=torch.where((has & (transfer == 0))[:, None, None, None], own, example.draft))


@torch.no_grad()
def examples_of(shown: Shown, clean: Tensor, encode: Callable[[Tensor], Tensor], encoder: Any,
                generator: torch.Generator) -> tuple[RefinerExample, Tensor]:
    """One example for each picture, and its transfer (B,). clean: latents of `shown.image`; encode: to latents.

    Where an encoder's patch covers several latent cells, all of them get its features.
    """
    mask, side = shown.mask, clean.shape[-1]
    transfer = torch.multinomial(torch.tensor(SHARES), len(mask), replacement=True, generator=generator)
    reference, seen = altered(shown.photo, mask, shown.depth, generator)
    reference = limited(reference, seen, transfer) * seen
    features = appearance(encoder, fitted(encoder, reference, side))
    block = side // features.shape[-1]
    seen_grid = F.avg_pool2d(seen, block * (mask.shape[-1] // side))
    dropped = (torch.rand(seen_grid.shape, generator=generator)
               < 0.15 * torch.rand(len(mask), 1, 1, 1, generator=generator))
    known = (seen_grid > 0.05).float() * (~dropped)
    if block > 1:
        features, known = (F.interpolate(grid, scale_factor=block, mode="nearest") for grid in (features, known))
    worse = degraded(shown.image, mask, transfer, generator)
    both = torch.cat([worse, worse * (1 - seen) + reference]).contiguous(memory_format=torch.channels_last)
    draft, pasted = encode(both).chunk(2)
    inside = F.avg_pool2d(mask, mask.shape[-1] // side)
    return RefinerExample(clean, draft, inside, features * known, pasted * known, known), transfer


def altered(photo: Tensor, mask: Tensor, depth: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The subject on grey, relit and moved, then laid back by the boxes of the masks: (B, 3, H, W), (B, 1, H, W).

    Some of those that move are also turned in space by their depth, which hides a part of them; some are turned there
    and nearly back and lie as they fall, like a reference that was turned to a draft's pose. Without depth none is
    turned or shaded, and half of them move. The light changes as much as it does between scenes: about 19 dB in the
    median (measured on true renders: 19.1 dB).
    """
    if depth is not None:
        photo = shaded(photo, mask, depth, generator)
    own = mask_box(mask)
    u = torch.rand(6, len(photo), generator=generator) * 2 - 1
    kind = torch.rand(len(photo), generator=generator)
    still, returned = kind < 0.5, torch.zeros_like(kind, dtype=torch.bool)
    if depth is not None:
        returned, turns = kind < RETURNED, kind < RETURNED + TURNED
        still = returned | (kind > RETURNED + TURNED + MOVED)
        turn = torch.where(turns, torch.where(returned, WIDEST_RETURN, WIDEST_TURN) * u[5], torch.nan)
        photo, mask = _seen_turned(photo, mask, depth, turn, returned, generator)
    angle, size = torch.where(still, 0.0, 0.15 * u[0]), torch.where(still, 1.0, torch.exp(0.12 * u[1]))
    shift = torch.where(still, 0.0, 0.1 * u[2:4])
    c, s = size * angle.cos(), size * angle.sin()
    moved = torch.stack([torch.stack([c, -s, shift[0]], -1), torch.stack([s, c, shift[1]], -1)], 1)
    cut, seen = warp(photo * mask, moved), warp(mask, moved)
    lay = box_to_box(torch.where(returned[:, None], mask_box(seen), own), mask_box(seen))
    return relit(warp(cut, lay), generator), warp(seen, lay)


def _seen_turned(photo: Tensor, mask: Tensor, depth: Tensor, turn: Tensor, returned: Tensor,
                 generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The surface that is still seen once the subject turns by (B,) radians, and where `returned` by nearly as much
    back; as it is where the turn is NaN."""
    axis = outline_axis(mask, depth, **CAMERA)
    surface, covered = turned(photo, mask, depth, turn, axis, **CAMERA)
    there, _ = turned_depth(mask, depth, turn, axis, **CAMERA)
    missed, wrong = (torch.randn(len(turn), n, generator=generator) for n in (1, 3))
    way_back = torch.where(returned, TURN_OFF * missed[:, 0] - turn, torch.nan)
    again, still_covered = turned(surface, covered, there, way_back, axis + axis.new_tensor(AXIS_OFF) * wrong, **CAMERA)
    as_is, back = turn.isnan()[:, None, None, None], returned[:, None, None, None]
    surface, covered = torch.where(back, again, surface), torch.where(back, still_covered, covered)
    return torch.where(as_is, photo, surface), torch.where(as_is, mask, covered)


def relit(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] under another light: tint, exposure and a gradient across the frame."""
    b, _, h, w = x.shape
    gain = torch.exp(0.16 * torch.randn(b, 1, 1, 1, generator=generator)
                     + 0.1 * torch.randn(b, 3, 1, 1, generator=generator))
    slope = 0.13 * torch.randn(b, 2, generator=generator)
    across, down = (torch.linspace(-1, 1, n, device=x.device) for n in (w, h))
    ramp = slope[:, :1, None] * across + slope[:, 1:, None] * down[:, None]
    return (((x + 1) / 2 * gain * torch.exp(ramp)[:, None]).clamp(0, 1) * 2 - 1)


def shaded(x: Tensor, mask: Tensor, depth: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] with a light added from a random side, by the normals of the (inverse) depth."""
    near = blurred(depth * mask, 6) / blurred(mask, 6).clamp_min(1e-3)
    slope = 1.25 * depth.shape[-1] * F.pad(near, (1, 1, 1, 1), mode="replicate")
    right, down = slope[..., 1:-1, 2:] - slope[..., 1:-1, :-2], slope[..., 2:, 1:-1] - slope[..., :-2, 1:-1]
    normal = F.normalize(torch.cat([-right, -down, torch.ones_like(right)], 1), dim=1)
    light = 0.32 * torch.randn(len(x), 3, 1, 1, generator=generator)
    gain = torch.exp((normal * light).sum(1, keepdim=True) - light[:, 2:].mul(0.7))
    return (((x + 1) / 2 * gain).clamp(0, 1) * 2 - 1)


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
