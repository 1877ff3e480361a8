"""Figures with their intervals, fidelity inside a mask, and sheets of pictures. B batch, H, W pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7                            # pixels of SSIM's window


@dataclass(frozen=True, slots=True)
class Figure:
    """mean ± half (95 %, normal approximation) over n values."""

    mean: float
    half: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Figure:
        """values: (N,); what is NaN does not count, and of nothing the figure is NaN."""
        v = values.double()
        v = v[~v.isnan()]
        if len(v) < 2:
            return cls(round(v.mean().item(), 3), math.nan, len(v))
        return cls(round(v.mean().item(), 3), round(1.96 * v.std().item() / len(v) ** 0.5, 3), len(v))

    def __str__(self) -> str:
        digits = 3 if abs(self.mean) < 1.5 else 1
        if self.n < 2:
            return f"{self.mean:.{digits}f} (n = {self.n})"
        return f"{self.mean:.{digits}f} ± {self.half:.{digits}f}"


def psnr_inside(x_B3HW: Tensor, truth_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """PSNR in dB (B,) of pictures in [-1, 1], over the mask only; of an empty one that of identical pictures."""
    squared = ((x_B3HW - truth_B3HW) / 2).square() * mask_B1HW
    return -10 * torch.log10((squared.sum((1, 2, 3)) / (3 * mask_B1HW.sum((1, 2, 3)).clamp_min(1))).clamp_min(1e-8))


def ssim_inside(x_B3HW: Tensor, truth_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Structural similarity (B,) in [-1, 1] of pictures in [-1, 1], averaged over the mask.

    Windows of 7 × 7 pixels, each colour by itself. Source: Wang et al., 2004, Eq. 13.
    """
    x, y = (x_B3HW + 1) / 2, (truth_B3HW + 1) / 2

    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(z, (WINDOW // 2,) * 4, mode="reflect"), WINDOW, 1)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return (found * mask_B1HW).sum((1, 2, 3)) / (3 * mask_B1HW.sum((1, 2, 3))).clamp_min(1e-6)


def grid(rows: list[Tensor]) -> Any:
    """Rows of pictures (B, 3, H, W) in [-1, 1] as one PIL picture."""
    from PIL import Image

    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    return Image.fromarray(((sheet + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())
