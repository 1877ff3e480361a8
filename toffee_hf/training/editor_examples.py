"""What an editor learns from pairs: told of a pair as the pipeline would tell it, with parts left out by chance.

B batch, S subjects of a picture (one), C latent channels, H, W pixels, h, w latent cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.pipelines.pipeline_toffee import conditions, mask_box, scaled_depth
from toffee_hf.training.backbone import Backbone, TextCondition
from toffee_hf.training.pair_stream import Pairs
from toffee_hf.training.trainer import TrainConfig

TASKS = {"joint": ("generation", "editing"), "generation": ("generation",), "editing": ("editing",)}
TARGETS = ("refined", "drafts")
ON_THE_SUBJECT = 2.0                  # how much more an error counts there


@dataclass(frozen=True, kw_only=True, slots=True)
class EditorConfig(TrainConfig):
    """What is learnt, and shares of the examples in [0, 1].

    tasks: joint, generation or editing; editing: share of editing pairs in joint training; reconstruction: the
    reference is the target itself (p of the paper); drop_subject: without the subject; told_depth: with the target's
    depth; whole_reference: the reference's mask is not known; loose_mask: the mask to edit is widened to its box, or to
    the ellipse in its box, as people paint; limit: rows to use, None: all; targets: `drafts` learns the unrefined
    pictures, which `toffee build` leaves as sources of editing pairs, so these are read for both tasks; views: whether
    rows count whose reference is a new view; noisings: noisy copies of each example, at times spread over the schedule,
    where encoding costs as much as learning; least_noise: share of the noise schedule, from its clean end, that is not
    learnt, in [0, 1), for a scheduler that draws above it; gate: whether how far the laid subject is believed is learnt
    too, which a squared error lowers; start: folder of an editor to go on from; rebase: although its LoRA was trained
    over another base, which is close enough for it to be of use.
    """

    tasks: str = "joint"
    editing: float = 0.5
    reconstruction: float = 0.1
    drop_subject: float = 0.08
    told_depth: float = 0.4
    whole_reference: float = 0.15
    loose_mask: float = 0.6
    limit: int | None = None
    targets: str = "refined"
    views: bool = True
    noisings: int = 1
    least_noise: float = 0.0
    gate: bool = True
    start: str = ""
    rebase: bool = False

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        shares = ("editing", "reconstruction", "drop_subject", "told_depth", "whole_reference", "loose_mask")
        wrong = [name for name in shares if not 0 <= getattr(self, name) <= 1]
        wrong += [] if self.tasks in TASKS else ["tasks"]
        wrong += [] if self.targets in TARGETS else ["targets"]
        wrong += [] if self.limit is None or self.limit >= 1 else ["limit"]
        wrong += [] if self.noisings >= 1 else ["noisings"]
        wrong += [] if 0 <= self.least_noise < 1 else ["least_noise"]
        if self.rebase and not self.start:
            raise InputError("rebase is for an editor to go on from: give its start")
        if wrong:
            raise InputError(f"an editor needs {', '.join(shares)} in [0, 1], tasks out of {', '.join(TASKS)}, targets "
                             f"out of {', '.join(TARGETS)}, limit and noisings >= 1, least_noise in [0, 1); got "
                             f"{wrong[0]} {getattr(self, wrong[0])!r}")


@dataclass(frozen=True, slots=True)
class Subjects:
    """x (B, S, 3, H, W) in [-1, 1]; mask (B, S, 1, H, W) in [0, 1]; region: None, anywhere. As in the pipeline."""

    x: Tensor
    mask: Tensor
    region: Tensor | None = None


@dataclass(frozen=True, slots=True)
class EditorExample:
    """clean: latents of the target (B, C, h, w); told: arguments of ToffeeEditorUNet.forward; drawn, inside: share of
    each cell that is to be drawn, and that shows the subject, (B, 1, h, w)."""

    clean: Tensor
    told: dict[str, Tensor]
    drawn: Tensor
    inside: Tensor

    def times(self, count: int) -> EditorExample:
        """Each example `count` times, one after the other."""
        told = {name: x.repeat_interleave(count, 0) for name, x in self.told.items()}
        return EditorExample(self.clean.repeat_interleave(count, 0), told, self.drawn.repeat_interleave(count, 0),
                             self.inside.repeat_interleave(count, 0))


@torch.no_grad()
def examples_of(pairs: Pairs, backbone: Backbone, pipeline: Any, config: EditorConfig, generator: torch.Generator
                ) -> EditorExample:
    """One example of each pair. pipeline: ToffeePipeline, which says how subjects are told."""
    def chosen(share: float) -> Tensor:
        return (torch.rand(len(pairs.prompts), generator=generator) < share)[:, None, None, None]

    pairs = _referred(pairs, chosen(config.reconstruction), chosen(config.whole_reference))
    pairs = replace(pairs, mask=painted(pairs.mask, chosen(config.loose_mask), chosen(0.5)))
    depth = _depth(pairs, backbone.find_depth, chosen(config.told_depth), chosen(0.5))
    subjects = Subjects(pairs.reference[:, None], pairs.reference_mask[:, None])
    space = conditions(backbone.encode, pairs.source, pairs.mask, depth, subjects, backbone.cell_px)
    told = pipeline.told(subjects, space.shape[-2:], 1.0)
    clean = backbone.encode(pairs.target)
    seen = 1 - chosen(config.drop_subject).float()
    told = {**told, "weights": (told["weights"] * seen).to(backbone.unet.dtype),
            "space": torch.cat([space[:, :-1], space[:, -1:] * seen], 1)}
    channels = clean.shape[1]
    return EditorExample(clean, told, space[:, channels : channels + 1],
                         F.adaptive_avg_pool2d(pairs.target_mask, clean.shape[-1]))


def _referred(pairs: Pairs, repeated: Tensor, whole: Tensor) -> Pairs:
    """With the target as its own reference where repeated, and the whole reference as the subject where whole."""
    mask = torch.where(repeated, pairs.target_mask, pairs.reference_mask)
    return replace(pairs, reference=torch.where(repeated, pairs.target, pairs.reference),
                   reference_mask=torch.where(whole, torch.ones_like(mask), mask))


def painted(mask: Tensor, loose: Tensor, oval: Tensor) -> Tensor:
    """Masks to edit (B, 1, H, W); those of `loose`, (B, 1, 1, 1), widened to their box, or if `oval` by its ellipse."""
    height, width = mask.shape[-2:]
    x0, y0, x1, y1 = mask_box(mask)[:, :, None, None, None].unbind(1)
    x = ((torch.arange(width).to(mask) + 0.5) / width * 2 - 1 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = ((torch.arange(height).to(mask) + 0.5) / height * 2 - 1)[:, None]
    y = (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
    wide = torch.where(oval, x.square() + y.square() <= 1, (x.abs() <= 1) & (y.abs() <= 1))
    return torch.where(loose, torch.maximum(mask, wide.to(mask)), mask)


def _depth(pairs: Pairs, find: Callable[[Tensor], Tensor] | None, told: Tensor, cut_out: Tensor) -> Tensor | None:
    """Depth of the targets that are told theirs, of the subject alone where it is cut out; 0 in the others."""
    index = told.flatten().nonzero().flatten()
    if find is None or not len(index):
        return None
    target, mask = pairs.target[index], pairs.target_mask[index]
    found = F.interpolate(find(target).float(), target.shape[-2:], mode="bilinear", align_corners=False)
    found = found / found.amax((2, 3), keepdim=True).clamp_min(1e-3)
    depth = torch.zeros_like(pairs.target_mask)
    depth[index] = scaled_depth(torch.where(cut_out[index], found * mask, found))
    return depth


def editor_loss(model: Any, example: EditorExample, text: TextCondition, alphas: Tensor, generator: torch.Generator,
                noisings: int = 1, least_noise: float = 0.0) -> dict[str, Tensor]:
    """Error of what the denoiser predicts, where it draws and most on the subject; `inside` is that of the subject."""
    first = int(least_noise * len(alphas))
    learnt = len(alphas) - first
    t = torch.randint(learnt, (len(example.clean), 1), generator=generator)
    t = first + (t + torch.arange(noisings) * learnt // noisings).flatten() % learnt
    if noisings > 1:
        example, text = example.times(noisings), text.times(noisings)
    clean = example.clean
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas[t].sqrt()
    a, s = alpha[:, None, None, None], (1 - alpha.square()).clamp_min(0).sqrt()[:, None, None, None]
    wanted = noise if model.config.prediction_type == "epsilon" else a * noise - s * clean
    found = model(a * clean + s * noise, t, text.hidden, **example.told, alpha=alpha, added_cond_kwargs=text.added,
                  return_dict=False)[0]
    error = (found.float() - wanted).square().mean(1, keepdim=True)
    weight, inside = example.drawn * (1 + ON_THE_SUBJECT * example.inside), example.drawn * example.inside
    return {"loss": (weight * error).sum() / weight.sum(),
            "inside": (inside * error).sum().detach() / inside.sum().clamp_min(1e-3)}
