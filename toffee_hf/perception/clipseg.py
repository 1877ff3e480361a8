"""Masks by CLIPSeg, for pictures of the real world: the text→mask model of full size. B batch, H, W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.perception.masks import cleaned
from toffee_hf.perception.similarity import clip_pixels

MIN_PROBABILITY = 0.4                 # of a pixel; CLIPSeg is unsure at outlines


@torch.no_grad()
def clipseg_masks(model: Any, tokenizer: Any, x_B3HW: Tensor, names: Sequence[str]) -> Tensor:
    """Binary masks (B, 1, H, W) of 0 and 1 of the named things in pictures in [-1, 1]; empty where there is none.

    model: `CLIPSegForImageSegmentation`; the pictures are shown to it at its own size.
    """
    side = model.config.vision_config.image_size
    small = F.interpolate(x_B3HW, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    text = tokenizer([f"a photo of a {name}" for name in names], padding="max_length", truncation=True,
                     return_tensors="pt").to(model.device)
    logits = model(**text, pixel_values=clip_pixels(small)).logits.reshape(len(names), 1, side, side)
    soft = F.interpolate(logits.float().sigmoid(), x_B3HW.shape[-2:], mode="bilinear", align_corners=False)
    return torch.stack([torch.from_numpy(cleaned(m[0].cpu().numpy() > MIN_PROBABILITY)) for m in soft]
                       ).unsqueeze(1).to(x_B3HW)
