"""Stage 3: the draft. A depth-ControlNet draws the prompt in the pose of the subject, with its details wrong."""

from __future__ import annotations

from dataclasses import dataclass

from builder.batch import Batch
from builder.stages import as_pictures, pixels, plane
from toffee_hf.drafting import Steering, draft_latents


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Text to image under the depth of the posed subject, by the stock ControlNet pipeline of diffusers."""

    family: str
    steps: int
    steering: Steering                # of the categories that `steerings` does not name
    steerings: tuple[tuple[str, Steering], ...] = ()
    name: str = "draft"
    reads: frozenset[str] = frozenset({"posed", "posed_mask"})
    writes: frozenset[str] = frozenset({"draft", "draft_latents", "posed_depth"})

    def run(self, batch: Batch) -> Batch:
        import torch

        from toffee_hf.family import open_family
        from toffee_hf.perception.depth import control_picture, estimate_depth

        family, steerings = open_family(self.family), dict(self.steerings)
        depth = estimate_depth(family.depth, pixels(batch["posed"], family.device))
        picture = control_picture(depth, plane(batch["posed_mask"], family.device))
        latents = draft_latents(
            family.draft_pipeline, [pair.prompt for pair in batch.pairs], picture, batch.generators(self.name),
            self.steps, [steerings.get(pair.category, self.steering) for pair in batch.pairs])
        with torch.no_grad():
            drawn = family.vae.decode(latents / family.vae.config.scaling_factor, return_dict=False)[0]
        return batch.with_columns(draft=as_pictures(drawn), draft_latents=latents, posed_depth=depth)
