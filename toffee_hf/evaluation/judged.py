"""Was the judge right? Rows made from toy subjects are held against what each should show, which is known.

A row is *true* when its target is near enough to the render of the same subject in the prompt's scene, style, pose and
surface (PSNR inside the mask), and the classifier names scene and style as the prompt does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toffee_hf.evaluation.figures import psnr_inside
from toffee_hf.family import Family
from toffee_hf.toy.captions import understood
from toffee_hf.toy.render import Shot
from toffee_hf.toy.world import ToySubject, reference_shot, toy_subject

TRUE_DB = 15.0                        # PSNR in the mask from which a target shows its subject: halfway from a draft's
BATCH = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """One row: its scores, whether the judge kept it, and the truth about it. near_db: PSNR inside the truth's mask."""

    category: str
    kept: bool
    reason: str
    scores: Mapping[str, float | None]
    near_db: float
    scene: bool
    style: bool

    @property
    def true(self) -> bool:
        return self.near_db >= TRUE_DB and self.scene and self.style


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a choice among N rows is: precision, recall and kept share, each in [0, 1]."""

    precision: float
    recall: float
    kept: float
    n: int

    @classmethod
    def of(cls, kept: Tensor, true: Tensor) -> Quality:
        """kept, true: bool (N,)."""
        both = (kept & true).sum().item()
        return cls(both / max(1, kept.sum().item()), both / max(1, true.sum().item()), kept.float().mean().item(),
                   len(kept))


def truth_of(subject_id: str, prompt: str, turns: Mapping[str, float]) -> tuple[ToySubject, Shot]:
    """The subject and the shot that a row's target should be. turns: radians of each pose that a prompt may name.

    Raises ValueError for a subject that is not of the toy world, or a prompt that names no scene.
    """
    found = re.fullmatch(r"toy-(train|held-out)-(\d+)", subject_id)
    wish = understood(prompt)
    if found is None or wish.scene is None:
        raise ValueError(f"the truth is known of toy subjects and prompts only, got {subject_id!r}, {prompt!r}")
    subject = toy_subject("train" if found[1] == "train" else "held-out", int(found[2]))
    first = reference_shot(subject)
    camera = replace(first.camera, yaw=first.camera.yaw + (turns[wish.pose] if wish.pose else 0.0))
    if wish.colour:
        subject = subject.recoloured(wish.colour)
    if wish.surface:
        subject = subject.resurfaced(wish.surface)
    return subject, replace(first, camera=camera, scene=wish.scene, style=wish.style, scene_seed=0)


def rows_of(folder: Path) -> Iterator[Mapping[str, Any]]:
    """All rows with a target of a folder that `toffee build` wrote, kept and rejected."""
    from datasets import load_dataset

    for config in ("generation", "editing", "rejected"):
        if list((folder / config).glob("*.parquet")):
            for row in load_dataset(str(folder), config, split="train", streaming=True):
                if row["target"] is not None and row["scores"]["seg_dino"] is not None:
                    yield {"reason": "kept", **row}


@torch.no_grad()
def judged(rows: Iterable[Mapping[str, Any]], family: Family, turns: Mapping[str, float]) -> list[Judged]:
    """The truth about every row; see `truth_of`."""
    found, left = [], iter(rows)
    while batch := list(islice(left, BATCH)):
        truth = [truth_of(row["subject_id"], row["prompt"], turns) for row in batch]
        shown = [subject.render([shot]) for subject, shot in truth]
        right, mask = torch.cat([s.image for s in shown]) * 2 - 1, torch.cat([s.mask for s in shown])
        target = torch.stack([_pixels(row["target"]) for row in batch])
        near, answers = psnr_inside(target, right, mask).tolist(), family.classifier.answers(target)
        found += [Judged(row["category"], row["reason"] == "kept", row["reason"], row["scores"], db,
                         scene == shot.scene, style == shot.style)
                  for row, (_, shot), db, scene, style
                  in zip(batch, truth, near, answers["scene"], answers["style"], strict=True)]
    return found


def _pixels(picture: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1).float() / 127.5 - 1


def area_under_roc(score: Tensor, true: Tensor) -> float:
    """Chance that a true row scores higher than an untrue one, in [0, 1]; ties count half; NaN without both kinds."""
    yes, no = score[true], score[~true]
    if not len(yes) or not len(no):
        return float("nan")
    difference = yes[:, None] - no[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0)).mean().item()
