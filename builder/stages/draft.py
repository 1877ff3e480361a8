"""Stage 3: the draft. A depth-ControlNet draws the prompt in the pose of the subject, with its details wrong."""

from __future__ import annotations

from dataclasses import dataclass

from builder.batch import Batch
from builder.stages import as_pictures, pixels, plane


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Text to image under the depth of the posed subject, by the stock ControlNet pipeline of diffusers."""

    family: str
    steps: int
    guidance: float
    control: float = 1.0              # conditioning scale of the ControlNet
    name: str = "draft"
    reads: frozenset[str] = frozenset({"posed", "posed_mask"})
    writes: frozenset[str] = frozenset({"draft", "draft_latents", "posed_depth"})

    def run(self, batch: Batch) -> Batch:
        import torch

        from toffee_hf.family import open_family
        from toffee_hf.perception.depth import control_picture, estimate_depth

        family = open_family(self.family)
        depth = estimate_depth(family.depth, pixels(batch["posed"], family.device))
        picture = control_picture(depth, plane(batch["posed_mask"], family.device))
        latents = family.draft_pipeline(
            [pair.prompt for pair in batch.pairs], picture, num_inference_steps=self.steps,
            guidance_scale=self.guidance, controlnet_conditioning_scale=self.control,
            generator=batch.generators(self.name), output_type="latent",
            height=picture.shape[-2], width=picture.shape[-1]).images
        with torch.no_grad():
            drawn = family.vae.decode(latents / family.vae.config.scaling_factor, return_dict=False)[0]
        return batch.with_columns(draft=as_pictures(drawn), draft_latents=latents, posed_depth=depth)
