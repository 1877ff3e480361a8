"""Stage 7: the target's mask, and every score that the judge may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from builder.batch import Batch
from builder.stages import as_masks, pixels, plane, with_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetMask:
    """The subject's mask in the target, by its class word."""

    family: str
    name: str = "target_mask"
    reads: frozenset[str] = frozenset({"target", "scores"})
    writes: frozenset[str] = frozenset({"target_mask", "scores"})

    def run(self, batch: Batch) -> Batch:
        from toffee_hf.family import open_family
        from toffee_hf.perception.masks import subject_masks

        family = open_family(self.family)
        names = [pair.subject.class_name for pair in batch.pairs]
        x = pixels(batch["target"], family.device)
        masks = subject_masks(family.segmenter, family.clip, family.tokenizer, x, names)
        return with_scores(batch.with_columns(target_mask=as_masks(masks)), mask_area=masks.mean((1, 2, 3)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Similarities of target and reference, inside masks and of whole pictures, and of target and prompt.

    The pair is judged on the reference that it shows.
    """

    family: str
    name: str = "score"
    reads: frozenset[str] = frozenset({"shown", "shown_mask", "given", "posed_mask", "target", "target_mask", "source",
                                       "mask", "scores"})
    writes: frozenset[str] = frozenset({"reference", "reference_mask", "scores"})

    def run(self, batch: Batch) -> Batch:
        from toffee_hf.family import open_family
        from toffee_hf.perception import similarity as s

        family = open_family(self.family)
        clip, dino, means = family.clip, family.dino, family.domain.patch_means
        target, shown = pixels(batch["target"], family.device), pixels(batch["shown"], family.device)
        image = s.clip_images(clip, target)
        outside = (batch["target"].float() - batch["source"].float()).abs() / 255 * (batch["mask"] == 0).unsqueeze(1)
        scored = with_scores(
            batch,
            seg_dino=s.subject_similarity(dino, means, target, plane(batch["target_mask"], family.device), shown,
                                          plane(batch["shown_mask"], family.device)),
            detail=s.detail_similarity(target, pixels(batch["given"], family.device),
                                       plane(batch["posed_mask"], family.device)),
            dino=s.cosine(s.dino_images(dino, target), s.dino_images(dino, shown)),
            clip_i=s.cosine(image, s.clip_images(clip, shown)),
            clip_t=s.cosine(image, s.clip_texts(clip, family.tokenizer, [pair.prompt for pair in batch.pairs])),
            copy=s.copy_score(dino, target, shown),
            outside=outside.mean((1, 2, 3)))
        return scored.with_columns(reference=batch["shown"], reference_mask=batch["shown_mask"])
