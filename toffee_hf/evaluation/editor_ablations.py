"""What each choice in the editor's training is worth: one changed at a time, from the same base, for as many steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toffee_hf.evaluation.ablations import UNSEEN
from toffee_hf.evaluation.editing import EDIT, NEW, POSED, Way, measure_editors
from toffee_hf.evaluation.processes import spread
from toffee_hf.evaluation.report import markdown_rows
from toffee_hf.family import Family
from toffee_hf.training.editor_examples import EditorConfig

ABLATIONS = "ablations of the editor"
STEPS = 10                            # of sampling: a ranking needs no more
COLUMNS = {
    f"{NEW}: Seg-DINO": "new: Seg-DINO", f"{NEW}: CLIP-T": "new: CLIP-T", f"{NEW}: style right": "new: style right",
    f"{POSED}: PSNR in the mask": "depth told: dB", f"{EDIT}: PSNR in the mask": "edit: dB",
    f"{EDIT}: Seg-DINO": "edit: Seg-DINO",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A line of the table: fields of EditorConfig that differ, and the share of the rows that is used."""

    what: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: float = 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """An editor to train over the family's UNet."""

    data: str
    config: EditorConfig
    folder: Path


REFERENCE = Variant("as shipped", "joint, p = .1, refined targets, new views, every row")
VARIANTS = (
    REFERENCE,
    Variant("tasks", "generation only", {"tasks": "generation"}),
    Variant("tasks", "editing only", {"tasks": "editing"}),
    Variant("reconstruction p", "0", {"reconstruction": 0.0}),
    Variant("reconstruction p", ".5", {"reconstruction": 0.5}),
    Variant("targets", "unrefined drafts", {"targets": "drafts"}),
    Variant("views", "no new views", {"views": False}),
    Variant("rows", "a half", rows=0.5), Variant("rows", "a quarter", rows=0.25),
)


def ablate_editor(family: Family, data: str, config: EditorConfig, count: int, workers: int, folder: Path) -> str:
    """The table over `count` subjects of the training split that no model has seen.

    data: a dataset of pairs; config: what every variant is trained with; folder: keeps each variant's training, so that
    the same call goes on after a kill.
    """
    jobs = [Training(data, _config(variant, config, data), folder / f"{i}") for i, variant in enumerate(VARIANTS)]
    list(spread(train_variant, family, jobs, workers, "training"))
    ways = [Way(str(i), job.folder, steps=STEPS, surface=0.0, draws=(NEW, POSED, EDIT)) for i, job in enumerate(jobs)]
    found = measure_editors(family, ways, count, workers, rivals=False, first=UNSEEN, split="train")
    lines = [(variant.what, variant.label, *(found[str(i)][name] for name in COLUMNS))
             for i, variant in enumerate(VARIANTS)]
    return markdown_rows(("changed", "to", *COLUMNS.values()), lines)


def _config(variant: Variant, config: EditorConfig, data: str) -> EditorConfig:
    from toffee_hf.training.pair_files import COLUMNS as READ
    from toffee_hf.training.pair_files import open_pairs

    found = replace(config, **variant.settings)
    if variant.rows == 1:
        return found
    rows = sum(len(open_pairs(data, task, READ[task])) for task in ("generation", "editing"))
    return replace(found, limit=round(rows * variant.rows))


def train_variant(family: Family, job: Training) -> Path:
    """Train one editor, or go on; returns its folder."""
    from toffee_hf.training.backbone import open_backbone
    from toffee_hf.training.editor import train_editor_on

    if not (job.folder / "training.json").exists():
        train_editor_on(job.data, open_backbone(str(family.folder)), job.config, job.folder)
    return job.folder
