"""Training of what looks at pictures: depth from one picture, and the mask of the thing that a word names."""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer, DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Model

from toffee_hf.models.toffee_segmenter import ToffeeSegmenter
from toffee_hf.perception.depth import depth_of
from toffee_hf.pipelines.pipeline_toffee_refiner import blurred
from toffee_hf.toy.world import CLASSES
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.patches import PATCH
from toffee_hf.training.pool import Pool
from toffee_hf.training.text import tokens

DEPTH_SIZE_PX = 192                   # at which depth is seen, of pictures of 128: finer patches for finer edges
UNSHARP = 0.3                         # share of the pictures whose depth is learnt that are blurred, as drafts are
ABSENT = 0.2                          # share of training questions that name a class which is not in the picture

POSITIONS = "embeddings.position_embeddings"


def depth_config(encoder: Dinov2Model) -> DepthAnythingConfig:
    """Depth Anything's decoder, narrow, on a backbone of the patch encoder's shape."""
    backbone = {**encoder.config.to_dict(), "image_size": DEPTH_SIZE_PX, "out_indices": [1, 2, 3, 4],
                "reshape_hidden_states": False, "apply_layernorm": True}
    backbone.pop("out_features", None)
    backbone.pop("stage_names", None)
    return DepthAnythingConfig(backbone_config=backbone, patch_size=PATCH,
                               reassemble_hidden_size=encoder.config.hidden_size,
                               neck_hidden_sizes=[24, 32, 48, 48], fusion_hidden_size=32, head_hidden_size=16)


def new_depth(encoder: Dinov2Model) -> DepthAnythingForDepthEstimation:
    """A depth model whose backbone starts from the patch encoder."""
    model = DepthAnythingForDepthEstimation(depth_config(encoder))
    known = encoder.state_dict()
    known[POSITIONS] = _finer(known[POSITIONS], DEPTH_SIZE_PX // PATCH)
    model.backbone.load_state_dict(known)
    for layer in [*model.neck.modules(), *model.head.modules()]:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.reset_parameters()          # the class's own initialisation is too small to train a narrow decoder
    torch.nn.init.constant_(model.head.conv3.bias, 0.3)
    return model


def _finer(positions_1PF: Tensor, side: int) -> Tensor:
    """Position embeddings of a class token and a square grid, for a grid of side × side."""
    whole, grid = positions_1PF[:, :1], positions_1PF[:, 1:]
    grid = grid.unflatten(1, (math.isqrt(grid.shape[1]), -1)).movedim(-1, 1)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([whole, grid.flatten(2).mT], 1)


def train_depth(model: DepthAnythingForDepthEstimation, pool: Pool, schedule: Schedule, folder: Path, seed: int
                ) -> DepthAnythingForDepthEstimation:
    """Depth from pool pictures in every style."""

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        x, depth, mask = pool.pictures("image", index), pool.planes("depth", index), pool.planes("mask", index)
        if step % 2:
            x, depth, mask = x.flip(-1), depth.flip(-1), mask.flip(-1)
        unsharp = torch.rand(len(x), generator=generator) < UNSHARP
        x = torch.where(unsharp[:, None, None, None], blurred(x, 3 + 3 * (step // 2 % 2)), x)
        found = depth_of(model, x)
        error = found - depth
        subject = (error.abs() * mask).sum() / mask.sum().clamp_min(1)
        relief = _relief(error, mask)
        edges = _slopes(error) + _slopes(error * mask) / mask.mean().clamp_min(0.02)
        mae = error.abs().mean()
        return {"loss": mae + subject + 4 * relief + edges, "mae": mae.detach(), "subject": subject.detach(),
                "relief": relief.detach()}

    fit("depth", model, loss, schedule, folder, seed, place=pool.place)
    return model


def _relief(error: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error in the mask after each picture's own mean error is taken off, (): the form of the subject."""
    area = mask.sum((1, 2, 3), keepdim=True).clamp_min(1)
    own = (error * mask).sum((1, 2, 3), keepdim=True) / area
    return (((error - own).abs() * mask).sum((1, 2, 3), keepdim=True) / area).mean()


def _slopes(difference: Tensor) -> Tensor:
    """Mean absolute gradient of the error, (): edges of depth must lie where they are."""
    return (difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()) / 2


@torch.no_grad()
def class_embeddings(clip: CLIPModel, tokenizer: CLIPTokenizer, names: tuple[str, ...]) -> Tensor:
    """Text embeddings (len(names), T) of «a photo of a …»."""
    text = tokens(tokenizer, [f"a photo of a {name}" for name in names])
    return clip.get_text_features(**text).pooler_output


def train_segmenter(model: ToffeeSegmenter, pool: Pool, clip: CLIPModel, tokenizer: CLIPTokenizer, schedule: Schedule,
                    folder: Path, seed: int) -> ToffeeSegmenter:
    """Masks of the named class in pool pictures of every style; ABSENT of the questions have an empty answer."""
    model = model.to(memory_format=torch.channels_last)
    texts = class_embeddings(clip, tokenizer, CLASSES)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        choice = random.Random(f"segmenter/{seed}/{step}")
        x, mask = pool.pictures("image", index), pool.planes("mask", index)
        if step % 2:
            x, mask = x.flip(-1), mask.flip(-1)
        asked, present = [], []
        for i in index.tolist():
            own = CLASSES.index(pool.people[i // 4].class_name)
            absent = choice.random() < ABSENT
            asked.append((own + choice.randrange(1, len(CLASSES))) % len(CLASSES) if absent else own)
            present.append(0.0 if absent else 1.0)
        mask = mask * torch.tensor(present)[:, None, None, None]
        logits = model(x.contiguous(memory_format=torch.channels_last), texts[asked])
        soft = logits.sigmoid()
        overlap = (2 * (soft * mask).sum((1, 2, 3)) + 1) / (soft.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
        total = F.binary_cross_entropy_with_logits(logits, mask) + 0.3 * (1 - overlap).mean()
        hard, truth = soft > 0.5, mask > 0.5
        iou = (hard & truth).sum() / (hard | truth).sum().clamp_min(1)
        return {"loss": total, "iou": iou.float()}

    fit("segmenter", model, loss, schedule, folder, seed)
    return model
