"""How good an editor is on held-out toy subjects: what it draws anew, in a pose that is told, and inside a mask.

B batch, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.evaluation.figures import Figure, psnr_inside
from toffee_hf.evaluation.heldout import Asked, Pictures, asked, jittered, pictures, references, subjects
from toffee_hf.evaluation.measure import BATCH, named
from toffee_hf.evaluation.processes import spread
from toffee_hf.evaluation.ways import Drafts, drafts, pasted, text_to_image
from toffee_hf.family import Family
from toffee_hf.perception import similarity
from toffee_hf.perception.depth import control_picture
from toffee_hf.perception.masks import subject_masks
from toffee_hf.toy.world import Split, ToySubject, toy_subject
from toffee_hf.training.editor_examples import painted

KINDS = ("photo", "style")
NEW, POSED, EDIT, PAINTED = "new picture", "new picture, depth told", "edit", "edit, painted mask"
GROWN_PX = 5                          # of the mask around both subjects, as in the pairs of a build
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
Values = dict[str, Tensor]            # one value a picture


@dataclass(frozen=True, slots=True)
class Way:
    """An editor to measure. folder: None is the family's own; draws: which of NEW, POSED, EDIT and PAINTED."""

    name: str
    folder: Path | None = None
    scale: float = 1.0
    steps: int = 20                   # as the pipeline's default
    surface: float = 0.5              # so too
    draws: tuple[str, ...] = (NEW, POSED, EDIT, PAINTED)


@dataclass(frozen=True, slots=True)
class Part:
    """What one process measures at a time."""

    split: Split
    first: int
    count: int
    ways: tuple[Way, ...]
    rivals: bool


@dataclass(frozen=True, slots=True)
class Task:
    """Some subjects, what they are to become, and how it would look; `source` is to be edited inside `mask`, or inside
    `painted`, which is that and the ellipse in its box: much of the surroundings is to be drawn anew.

    reference: what is shown of them, jittered, since the same pose would reward copying; posed: in the truth's pose.
    """

    reference: Pictures
    posed: Pictures
    wish: Asked
    truth: Pictures
    source: Tensor
    mask: Tensor
    painted: Tensor

    def to_edit(self, what: str) -> Tensor:
        """The mask of EDIT or PAINTED."""
        return self.painted if what == PAINTED else self.mask


def measure_editors(family: Family, ways: Sequence[Way], count: int, workers: int, *, rivals: bool = True,
                    first: int = 0, split: Split = "held-out") -> dict[str, dict[str, Figure]]:
    """Figures of each way over `count` subjects and both kinds of prompt; `rivals` adds text alone and pasting."""
    parts = [Part(split, first + i, min(BATCH, count - i), tuple(ways), rivals) for i in range(0, count, BATCH)]
    held: dict[str, dict[str, list[Tensor]]] = {}
    for found in spread(measure_part, family, parts, workers, "editor"):
        for way, values in found.items():
            for name, some in values.items():
                held.setdefault(way, {}).setdefault(name, []).append(some)
    return {way: {name: Figure.of(torch.cat(some)) for name, some in values.items()} for way, values in held.items()}


@torch.no_grad()
def measure_part(family: Family, part: Part) -> dict[str, Values]:
    """Values by way and what it drew; every subject's is the mean over KINDS."""
    people, found = subjects(part.split, part.first, part.count), dict[str, list[Values]]()
    for kind in KINDS:
        task = task_of(people, kind)
        for name, values in _ways(family, task, part).items():
            found.setdefault(name, []).append(values)
    return {way: {name: torch.stack([values[name] for values in some]).mean(0) for name in some[0]}
            for way, some in found.items()}


def task_of(people: list[ToySubject], kind: str) -> Task:
    """`kind` is one of heldout.asked. The source of an edit shows another subject of the class in the same place."""
    wish = asked(people, kind)
    truth, others = pictures(wish.become, wish.shots), pictures([_another(s) for s in people], wish.shots)
    both = torch.maximum(truth.mask, others.mask).gt(0.5).float()
    mask = F.max_pool2d(both, 2 * GROWN_PX + 1, 1, GROWN_PX)
    source = torch.where(mask > 0, others.x, truth.x)
    always = torch.ones(len(people), 1, 1, 1, dtype=torch.bool)
    return Task(jittered(people), references(people), wish, truth, source, mask, painted(mask, always, always))


def _another(subject: ToySubject) -> ToySubject:
    """The next subject of the same class and split."""
    index = subject.index + 1
    while toy_subject(subject.split, index).class_name != subject.class_name:
        index += 1
    return toy_subject(subject.split, index)


def _ways(family: Family, task: Task, part: Part) -> dict[str, Values]:
    judge = Judge(family, task)
    found: dict[str, Values] = {}
    if part.rivals:
        draft = drafts(family, task.posed, task.wish.prompts, task.wish.styles)
        plain = text_to_image(family, task.wish.prompts, [s.index for s in task.reference.subjects])
        paste, laid = (pasted(below, task.posed, task.reference)
                       for below in (draft, Drafts(task.source, draft.latents)))
        found = {"text alone": judge.scores({NEW: plain, POSED: draft.x}),
                 "reference pasted": judge.scores({POSED: paste, EDIT: laid}),
                 "the source": judge.scores({EDIT: task.source}), "truth": judge.scores({NEW: task.truth.x})}
    for way in part.ways:
        found[way.name] = judge.scores({what: drawn_by(family, way, task, what) for what in way.draws})
        if part.rivals:
            found[way.name] |= _ahead(found[way.name], found["reference pasted"])
    return found


def _ahead(mine: Values, pasted: Values) -> Values:
    """How far each picture is ahead of the reference pasted: the pairs' own interval is narrower than either's."""
    shared = [name for what in (POSED, EDIT) if (name := f"{what}: PSNR in the mask") in mine]
    return {name.replace("PSNR", "ahead of the reference pasted, PSNR"): mine[name] - pasted[name] for name in shared}


def drawn_by(family: Family, way: Way, task: Task, what: str) -> Tensor:
    """What an editor makes of a task, (B, 3, H, W) in [-1, 1]."""
    pipeline, shown = editor_pipeline(family, way.folder), task.reference
    told: dict[str, Any] = {}
    if what == POSED:
        told = {"depth_image": control_picture(task.posed.depth, task.posed.mask)[:, :1]}
    if what in (EDIT, PAINTED):
        told = {"image": task.source / 2 + 0.5, "mask_image": task.to_edit(what)}
    each = [torch.Generator().manual_seed(subject.index) for subject in shown.subjects]
    found: Tensor = pipeline(task.wish.prompts, shown.x / 2 + 0.5, shown.mask, **told, subject_scale=way.scale,
                             num_inference_steps=way.steps, surface=way.surface, generator=each,
                             output_type="pt").images
    return found * 2 - 1


@lru_cache(maxsize=2)
def editor_pipeline(family: Family, folder: Path | None) -> Any:
    """The pipeline of an editor over the family's UNet; None: the family's own."""
    from toffee_hf.training.editor import editor_of

    return family.editor_pipeline(None if folder is None else family.ready(editor_of(family.unet, folder)))


class Judge:
    """Scores of pictures that should show a task's truth."""

    def __init__(self, family: Family, task: Task) -> None:
        self.family, self.task = family, task
        self.looks = similarity.subject_patches(family.dino, task.reference.x, task.reference.mask)
        self.text = similarity.clip_texts(family.clip, family.tokenizer, task.wish.prompts)

    def scores(self, drawn: Mapping[str, Tensor]) -> Values:
        """By what was drawn: Seg-DINO to the reference, CLIP-T, PSNR inside the truth's mask where the pose is told,
        scene, style and class named right; of an edit the largest change outside its mask, in 8-bit steps, and inside a
        painted one the PSNR of the surroundings."""
        found: Values = {}
        for what, x in drawn.items():
            values = self._of(x, self._outline(x, what))
            if what in (EDIT, PAINTED):
                steps = ((x - self.task.source) * 127.5).abs() * (1 - self.task.to_edit(what))
                values["change outside the mask"] = steps.amax((1, 2, 3)).round()
            if what == PAINTED:
                values["PSNR around the subject"] = psnr_inside(x, self.task.truth.x,
                                                                self.task.painted * (self.task.mask < 0.5))
            if what != NEW:
                values["PSNR in the mask"] = psnr_inside(x, self.task.truth.x, self.task.truth.mask)
            found |= {f"{what}: {name}": value for name, value in values.items()}
        return found

    def _outline(self, x: Tensor, what: str) -> Tensor:
        """Where the subject is: known where its pose is told, else found."""
        family, task = self.family, self.task
        if what != NEW:
            return task.truth.mask
        return subject_masks(family.segmenter, family.clip, family.tokenizer, x, task.truth.names)

    def _of(self, x: Tensor, mask: Tensor) -> Values:
        family, truth = self.family, self.task.truth
        seen = similarity.subject_patches(family.dino, x, mask)
        right = named(family, x, truth, truth.names)
        return {"Seg-DINO": similarity.patch_similarity(family.domain.patch_means, seen, self.looks),
                "CLIP-T": similarity.cosine(similarity.clip_images(family.clip, x), self.text),
                **{f"{part} right": values for part, values in right.items()}}


def as_lines(found: Mapping[str, Mapping[str, Figure]], first: str = "editor") -> dict[str, Figure]:
    """Figures by one name each."""
    return {f"{first}, {way}, {what}": figure for way, values in found.items() for what, figure in values.items()}


@torch.no_grad()
def sheet(family: Family, people: list[ToySubject], way: Way) -> list[Tensor]:
    """Rows for people to look at: reference, new picture, with depth, source, edit, edit of a painted mask, truth."""
    task = task_of(people, "photo")
    new, posed, edit, loose = (drawn_by(family, way, task, what) for what in (NEW, POSED, EDIT, PAINTED))
    return [task.reference.x, new, posed, task.source, edit, loose, task.truth.x]
