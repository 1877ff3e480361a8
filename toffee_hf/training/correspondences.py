"""The same surface in two pictures: one shape in two designs and poses, with the truth of which point is which.

Arrays of N pairs in a folder: `pictures` (N, 2, 3, 128, 128) uint8, `masks` (N, 2, 128, 128) uint8, `coords`
(N, 2, 3, 128, 128) float16, the object coordinates of the surface that each pixel shows.
B pictures, P patches, H, W pixels.
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import box_to_box, mask_box, warp
from toffee_hf.toy.world import Split, ToySubject, toy_shot, toy_subject

WIDEST_TURN = 0.7854                  # radians between the two pictures of a pair: 45°
TOLERANCE = 0.05                      # object units; the width of a match's target
VISIBLE = 0.1                         # object units within which a counterpart must lie to be one
TEMPERATURE = 0.07


@dataclass(frozen=True, slots=True)
class Pairs:
    """pictures (B, 2, 3, H, W) in [-1, 1], masks (B, 2, 1, H, W) in [0, 1], coords (B, 2, 3, H, W)."""

    pictures: Tensor
    masks: Tensor
    coords: Tensor


def pair(split: Split, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pair `index`: pictures (2, 3, H, W) and masks (2, H, W) in [0, 1], coordinates (2, 3, H, W)."""
    choice = random.Random(f"correspondences/{split}/{index}")
    subject = toy_subject(split, index)
    other = replace(subject, design=toy_subject(split, index + choice.randrange(100, 1000)).design)
    first = toy_shot(choice, style=_style(choice))
    turn = 0.0 if choice.random() < 0.3 else choice.uniform(-WIDEST_TURN, WIDEST_TURN)
    second = toy_shot(choice, style=_style(choice), yaw=first.camera.yaw + turn)
    shown = [_rendered(subject, first), _rendered(other, second)]
    return tuple(torch.stack(values) for values in zip(*shown, strict=True))  # type: ignore[return-value]


def _style(choice: random.Random) -> str | None:
    return "photo" if choice.random() < 0.6 else None


def _rendered(subject: ToySubject, shot: object) -> tuple[Tensor, Tensor, Tensor]:
    shown = subject.render([shot])  # type: ignore[list-item]
    return shown.image[0], shown.mask[0, 0], shown.coords[0]


def render_pairs(folder: Path, count: int, workers: int) -> None:
    """Render `count` pairs of training subjects into the arrays of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_stored, range(count), chunksize=16))
    for name, values in zip(("pictures", "masks", "coords"), zip(*found, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.stack(values))


def _stored(index: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Training pair `index` as it is kept; arrays, since tensors of another process hold a file open each."""
    pictures, masks, coords = pair("train", index)
    return (pictures * 255).round().byte().numpy(), (masks * 255).round().byte().numpy(), coords.half().numpy()


def open_pairs(folder: Path, index: Tensor) -> Pairs:
    """The pairs of `index` (B,)."""
    rows = index.sort().values.numpy()
    pictures, masks, coords = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="r")[rows]).float()
                               for name in ("pictures", "masks", "coords"))
    return Pairs(pictures / 127.5 - 1, masks.unsqueeze(2) / 255, coords)


def laid(x_B3HW: Tensor, mask_B1HW: Tensor, coords_B3HW: Tensor, output_B4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut-outs whose boxes fill the output boxes: (B, 3, H, W); coordinates (B, P, 3) and which patches show (B, P)."""
    lay = box_to_box(output_B4, mask_box(mask_B1HW))
    solid = (mask_B1HW > 0.5).float()
    cut = warp(x_B3HW * mask_B1HW, lay)
    shown, where = F.avg_pool2d(warp(solid, lay), 8), F.avg_pool2d(warp(coords_B3HW * solid, lay), 8)
    return cut, (where / shown.clamp_min(1e-6)).flatten(2).transpose(1, 2), shown.flatten(1) > 0.6


def frames(mask_B1HW: Tensor, generator: torch.Generator) -> Tensor:
    """Boxes (B, 4) for cut-outs, between the object's own box and nearly the whole frame."""
    own = mask_box(mask_B1HW)
    whole = own.new_tensor((-0.9, -0.9, 0.9, 0.9)) + 0.1 * torch.randn(own.shape, generator=generator)
    return own.lerp(whole, torch.rand(len(own), 1, generator=generator)).clamp(-1, 1)


def correspondence_loss(a_BPF: Tensor, b_BPF: Tensor, at_a_BP3: Tensor, at_b_BP3: Tensor, shown_a_BP: Tensor,
                        shown_b_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each shown patch of `a` finding its counterpart in `b`, and the share that is found.

    Features are L2-normalised. The target spreads over the patches near the true point; patches whose point is hidden
    in `b` do not count.
    """
    logits = (a_BPF @ b_BPF.transpose(1, 2) / TEMPERATURE).masked_fill(~shown_b_BP[:, None], -1e4)
    distance = torch.cdist(at_a_BP3, at_b_BP3).masked_fill(~shown_b_BP[:, None], 9.0)
    counts = shown_a_BP & (distance.amin(-1) < VISIBLE)
    target = (-(distance / TOLERANCE).square() / 2).softmax(-1)
    error = -(target * logits.log_softmax(-1)).sum(-1)
    hit = distance.gather(-1, logits.argmax(-1, keepdim=True)).squeeze(-1) < distance.amin(-1) + VISIBLE
    total = counts.sum().clamp_min(1)
    return (error * counts).sum() / total, (hit & counts).sum() / total
