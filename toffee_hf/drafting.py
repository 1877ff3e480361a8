"""Pictures of prompts under a depth, by diffusers' ControlNet pipeline of Stable Diffusion. B prompts, H, W pixels.

The pipeline is told how strictly each prompt and its depth are followed, and when guidance ends: lasting to the end, it
draws over the form that was told (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_STEP_END = ("prompt_embeds", "image")        # what holds both halves of the guidance


@dataclass(frozen=True, kw_only=True, slots=True)
class Steering:
    """How strictly a prompt and its depth are followed; RecipeError for an end of guidance outside (0, 1]."""

    guidance: float                   # scale of the classifier-free guidance
    guidance_end: float = 1.0         # part of the steps, in (0, 1], after which there is none
    control: float = 1.0              # conditioning scale of the ControlNet

    def __post_init__(self) -> None:
        if not 0 < self.guidance_end <= 1:
            raise RecipeError(f"guidance_end must be in (0, 1], got {self.guidance_end}")


def guidance_until(end: float) -> Callable[[Any, int, Any, dict[str, Tensor]], dict[str, Tensor]]:
    """For `callback_on_step_end`, with AT_STEP_END: guidance for the part `end` of the steps, as
    `control_guidance_end` counts them, then the prompt alone, at half of the cost. The first step always has it."""

    def at_step_end(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if not pipeline.do_classifier_free_guidance or (step + 2) / pipeline.num_timesteps <= end:
            return tensors
        pipeline._guidance_scale = 1.0      # diffusers' own way (`SDCFGCutoffCallback`, which keeps one prompt only)
        return {name: tensor.chunk(2)[1] for name, tensor in tensors.items()}

    return at_step_end


def draft_latents(pipeline: Any, prompts: Sequence[str], picture_B3HW: Tensor, generators: Sequence[torch.Generator],
                  steps: int, steering: Sequence[Steering]) -> Tensor:
    """Latents (B, C, h, w) of the pipeline's drawings, as large as the control pictures, in [0, 1]; those that are
    steered alike are drawn together."""
    import torch

    found: dict[int, Tensor] = {}
    for alike in dict.fromkeys(steering):
        rows = [i for i, own in enumerate(steering) if own == alike]
        latents = pipeline(
            [prompts[i] for i in rows], picture_B3HW[rows], num_inference_steps=steps, guidance_scale=alike.guidance,
            controlnet_conditioning_scale=alike.control, generator=[generators[i] for i in rows], output_type="latent",
            height=picture_B3HW.shape[-2], width=picture_B3HW.shape[-1],
            callback_on_step_end=guidance_until(alike.guidance_end),
            callback_on_step_end_tensor_inputs=list(AT_STEP_END)).images
        found.update(zip(rows, latents, strict=True))
    return torch.stack([found[i] for i in range(len(prompts))])
