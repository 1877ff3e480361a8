"""Depth from one picture, and the picture that shows it to a depth ControlNet. B batch, H, W pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import encoder_pixels


@torch.no_grad()
def estimate_depth(model: Any, x_B3HW: Tensor) -> Tensor:
    """Relative inverse depth (B, 1, H, W), larger is nearer, of pictures in [-1, 1]; `model` is a Depth Anything."""
    return model(pixel_values=encoder_pixels(x_B3HW)).predicted_depth.unsqueeze(1)


def control_picture(depth_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """What the ControlNet is shown: depth scaled to [0.3, 1] within the subject's mask, 0 elsewhere; (B, 3, H, W)."""
    inside = mask_B1HW > 0.5
    near = torch.where(inside, depth_B1HW, depth_B1HW.new_tensor(-1.0)).amax((2, 3), keepdim=True)
    far = torch.where(inside, depth_B1HW, depth_B1HW.new_tensor(2.0)).amin((2, 3), keepdim=True)
    scaled = 0.3 + 0.7 * (depth_B1HW - far) / (near - far).clamp_min(1e-3)
    return (scaled.clamp(0, 1) * mask_B1HW).expand(-1, 3, -1, -1)
