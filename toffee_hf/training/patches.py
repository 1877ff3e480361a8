"""Training of the tiny DINOv2-class patch encoder: which part of a thing a patch shows, whatever its paint.

In turn: two augmented copies of one picture, whose patches of the same place attract while all others repel, and so do
whole pictures; and one shape in two designs and poses, whose patches of the same surface attract. The patch embedding
stays the orthogonal map of the pixels that it starts as, which is where appearance is read from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from toffee_hf.pipelines.pipeline_toffee_refiner import encoder_pixels
from toffee_hf.training.correspondences import correspondence_loss, frames, laid, open_pairs
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import Pool

CROP = 96                             # pixels a training crop has; 128 at inference
PATCH = 8


def dino_config() -> Dinov2Config:
    """A small vision transformer: 192 features, 4 layers, patches of 8 pixels in pictures of 128."""
    return Dinov2Config(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, mlp_ratio=3, patch_size=PATCH,
                        image_size=128, layerscale_value=1.0)


def random_affine(count: int, generator: torch.Generator, turn: float = 0.35) -> Tensor:
    """Maps (B, 2, 3) from a crop's coordinates to the picture's, both in [-1, 1]: scale .45-.95, turn in radians."""
    u = torch.rand(5, count, generator=generator) * 2 - 1
    scale, angle = 0.7 + 0.25 * u[0], turn * u[1]
    flip = torch.where(u[2] < 0, -1.0, 1.0)
    shift = (1 - scale) * u[3:5]
    c, s = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([c * flip, -s, shift[0]], -1), torch.stack([s * flip, c, shift[1]], -1)], 1)


def recoloured(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] with channels mixed, gain, shift, sometimes negative or grey, sometimes blurred."""
    b = len(x)
    mix = torch.eye(3) + 0.55 * torch.randn(b, 3, 3, generator=generator)
    kind = torch.rand(b, generator=generator)
    mix[kind < 0.15] *= -1
    grey = torch.rand(b, 3, 1, generator=generator).softmax(1).transpose(1, 2).expand(-1, 3, -1)
    mix = torch.where((kind > 0.75)[:, None, None], grey, mix)
    y = torch.einsum("bij,bjhw->bihw", mix, x) + 0.25 * torch.randn(b, 3, 1, 1, generator=generator)
    blurred = F.avg_pool2d(y, 3, 1, 1)
    return torch.where((torch.rand(b, generator=generator) < 0.3)[:, None, None, None], blurred, y).clamp(-1.3, 1.3)


def _seen_in(there: Tensor, here: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where the patch centres of crop `here` lie in crop `there`: coordinates (B, N, 2), and whether inside (B, N)."""
    centres = F.affine_grid(here, [len(here), 1, side, side], align_corners=False).flatten(1, 2)
    square = torch.cat([there, there.new_tensor((0.0, 0.0, 1.0)).expand(len(there), 1, 3)], 1)
    inverse = torch.linalg.inv(square)[:, :2]
    found = torch.einsum("bij,bnj->bni", inverse, torch.cat([centres, torch.ones_like(centres[..., :1])], -1))
    return found, (found.abs() < 1 - 1 / side).all(-1)


def new_patches() -> Dinov2Model:
    """An encoder whose patch embedding is orthogonal: no pixel is lost in it."""
    model = Dinov2Model(dino_config())
    torch.nn.init.orthogonal_(model.embeddings.patch_embeddings.projection.weight.view(192, -1))
    return model


def train_patches(model: Dinov2Model, pool: Pool, schedule: Schedule, folder: Path, seed: int) -> Dinov2Model:
    """Contrast patches within a picture and pictures within a batch (InfoNCE, temperatures 0.1 and 0.15)."""
    model.head = torch.nn.Linear(192, 128)        # used in training only, dropped at the end
    model.embeddings.patch_embeddings.requires_grad_(False)
    side = CROP // PATCH
    pairs = len(np.load(pool.folder / "pairs" / "masks.npy", mmap_mode="r"))

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        return copies(generator) if step % 2 else designs(generator)

    def designs(generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randperm(pairs, generator=generator)[: schedule.batch_size // 2]
        found = open_pairs(pool.folder / "pairs", index)
        x, mask = found.pictures.transpose(0, 1).flatten(0, 1), found.masks.transpose(0, 1).flatten(0, 1)
        cut, where, shown = laid(x, mask, found.coords.transpose(0, 1).flatten(0, 1), frames(mask, generator))
        hidden = F.normalize(model(encoder_pixels(cut)).last_hidden_state[:, 1:].float(), dim=-1)
        a, b = ((hidden.chunk(2)[i], where.chunk(2)[i], shown.chunk(2)[i]) for i in (0, 1))
        there, found_there = correspondence_loss(a[0], b[0], a[1], b[1], a[2], b[2])
        back, found_back = correspondence_loss(b[0], a[0], b[1], a[1], b[2], a[2])
        return {"loss": (there + back) / 2, "matched": (found_there + found_back) / 2}

    def copies(generator: torch.Generator) -> dict[str, Tensor]:
        people = torch.randperm(pool.subjects, generator=generator)[: schedule.batch_size]
        x = pool.pictures("image", people * 4 + torch.randint(4, people.shape, generator=generator))
        maps = [random_affine(len(x), generator) for _ in range(2)]
        crops = [F.grid_sample(x, F.affine_grid(m, [len(x), 3, CROP, CROP], align_corners=False), align_corners=False,
                               padding_mode="reflection") for m in maps]
        hidden = model(encoder_pixels(torch.cat([recoloured(c, generator) for c in crops]))).last_hidden_state
        a, b = model.head(hidden).float().chunk(2)
        position, inside = _seen_in(maps[1], maps[0], side)
        grid_b = b[:, 1:].transpose(1, 2).unflatten(-1, (side, side))
        there = F.grid_sample(grid_b, position.unsqueeze(2), align_corners=False).squeeze(-1).transpose(1, 2)
        patch = _contrast_patches(F.normalize(a[:, 1:], dim=-1), F.normalize(there, dim=-1), position, inside, side)
        whole = F.normalize(a[:, 0], dim=-1) @ F.normalize(b[:, 0], dim=-1).T / 0.15
        image = F.cross_entropy(whole, torch.arange(len(x)))
        return {"loss": patch + 0.3 * image, "patch": patch.detach(), "image": image.detach()}

    fit("patches", model, loss, schedule, folder, seed)
    del model.head
    return model


def _contrast_patches(a: Tensor, b: Tensor, position: Tensor, inside: Tensor, side: int) -> Tensor:
    """Cross-entropy of each patch of `a` (B, N, D) finding its counterpart among `b`; near places are no negatives."""
    logits = torch.einsum("bnd,bmd->bnm", a, b) / 0.1
    near = torch.cdist(position, position) < 3.0 / side
    eye = torch.eye(logits.shape[1], dtype=torch.bool)
    logits = logits.masked_fill((near & ~eye) | ~inside[:, None, :], -1e4)
    target = torch.arange(logits.shape[1]).expand(len(a), -1)
    each = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return (each * inside).sum() / inside.sum().clamp_min(1)
