"""Where the vertical axis of an object runs, for turning what is seen of it in space. Imports nothing else of Toffee.

An outline tells it roughly; a small convolutional network over picture, mask and depth corrects that.
Shape suffixes: B batch, C channels, H, W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

SIDE = 64                             # of what it sees
CORRECTIONS = (0.01, 0.05, 0.07)      # their units: x at z = 1, log z, radians
RELIEF = 20.0                         # by which depth is scaled, about its mean in the mask
MIRRORED = (-1.0, 1.0, 1.0)           # what a mirror does to an axis


class ToffeeAxis(ModelMixin, ConfigMixin):
    """Corrects the axes that outlines suggest; mirrored pictures have mirrored corrections."""

    @register_to_config
    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 64, 80)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.body = nn.Sequential(nn.Conv2d(8, a, 3, 2, 1), nn.GELU(), nn.Conv2d(a, b, 3, 2, 1), nn.GELU(),
                                  nn.Conv2d(b, c, 3, 2, 1), nn.GELU(), nn.Conv2d(c, d, 3, 1, 1), nn.GELU())
        last = nn.Linear(64, 3)
        self.head = nn.Sequential(nn.Linear(2 * d, 64), nn.GELU(), last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor, outline_B3: Tensor) -> Tensor:
        """Axes (B, 3): x of the ray at z = 1, z along the camera's own axis, radians from which the camera looks down.

        image: in [-1, 1]; mask: in [0, 1], the object; depth: in [0, 1], 1 nearest; outline: the axes that are
        corrected.
        """
        seen = axis_view(image_B3HW, mask_B1HW, depth_B1HW).to(self.dtype)
        both = (self._raw(seen) + self._raw(_mirrored(seen)) * seen.new_tensor(MIRRORED)) / 2
        across, distance, elevation = (both.to(outline_B3) * outline_B3.new_tensor(CORRECTIONS)).unbind(-1)
        x, z, e = outline_B3.unbind(-1)
        return torch.stack([x + across, z * distance.exp(), e + elevation], -1)

    def _raw(self, seen: Tensor) -> Tensor:
        found = self.body(seen)
        return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], -1))


def axis_view(image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor) -> Tensor:
    """What the network sees, (B, 8, SIDE, SIDE) in [-5, 5]: picture, mask, relief, mean depth, and places x, y.

    Pictures in [-1, 1], mask and depth in [0, 1].
    """
    inside = (mask_B1HW > 0.5).to(depth_B1HW)
    mean = (depth_B1HW * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
    relief = (RELIEF * (depth_B1HW - mean)).clamp(-2, 2) * inside
    seen = torch.cat([image_B3HW, 2 * mask_B1HW - 1, relief, (10 * (mean - 0.5)).expand_as(relief)], 1)
    line = (torch.arange(SIDE, device=seen.device, dtype=seen.dtype) + 0.5) / SIDE * 2 - 1
    place = torch.stack([line.expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE)]).expand(len(seen), -1, -1, -1)
    return torch.cat([F.adaptive_avg_pool2d(seen, SIDE), place], 1)


def _mirrored(seen_B8SS: Tensor) -> Tensor:
    flipped = seen_B8SS.flip(-1)
    return torch.cat([flipped[:, :6], -flipped[:, 6:7], flipped[:, 7:]], 1)
