"""Stage 5, taken first: other views of the reference, where a pair needs one.

A *pose* pair follows the new view: its target shows the subject turned. Of the other pairs a share shows the new view
as the reference, so that reference and target do not share a layout; where the view lost the subject, the picture
itself stays the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.batch import Batch
from builder.plan import Pair
from builder.seeds import seed_for
from builder.stages import as_masks, as_pictures, checked_looks, pixels, plane, with_scores

if TYPE_CHECKING:
    from torch import Tensor

    from toffee_hf.family import Family


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Draws new views with the View Generator.

    Writes what the target's layout follows (`posed`, `posed_mask`) and what the pair shows as its reference (`shown`,
    `shown_mask`).
    """

    family: str
    pose_category: str
    turns: tuple[tuple[str, float], ...]    # words of a pose prompt, radians
    share: float                            # of the other pairs, shown from another side
    widest_turn: float                      # radians, for those
    min_similarity: float                   # Seg-DINO of the view to the picture it was made from
    strength: float = 0.9             # how far the picture is noised before the view is drawn
    steps: int = 1
    surface: float = 0.5              # part of a view's finest structure that is the turned surface's own
    looks: int = 1                    # whose mean is the view, each with an estimate of depth of its own
    name: str = "view"
    reads: frozenset[str] = frozenset({"reference", "reference_mask", "scores"})
    writes: frozenset[str] = frozenset({"posed", "posed_mask", "shown", "shown_mask", "scores"})

    def __post_init__(self) -> None:
        checked_looks(self.name, self.looks)

    def run(self, batch: Batch) -> Batch:
        import torch

        from toffee_hf.family import open_family

        turns = [self._turn(pair) for pair in batch.pairs]
        wanted = [i for i, turn in enumerate(turns) if turn is not None]
        view, mask = batch["reference"].clone(), batch["reference_mask"].clone()
        similarity: list[float | None] = [None] * len(batch)
        if wanted:
            drawn = batch.select(wanted)
            radians = [turn for turn in turns if turn is not None]
            found, found_mask, scores = self._draw(open_family(self.family), drawn, radians)
            view[wanted], mask[wanted] = found, found_mask
            for i, value in zip(wanted, scores.tolist(), strict=True):
                similarity[i] = value
        pose = torch.tensor([pair.category == self.pose_category for pair in batch.pairs])
        good = torch.tensor([s is not None and s >= self.min_similarity for s in similarity])
        lost = [i for i in range(len(batch)) if pose[i] and not good[i]]
        shows, follows = (good & ~pose).nonzero().flatten(), pose.nonzero().flatten()
        picture, outline = batch["reference"], batch["reference_mask"]
        posed, posed_mask = _replaced(picture, view, follows), _replaced(outline, mask, follows)
        shown, shown_mask = _replaced(picture, view, shows), _replaced(outline, mask, shows)
        kept = [s if pose[i] or good[i] else None for i, s in enumerate(similarity)]
        batch = batch.with_columns(posed=posed, posed_mask=posed_mask, shown=shown, shown_mask=shown_mask)
        return with_scores(batch, view_dino=kept).reject(lost, "view_mismatch")

    def _turn(self, pair: Pair) -> float | None:
        """Radians to turn the subject by, or None to leave it as it is."""
        if pair.category == self.pose_category:
            return next((turn for words, turn in self.turns if words in pair.prompt), self.widest_turn)
        draw = seed_for(pair.seed, self.name) / 2**63
        if draw >= self.share:
            return None
        side = 2 * draw / self.share - 1                # the same draw, spread over [-1, 1)
        return (0.4 + 0.6 * abs(side)) * (self.widest_turn if side > 0 else -self.widest_turn)

    def _draw(self, family: Family, batch: Batch, turns: list[float]) -> tuple[Tensor, Tensor, Tensor]:
        """New views uint8 (B, 3, H, W), their masks uint8 (B, H, W), their similarity to the reference (B,)."""
        from toffee_hf.perception.depth import depth_looks
        from toffee_hf.perception.masks import subject_masks
        from toffee_hf.perception.similarity import subject_similarity

        names = [pair.subject.class_name for pair in batch.pairs]
        x, mask = pixels(batch["reference"], family.device), plane(batch["reference_mask"], family.device)
        view = family.view_pipeline(
            [f"a photo of a {name}" for name in names], x, mask, turns, depth_looks(family.depth, x, self.looks),
            strength=self.strength, num_inference_steps=self.steps, surface=self.surface, looks=self.looks,
            generator=batch.generators(self.name), output_type="pt").images * 2 - 1
        found = subject_masks(family.segmenter, family.clip, family.tokenizer, view, names)
        similarity = subject_similarity(family.dino, family.domain.patch_means, view, found, x, mask)
        return as_pictures(view), as_masks(found), similarity


def _replaced(column: Tensor, other: Tensor, where: Tensor) -> Tensor:
    column = column.clone()
    column[where] = other[where]
    return column
