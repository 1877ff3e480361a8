"""How alike pictures are, and how well they fit words. B batch, D features, P patches, H, W pixels; all in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import appearance, box_to_box, encoder_pixels, mask_box, warp

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def cosine(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """(B,) in [-1, 1]; rounding cannot leave the range."""
    return F.cosine_similarity(a_BD.float(), b_BD.float(), dim=-1).clamp(-1, 1)


def clip_pixels(x_B3HW: Tensor) -> Tensor:
    """Pictures in [-1, 1] with CLIP's mean and deviation."""
    mean, std = (x_B3HW.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return ((x_B3HW + 1) / 2 - mean) / std


@torch.no_grad()
def clip_images(clip: Any, x_B3HW: Tensor) -> Tensor:
    """CLIP image embeddings (B, D)."""
    return clip.get_image_features(pixel_values=clip_pixels(x_B3HW)).pooler_output


@torch.no_grad()
def clip_texts(clip: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """CLIP text embeddings (B, D)."""
    text = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
                     return_tensors="pt").to(clip.device)
    return clip.get_text_features(**text).pooler_output


@torch.no_grad()
def dino_images(dino: Any, x_B3HW: Tensor) -> Tensor:
    """Class tokens of the last layer (B, D)."""
    return dino(encoder_pixels(x_B3HW)).last_hidden_state[:, 0]


@torch.no_grad()
def subject_similarity(dino: Any, a_B3HW: Tensor, a_mask_B1HW: Tensor, b_B3HW: Tensor, b_mask_B1HW: Tensor) -> Tensor:
    """Seg-DINO, (B,): pooled patch features of the two subjects, each cut out, laid onto one box, and compared."""
    a, b = (_pooled(dino, x, m) for x, m in ((a_B3HW, a_mask_B1HW), (b_B3HW, b_mask_B1HW)))
    return cosine(a, b)


def _pooled(dino: Any, x_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Mean patch features (B, D) of a cut-out subject that fills the frame, first layer beside the last."""
    frame = x_B3HW.new_tensor((-0.9, -0.9, 0.9, 0.9)).expand(len(x_B3HW), 4)
    lay = box_to_box(frame, mask_box(mask_B1HW))
    cut, seen = warp(x_B3HW * mask_B1HW, lay), warp(mask_B1HW, lay)
    out = dino(encoder_pixels(cut), output_hidden_states=True)
    side = int((out.last_hidden_state.shape[1] - 1) ** 0.5)
    weight = F.adaptive_avg_pool2d(seen, side).flatten(2).transpose(1, 2)
    layers = [F.normalize((h[:, 1:] * weight).sum(1) / weight.sum(1).clamp_min(1e-6), dim=-1)
              for h in (out.hidden_states[1], out.last_hidden_state)]
    return torch.cat(layers, -1)


@torch.no_grad()
def copy_score(dino: Any, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
    """How much one picture repeats the other place by place, (B,): mean cosine of centred shallow patch features."""
    a, b = (appearance(dino, x).flatten(2) for x in (a_B3HW, b_B3HW))
    a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
    return F.cosine_similarity(a, b, dim=1).mean(-1).clamp(-1, 1)


def ssim(a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
    """Mean structural similarity (B,) of pictures in [0, 1], uniform windows of 7 pixels.

    Source: Wang et al., 2004, Eq. 13, with C1 = 0.01² and C2 = 0.03².
    """
    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, 1)

    ma, mb = mean(a_B3HW), mean(b_B3HW)
    va, vb, cov = mean(a_B3HW**2) - ma**2, mean(b_B3HW**2) - mb**2, mean(a_B3HW * b_B3HW) - ma * mb
    found = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4)) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return found.mean((1, 2, 3)).clamp(-1, 1)
