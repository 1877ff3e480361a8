"""Stage 1: the subject. Its picture is decoded, checked against what the models know, and its mask found."""

from __future__ import annotations

from dataclasses import dataclass

from builder.batch import Batch
from builder.stages import as_masks, pixels, with_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Decode:
    """Raw bytes to a square picture of the recipe's size; what cannot be decoded is `unreadable`."""

    size_px: int
    name: str = "decode"
    reads: frozenset[str] = frozenset({"reference_bytes"})
    writes: frozenset[str] = frozenset({"reference"})

    def run(self, batch: Batch) -> Batch:
        import torch

        from toffee_hf.images import ImageError, decode

        pictures, unreadable = [], {}
        for i, data in enumerate(batch["reference_bytes"]):
            try:
                pictures.append(torch.from_numpy(decode(data, self.size_px)).permute(2, 0, 1))
            except ImageError as err:
                unreadable[i] = err.reason
        batch = batch.leave_out(unreadable)
        return batch.with_columns(reference=torch.stack(pictures)) if pictures else batch


@dataclass(frozen=True, kw_only=True, slots=True)
class InDomain:
    """Stops pictures that the models know nothing about before anything is drawn."""

    family: str
    min_in_domain: float              # [-1, 1]; see toffee_hf.models.toffee_domain
    name: str = "in_domain"
    reads: frozenset[str] = frozenset({"reference", "scores"})
    writes: frozenset[str] = frozenset({"scores"})

    def run(self, batch: Batch) -> Batch:
        from toffee_hf.family import open_family
        from toffee_hf.perception.similarity import dino_images

        family = open_family(self.family)
        found = family.domain(dino_images(family.dino, pixels(batch["reference"], family.device)))
        unknown = [i for i, value in enumerate(found.tolist()) if value < self.min_in_domain]
        return with_scores(batch, in_domain=found).reject(unknown, "out_of_domain")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectMask:
    """The subject's mask in the reference, by its class word."""

    family: str
    min_area: float = 0.02            # share of the picture; less is no subject
    max_area: float = 0.7
    max_border: float = 0.25          # share of the picture's border that the mask may touch
    max_pieces: int = 3
    name: str = "subject_mask"
    reads: frozenset[str] = frozenset({"reference"})
    writes: frozenset[str] = frozenset({"reference_mask"})

    def run(self, batch: Batch) -> Batch:
        from toffee_hf.family import open_family
        from toffee_hf.perception.masks import border_touch, components, subject_masks

        family = open_family(self.family)
        names = [pair.subject.class_name for pair in batch.pairs]
        x = pixels(batch["reference"], family.device)
        masks = subject_masks(family.segmenter, family.clip, family.tokenizer, x, names)
        area, border = masks.mean((1, 2, 3)).tolist(), border_touch(masks).tolist()
        pieces = [components(m[0].cpu().numpy() > 0.5) for m in masks]
        why = {pair.number: self._flaw(*found) for pair, *found in zip(batch.pairs, area, border, pieces, strict=True)}
        batch = batch.with_columns(reference_mask=as_masks(masks))
        for reason in ("no_subject", "reference_unsound"):
            batch = batch.reject([i for i, pair in enumerate(batch.pairs) if why[pair.number] == reason], reason)
        return batch

    def _flaw(self, area: float, border: float, pieces: int) -> str | None:
        """Why a mask cannot be used: shares of the picture and its border that it covers, and its pieces."""
        if area < self.min_area:
            return "no_subject"
        unsound = area > self.max_area or border > self.max_border or pieces > self.max_pieces
        return "reference_unsound" if unsound else None
