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


def subject_patches(dino: Any, x_B3HW: Tensor, mask_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Patch features of a subject cut out and laid onto one box, and which patches show it.

    Features (2, B, P, D): of the first layer (how it looks) and of the last (which part it is); shown (B, P).
    """
    frame = x_B3HW.new_tensor((-0.9, -0.9, 0.9, 0.9)).expand(len(x_B3HW), 4)
    lay = box_to_box(frame, mask_box(mask_B1HW))
    cut, seen = warp(x_B3HW * mask_B1HW, lay), warp(mask_B1HW, lay)
    with torch.no_grad():
        out = dino(encoder_pixels(cut), output_hidden_states=True)
    features = torch.stack([out.hidden_states[1][:, 1:], out.last_hidden_state[:, 1:]])
    side = int(features.shape[2] ** 0.5)
    return features, F.adaptive_avg_pool2d(seen, side).flatten(1) > 0.5


def subject_similarity(dino: Any, means_2D: Tensor, a_B3HW: Tensor, a_mask_B1HW: Tensor, b_B3HW: Tensor,
                       b_mask_B1HW: Tensor) -> Tensor:
    """Seg-DINO, (B,): how well each patch of one subject is found in the other, both ways, over both layers.

    means: features of an average subject (see ToffeeDomain), taken off first, for raw cosines of any two subjects are
    near 1. Patches are matched freely, so that a turned subject is still the same. 0 where a mask is empty.
    """
    return patch_similarity(means_2D, subject_patches(dino, a_B3HW, a_mask_B1HW),
                            subject_patches(dino, b_B3HW, b_mask_B1HW))


def patch_similarity(means_2D: Tensor, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Seg-DINO, (B,), of what `subject_patches` found in pictures; one subject may stand against B."""
    (a_2BPD, a_shown), (b_2BPD, b_shown) = a, b
    a_2BPD, b_2BPD = (F.normalize(x - means_2D[:, None, None], dim=-1) for x in (a_2BPD, b_2BPD))
    affinity = a_2BPD @ b_2BPD.transpose(2, 3)
    return (_found(affinity, a_shown, b_shown) + _found(affinity.transpose(2, 3), b_shown, a_shown)).div(2).clamp(-1, 1)


def _found(affinity_2BPQ: Tensor, shown_BP: Tensor, among_BQ: Tensor) -> Tensor:
    """Mean of each shown patch's best affinity, (B,), over both layers."""
    best = affinity_2BPQ.masked_fill(~among_BQ[None, :, None], -1.0).amax(-1).mean(0)
    mean = (best * shown_BP).sum(-1) / shown_BP.sum(-1).clamp_min(1)
    return mean * (shown_BP.any(-1) & among_BQ.any(-1))


def detail_similarity(a_B3HW: Tensor, b_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """How near two pictures of one layout are inside a mask, (B,): 1 less the root mean square of their difference in
    [-1, 1], after each picture's mean colour there is taken off. An empty mask gives 1."""
    area = mask_B1HW.sum((2, 3), keepdim=True).clamp_min(1e-6)
    difference = a_B3HW - b_B3HW
    centred = difference - (difference * mask_B1HW).sum((2, 3), keepdim=True) / area
    return 1 - ((centred.square() * mask_B1HW).sum((2, 3), keepdim=True) / area).mean(1).sqrt().flatten().clamp(0, 2)


@torch.no_grad()
def copy_score(dino: Any, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
    """How much one picture repeats the other place by place, (B,): mean cosine of centred shallow patch features."""
    a, b = (appearance(dino, x).flatten(2) for x in (a_B3HW, b_B3HW))
    a, b = a - a.mean(2, keepdim=True), b - b.mean(2, keepdim=True)
    return F.cosine_similarity(a, b, dim=1).mean(-1).clamp(-1, 1)
