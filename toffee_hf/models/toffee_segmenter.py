"""A small text-to-mask model: where in the picture is the thing that the text names? Imports nothing else of Toffee.

A convolutional U of three levels at 1/4, 1/8 and 1/16 of the picture, modulated at each level by the text embedding.
Shape suffixes: B batch, C channels, H, W pixels, T features of the text embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class _Modulated(nn.Module):
    """Residual block whose middle is scaled and shifted per channel by the text."""

    def __init__(self, width: int, text_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(text_dim, 2 * width)
        self.norm = nn.GroupNorm(8, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, text_BT: Tensor) -> Tensor:
        scale, shift = self.modulation(text_BT)[..., None, None].chunk(2, 1)
        hidden = self.norm(self.first(F.silu(x))) * (1 + scale) + shift
        return x + self.second(F.silu(hidden))


class ToffeeSegmenter(ModelMixin, ConfigMixin):
    """Pictures (B, 3, H, W) in [-1, 1] and text embeddings (B, T) to mask logits (B, 1, H, W).

    H and W must be multiples of 16. The logit is positive where the thing that the text names is seen; all negative
    where there is no such thing.
    """

    @register_to_config
    def __init__(self, text_dim: int = 128, widths: tuple[int, int, int] = (64, 112, 144)) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, a, 3, padding=1))
        self.down_a = _Modulated(a, text_dim)
        self.to_b = nn.Conv2d(a, b, 2, stride=2)
        self.down_b = _Modulated(b, text_dim)
        self.to_c = nn.Conv2d(b, c, 2, stride=2)
        self.deep = nn.ModuleList([_Modulated(c, text_dim) for _ in range(3)])
        self.from_c = nn.ConvTranspose2d(c, b, 2, stride=2)
        self.up_b = _Modulated(b, text_dim)
        self.from_b = nn.ConvTranspose2d(b, a, 2, stride=2)
        self.up_a = _Modulated(a, text_dim)
        self.head = nn.Sequential(nn.SiLU(), nn.Conv2d(a, 16, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, pixels_BCHW: Tensor, text_BT: Tensor) -> Tensor:
        """Mask logits (B, 1, H, W)."""
        text = F.normalize(text_BT, dim=-1) * text_BT.shape[-1] ** 0.5
        a = self.down_a(self.stem(pixels_BCHW), text)
        b = self.down_b(self.to_b(a), text)
        c = self.to_c(b)
        for block in self.deep:
            c = block(c, text)
        b = self.up_b(b + self.from_c(c), text)
        a = self.up_a(a + self.from_b(b), text)
        return self.head(a)

    @torch.no_grad()
    def probability(self, pixels_BCHW: Tensor, text_BT: Tensor) -> Tensor:
        """Soft masks (B, 1, H, W) in [0, 1]."""
        return self(pixels_BCHW, text_BT).sigmoid()
