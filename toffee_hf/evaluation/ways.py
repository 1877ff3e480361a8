"""Ways to make a picture of a subject, the method among them, under true masks and depth. B batch, H, W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toffee_hf.drafting import Steering, draft_latents
from toffee_hf.evaluation.heldout import Asked, Pictures
from toffee_hf.family import Family
from toffee_hf.perception.depth import control_picture, depth_looks, estimate_depth
from toffee_hf.perception.light import Surface, lit_like
from toffee_hf.perception.pose import posed_like
from toffee_hf.pipelines.pipeline_toffee_refiner import laid
from toffee_hf.pipelines.pipeline_toffee_view import axes_of

DRAFT_STEPS = 12                      # as in the recipe
DRAFT = Steering(guidance=3.2, guidance_end=0.75, control=2.0)      # of photographs, as in the recipe
STYLED_DRAFT = Steering(guidance=2.3, control=1.4)      # of other styles, as in the recipe
BY_TEXT = {"num_inference_steps": DRAFT_STEPS, "guidance_scale": 5.0, "guidance_rescale": 0.7}     # docs/log.md
REFINE = {"strength": 0.8, "num_inference_steps": 1}
SURFACE, GRAIN = 0.5, 0.5             # of photographs and of other styles, as in the recipe
LOOKS, VIEW_LOOKS = 2, 4              # at a pair and at a new view, as in the recipe


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts (B, 3, H, W) in [-1, 1] and their latents (B, C, h, w)."""

    x: Tensor
    latents: Tensor


def generators(shown: Pictures) -> list[torch.Generator]:
    """One generator a subject, so that a figure does not depend on the batch."""
    return [torch.Generator().manual_seed(subject.index) for subject in shown.subjects]


def text_to_image(family: Family, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """The base model alone: (B, 3, H, W) in [-1, 1]."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=family.vae, text_encoder=family.text_encoder, tokenizer=family.tokenizer, unet=family.unet,
        scheduler=family.scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    size = family.vae.config.sample_size
    found: Tensor = pipeline(list(prompts), height=size, width=size, output_type="pt", **BY_TEXT,
                             generator=[torch.Generator().manual_seed(s) for s in seeds]).images
    return found * 2 - 1


def steered(styles: Sequence[str]) -> list[Steering]:
    """How the recipe has prompts of these styles drawn."""
    return [DRAFT if style == "photo" else STYLED_DRAFT for style in styles]


def drafts(family: Family, posed: Pictures, prompts: list[str], styles: Sequence[str],
           seeds: Sequence[int] | None = None) -> Drafts:
    """Text to image under the depth of `posed`, by prompts of these styles; without seeds each subject has its own."""
    picture = control_picture(posed.depth, posed.mask)
    each = generators(posed) if seeds is None else [torch.Generator().manual_seed(s) for s in seeds]
    latents = draft_latents(family.draft_pipeline, prompts, picture, each, DRAFT_STEPS, steered(styles))
    return Drafts(family.vae.pictures(latents).clamp(-1, 1), latents)


def pasted(draft: Drafts, posed: Pictures, reference: Pictures, placed: bool = False) -> Tensor:
    """The reference's subject laid onto the draft by the boxes of the masks, (B, 3, H, W), or as it is placed."""
    subject, seen = laid(posed.mask, reference.x, reference.mask, placed)
    return draft.x * (1 - seen) + subject


def lit(family: Family, draft: Drafts, posed: Pictures, reference: Pictures) -> Pictures:
    """The reference with light from the draft's side, by estimated depth, as the recipe's Refiner is given it."""
    depth, other = estimate_depth(family.depth, torch.cat([reference.x, posed.x])).chunk(2)
    shown, drawn = Surface(reference.x, reference.mask, depth), Surface(draft.x, posed.mask, other)
    return replace(reference, x=lit_like(shown, drawn, **family.camera))


def posed_as(family: Family, posed: Pictures, reference: Pictures) -> Pictures:
    """The references as far as they are seen once they are turned as `posed`, whose pose drafts follow, by estimated
    depth, and placed where it is there."""
    shown, draft = (Surface(p.x, p.mask, estimate_depth(family.depth, p.x).clamp(0, 1)) for p in (reference, posed))
    own, wanted = (axes_of(family.axis, s.x, s.mask, s.depth, **family.camera) for s in (shown, draft))
    axes = None if own is None or wanted is None else (own, wanted)
    found, _ = posed_like(shown, draft, axes, **family.camera)
    return replace(reference, x=found.x, mask=found.mask, depth=found.depth)


def refined(family: Family, draft: Drafts, posed: Pictures, reference: Pictures, prompts: list[str], *,
            relight: bool = False, **settings: Any) -> Tensor:
    """The draft after the Refiner, (B, 3, H, W) in [-1, 1]; `settings` of its pipeline beside REFINE."""
    reference = lit(family, draft, posed, reference) if relight else reference
    found: Tensor = family.refiner_pipeline(prompts, draft.x, posed.mask, reference.x, reference.mask,
                                            draft_latents=draft.latents, generator=generators(posed),
                                            output_type="pt", **{**REFINE, **settings}).images
    return found * 2 - 1


def as_built(wish: Asked, transfer: str = "full") -> dict[str, Any]:
    """What the recipe adds to the Refiner: the draft's light, another look, of a photograph a part of the reference's
    pixels, and of other styles a part of the draft's grain."""
    whole = transfer == "full"
    return {"relight": True, "transfer": transfer, "looks": LOOKS,
            "surface": [SURFACE if whole and style == "photo" else 0.0 for style in wish.styles],
            "grain": [0.0 if style == "photo" else GRAIN for style in wish.styles]}


def views(family: Family, shown: Pictures, turns: list[float], *, in_space: bool = True, looks: int = VIEW_LOOKS,
          **settings: Any) -> Tensor:
    """New views of the shown subjects, (B, 3, H, W) in [-1, 1], by their estimated depth or without any."""
    depth = depth_looks(family.depth, shown.x, looks) if in_space else None
    found: Tensor = family.view_pipeline(
        [f"a photo of a {name}" for name in shown.names], shown.x, shown.mask, turns, depth,
        looks=looks, generator=generators(shown), output_type="pt", **settings).images
    return found * 2 - 1


def through_autoencoder(family: Family, x_B3HW: Tensor) -> Tensor:
    """What the autoencoder leaves of pictures in [-1, 1]."""
    found: Tensor = family.vae.pictures(family.vae.latents(x_B3HW))
    return found.clamp(-1, 1)
