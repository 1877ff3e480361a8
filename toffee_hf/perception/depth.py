"""Depth from one picture, and the picture that shows it to a depth ControlNet. B batch, H, W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import encoder_pixels

LOOKS = ((0, 0, False), (0, 0, True), (1, 1, False), (-1, 1, True))    # half patches right and down; mirrored


@torch.no_grad()
def estimate_depth(model: Any, x_B3HW: Tensor) -> Tensor:
    """Relative inverse depth (B, 1, H, W), larger is nearer, of pictures in [-1, 1]; `model` is a Depth Anything."""
    return depth_of(model, x_B3HW)


def depth_of(model: Any, x_B3HW: Tensor) -> Tensor:
    """`estimate_depth` with gradients. Pictures are shown as squares of the size that the model learnt at, its
    `image_size`."""
    side = model.config.backbone_config.image_size
    pixels = encoder_pixels(_resized(x_B3HW.float(), (side, side))).to(model.dtype)
    found = model(pixel_values=pixels).predicted_depth.unsqueeze(1)
    return _resized(found.float(), x_B3HW.shape[2:])


def depth_looks(model: Any, x_B3HW: Tensor, looks: int) -> Tensor:
    """`estimate_depth` of the first of LOOKS at each picture, (B, looks, H, W): moved by half of a patch, which shows
    other edges, and mirrored."""
    size = model.config.backbone_config
    step = round(size.patch_size * x_B3HW.shape[-1] / size.image_size / 2)
    estimates = []
    for right, down, mirrored in LOOKS[:looks]:
        x = _moved(x_B3HW, right * step, down * step)
        found = estimate_depth(model, x.flip(-1)).flip(-1) if mirrored else estimate_depth(model, x)
        estimates.append(_moved(found, -right * step, -down * step))
    return torch.cat(estimates, 1)


def _moved(x_BCHW: Tensor, right_px: int, down_px: int) -> Tensor:
    """What lies so many pixels right and down; borders go on."""
    room = max(abs(right_px), abs(down_px))
    x, (height, width) = F.pad(x_BCHW, (room,) * 4, mode="replicate"), x_BCHW.shape[2:]
    return x[..., room + down_px:room + down_px + height, room + right_px:room + right_px + width]


def _resized(x_BCHW: Tensor, size: Sequence[int]) -> Tensor:
    if x_BCHW.shape[2:] == tuple(size):
        return x_BCHW
    return F.interpolate(x_BCHW, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def control_picture(depth_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """What the ControlNet is shown: depth scaled to [0.3, 1] within the subject's mask, 0 elsewhere; (B, 3, H, W)."""
    inside = mask_B1HW > 0.5
    near = torch.where(inside, depth_B1HW, -1.0).amax((2, 3), keepdim=True)
    far = torch.where(inside, depth_B1HW, 2.0).amin((2, 3), keepdim=True)
    scaled = 0.3 + 0.7 * (depth_B1HW - far) / (near - far).clamp_min(1e-3)
    return (scaled.clamp(0, 1) * mask_B1HW).expand(-1, 3, -1, -1)
