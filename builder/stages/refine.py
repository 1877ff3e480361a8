"""Stages 4 and 6: the Refiner gives the draft the subject's details, and the pair is composed.

The subject is given as the light of the draft shows it. The target equals the draft outside `mask` in every pixel,
so an editing pair's source is the draft itself: the same picture with another thing of the class inside the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.batch import Batch
from builder.stages import as_masks, as_pictures, checked_looks, pixels, plane

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Refine:
    """The Refiner under the reference's patch features; what it takes over depends on the category of change."""

    family: str
    transfers: tuple[tuple[str, str], ...]      # category, one of the Refiner's transfers
    strength: float
    steps: int
    top_k: int
    temperature: float
    threshold: float
    nearness: float
    margin_px: int                              # by which the mask of the edit exceeds the subject
    feather_px: int                             # width of the seam inside the mask
    name: str = "refine"
    surfaces: tuple[tuple[str, float], ...] = ()  # category, part of the target that shows the subject's own pixels
    grains: tuple[tuple[str, float], ...] = ()  # category, part of the draft's finest structure that the target shows
    looks: int = 1                              # at a pair, whose mean is the target
    relight: bool = False                       # light the subject from the draft's side; depth on the camera's scale
    reads: frozenset[str] = frozenset({"posed", "posed_mask", "posed_depth", "draft", "draft_latents"})
    writes: frozenset[str] = frozenset({"given", "target", "mask", "source"})

    def __post_init__(self) -> None:
        checked_looks(self.name, self.looks)

    def run(self, batch: Batch) -> Batch:
        from toffee_hf.family import open_family
        from toffee_hf.perception.light import Surface, lit_like

        family = open_family(self.family)
        transfers, surfaces, grains = dict(self.transfers), dict(self.surfaces), dict(self.grains)
        draft, mask = pixels(batch["draft"], family.device), plane(batch["posed_mask"], family.device)
        given, depth = pixels(batch["posed"], family.device), batch["posed_depth"].to(family.device)
        if self.relight:
            given = lit_like(Surface(given, mask, depth), Surface(draft, mask, depth), **family.camera)
        refined = family.refiner_pipeline(
            [pair.prompt for pair in batch.pairs], draft, mask, given, mask,
            transfer=[transfers[pair.category] for pair in batch.pairs],
            surface=[surfaces.get(pair.category, 0.0) for pair in batch.pairs],
            grain=[grains.get(pair.category, 0.0) for pair in batch.pairs], draft_latents=batch["draft_latents"],
            strength=self.strength, num_inference_steps=self.steps, top_k=self.top_k, temperature=self.temperature,
            threshold=self.threshold, nearness=self.nearness, looks=self.looks, generator=batch.generators(self.name),
            output_type="pt").images * 2 - 1
        edit, blend = edit_mask(mask, self.margin_px, self.feather_px)
        target = as_pictures(draft * (1 - blend) + refined * blend)
        inside = as_masks(edit)
        source = batch["draft"]
        target = target.where(inside.unsqueeze(1) > 0, source)
        return batch.with_columns(given=as_pictures(given), target=target, mask=inside, source=source)


def edit_mask(mask_B1HW: Tensor, margin_px: int, feather_px: int) -> tuple[Tensor, Tensor]:
    """The region of an edit, 0 or 1, and how much of it is new, in [0, 1], rising from the region's border inwards."""
    import torch.nn.functional as F

    def grown(x: Tensor, reach: int) -> Tensor:
        return F.max_pool2d(x, 2 * reach + 1, 1, reach)

    edit = grown(mask_B1HW, margin_px)
    inner = grown(mask_B1HW, max(margin_px - feather_px, 0))
    window = 2 * feather_px + 1
    padded = F.pad(inner, (feather_px,) * 4, mode="replicate")
    return edit, F.avg_pool2d(padded, window, 1) * edit
