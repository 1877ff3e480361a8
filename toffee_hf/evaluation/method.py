"""The method against its rivals on held-out subjects, by category of change: quality, identity, text, cost.

B batch, H, W pixels. Drafts are drawn under true masks and depth for all ways alike; *pose* targets follow a new view
by the View Generator, as they do when a dataset is built. Seconds are those of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toffee_hf.evaluation.dreambooth import Tuning, dreambooth
from toffee_hf.evaluation.figures import psnr_inside, ssim_inside
from toffee_hf.evaluation.heldout import Asked, Pictures, asked, jittered, pictures, references, subjects, turned_by
from toffee_hf.evaluation.measure import BATCH, VIEW_TURN
from toffee_hf.evaluation.ways import Drafts, as_built, drafts, lit, pasted, refined, through_autoencoder, views
from toffee_hf.family import Family
from toffee_hf.perception import similarity
from toffee_hf.perception.depth import estimate_depth
from toffee_hf.perception.masks import subject_masks
from toffee_hf.pipelines.pipeline_toffee_refiner import LUMINANCE, blurred, laid
from toffee_hf.toy.designs import MATERIALS
from toffee_hf.toy.world import ToySubject

KINDS = ("photo", "style", "pose", "colour", "texture")
JITTERED, VIEW, TUNED = "photo, jittered reference", "view", "tuned subjects"
DREAMBOOTH = "DreamBooth-LoRA"
GROUPS = ("photo", JITTERED, *KINDS[1:], VIEW, TUNED)
MANY = ("photo", "style", VIEW)       # groups with targets to reach: every subject; the others: a quarter of them
TRANSFERS = {"colour": "pattern", "texture": "palette"}
COLUMNS = ("PSNR", "SSIM", "Seg-DINO", "CLIP-T", "style", "copy", "seconds")
REFERENCE, STEPS, TURNED = "reference", "tuning steps", "steps left of the best"
PASTED, VIEW_PASTED = "reference pasted", "new view pasted"
RELIT, TRULY_LIT = "pasted and relit", "pasted, lit by the truth"
TUNED_KINDS = ("photo", "style", "photo", "style", "photo")     # of the prompts that share one tuning
LIGHT_PX = 24                         # reach of the blur that tells light from paint
Values = dict[str, list[float]]       # of COLUMNS, one a pair; DreamBooth-LoRA has STEPS and TURNED besides


@dataclass(frozen=True, slots=True)
class Part:
    """What one process compares at a time: `count` held-out subjects of one group, from `first`."""

    group: str
    first: int
    count: int
    tuning: Tuning | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a way made: pictures (B, 3, H, W) in [-1, 1], seconds of one thread a picture, and the subject's mask in
    them (B, 1, H, W), None where it is the truth's."""

    way: str
    x: Tensor
    seconds: float
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of one group. subjects: held-out numbers, which are also the seeds; values: by way; pictures: by way,
    (B, H, W, 3) uint8; the first row is the reference."""

    group: str
    subjects: list[int]
    prompts: list[str]
    values: dict[str, Values]
    pictures: dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """One batch. reference: what the subject is known by; source: what details are taken from, the reference or its
    new view, made in `seconds`; posed: what the target's layout follows; prompts; the truth."""

    kind: str
    reference: Pictures
    source: Pictures
    posed: Pictures
    wish: Asked
    truth: Pictures
    seconds: float = 0.0


def plan(count: int, tuned: int, tuning: Tuning) -> list[Part]:
    """Parts for `count` subjects a group of MANY, a quarter in the others, `tuned` subjects tuned; slow ones first."""
    parts = [Part(TUNED, person, 1, tuning) for person in range(tuned)]
    for group in (*KINDS, VIEW):
        people = count if group in MANY else max(2, count // 4)
        parts += [Part(group, first, min(BATCH, people - first)) for first in range(0, people, BATCH)]
    return parts


def compare(family: Family, part: Part) -> list[Compared]:
    """Every way's figures and pictures of a part; photo prompts also with a jittered reference."""
    warm(family)
    people = subjects("held-out", part.first, part.count)
    if part.group == VIEW:
        return [_views(family, people)]
    if part.group == TUNED and part.tuning is not None:
        return [_tuned(family, people[0], part.tuning)]
    return _targets(family, people, part.group)


@cache
def warm(family: Family) -> None:
    """Load the models and draw one picture, so that no way's seconds hold that."""
    shown = references(subjects("held-out", 0, 1))
    draft = drafts(family, shown, ["a photo"], ["photo"])
    refined(family, draft, shown, shown, ["a photo"])
    views(family, shown, [VIEW_TURN])
    subject_masks(family.segmenter, family.clip, family.tokenizer, shown.x, shown.names)


@torch.no_grad()
def _targets(family: Family, people: list[ToySubject], kind: str) -> list[Compared]:
    able = [p for p in people if kind != "colour" or p.design.name not in MATERIALS]   # wood has no colour
    if not able:
        return []
    task = task_of(family, able, kind)
    draft, draft_s = _timed(lambda: drafts(family, task.posed, task.wish.prompts, task.wish.styles))
    tasks = [task]
    if kind == "photo":
        moved = jittered(able)
        tasks.append(replace(task, kind=JITTERED, reference=moved, source=moved))
    return [compared(family, t, ways(family, t, draft, draft_s)) for t in tasks]


def task_of(family: Family, people: list[ToySubject], kind: str) -> Task:
    """References, prompts of that kind and the truth; a pose is a new view, with its estimated mask and depth."""
    reference, wish = references(people), asked(people, kind)
    truth = pictures(wish.become, wish.shots)
    if kind != "pose":
        return Task(kind, reference, reference, reference, wish, truth)
    turns = [w.camera.yaw - r.camera.yaw for w, r in zip(wish.shots, reference.shots, strict=True)]

    def turned() -> Pictures:
        x = views(family, reference, turns)
        mask = subject_masks(family.segmenter, family.clip, family.tokenizer, x, reference.names)
        return Pictures(people, wish.shots, x, mask, estimate_depth(family.depth, x))

    view, seconds = _timed(turned)
    return Task(kind, reference, view, view, wish, truth, seconds)


def ways(family: Family, task: Task, draft: Drafts, draft_s: float) -> Iterator[Made]:
    """What each way makes of the same drafts, which took `draft_s` in all."""
    source, posed, prompts, count = task.source, task.posed, task.wish.prompts, len(task.wish.prompts)
    before = draft_s + task.seconds
    yield Made("draft", draft.x, before / count)
    for way, given in ((PASTED, task.reference), *(((VIEW_PASTED, source),) if source is not task.reference else ())):
        paste, paste_s = _timed(partial(pasted, draft, posed, given))
        yield Made(way, paste, (before + paste_s) / count, _laid_mask(posed, given))
    for way, relight in ((RELIT, lambda: pasted(draft, posed, lit(family, draft, posed, source))),
                         (TRULY_LIT, partial(relit_paste, draft, posed, source, task.truth.x))):
        relit, relit_s = _timed(relight)
        yield Made(way, relit, (before + relit_s) / count, _laid_mask(posed, source))
    transfer = TRANSFERS.get(task.kind, "full")
    target, refine_s = _timed(lambda: refined(family, draft, posed, source, prompts, **as_built(task.wish, transfer)))
    yield Made("Refiner", target, (before + refine_s) / count)
    yield from _truths(family, task.truth)


def _truths(family: Family, truth: Pictures) -> Iterator[Made]:
    yield Made("truth through the autoencoder", through_autoencoder(family, truth.x), 0.0)
    yield Made("truth", truth.x, 0.0)


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What is made, and the processor's seconds that it took, in which other work does not count."""
    started = time.process_time()
    made = make()
    return made, time.process_time() - started


def _laid_mask(posed: Pictures, source: Pictures) -> Tensor:
    return laid(posed.mask, source.x, source.mask)[1]


def relit_paste(draft: Drafts, posed: Pictures, source: Pictures, light_B3HW: Tensor) -> Tensor:
    """The subject pasted by the boxes of the masks under the blurred luminance of a picture of the same layout."""
    subject, seen = laid(posed.mask, source.x, source.mask)
    subject = subject / seen.clamp_min(1e-3)
    weights = draft.x.new_tensor(LUMINANCE)[:, None, None]

    def light(x: Tensor) -> Tensor:
        grey = ((x + 1) / 2 * weights).sum(1, keepdim=True)
        return blurred(grey * seen, LIGHT_PX) / blurred(seen, LIGHT_PX).clamp_min(1e-3)

    gain = ((light(light_B3HW) + 0.05) / (light(subject) + 0.05)).clamp(0.4, 2.5)
    return draft.x * (1 - seen) + (((subject + 1) / 2 * gain).clamp(0, 1) * 2 - 1) * seen


@torch.no_grad()
def compared(family: Family, task: Task, made: Iterator[Made], tuning: Mapping[str, float] | None = None
             ) -> Compared:
    """Figures and pictures of what was made. tuning: STEPS and TURNED of DreamBooth-LoRA."""
    values: dict[str, Values] = {}
    drawn = {} if task.kind == VIEW else {REFERENCE: _bytes(task.reference.x)}
    for one in made:
        values[one.way] = {column: value.tolist() for column, value in scores(family, task, one).items()}
        drawn[one.way] = _bytes(one.x)
        if tuning and one.way == DREAMBOOTH:
            values[one.way] |= {column: [value] * len(one.x) for column, value in tuning.items()}
    return Compared(task.kind, [s.index for s in task.reference.subjects], task.wish.prompts, values, drawn)


def _bytes(x_B3HW: Tensor) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = ((x_B3HW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return found


def scores(family: Family, task: Task, made: Made) -> dict[str, Tensor]:
    """COLUMNS of pictures, (B,) each; identity is that of the reference, fidelity that of the truth."""
    truth, means, x_B3HW = task.truth, family.domain.patch_means, made.x
    mask = truth.mask if made.mask is None else made.mask
    clip, dino, shown = family.clip, family.dino, task.reference
    text = similarity.clip_texts(clip, family.tokenizer, task.wish.prompts)
    style = family.classifier.answers(x_B3HW)["style"]
    return {
        "PSNR": psnr_inside(x_B3HW, truth.x, truth.mask), "SSIM": ssim_inside(x_B3HW, truth.x, truth.mask),
        "Seg-DINO": similarity.subject_similarity(dino, means, x_B3HW, mask, shown.x, shown.mask),
        "CLIP-T": similarity.cosine(similarity.clip_images(clip, x_B3HW), text),
        "style": torch.tensor([float(a == s.style) for a, s in zip(style, task.wish.shots, strict=True)]),
        "copy": similarity.copy_score(dino, x_B3HW, shown.x), "seconds": torch.full((len(x_B3HW),), made.seconds)}


def _tuned(family: Family, person: ToySubject, tuning: Tuning) -> Compared:
    """DreamBooth-LoRA and the method on one subject: five prompts, three photos and two styles, share its tuning."""
    wish = asked([person], TUNED_KINDS[0])
    for i, kind in enumerate(TUNED_KINDS[1:]):
        wish = wish.and_also(asked([person], kind, f"/{i}"))
    same = references([person] * len(wish.prompts))
    task = Task(TUNED, same, same, same, wish, pictures(wish.become, wish.shots))
    tuned = dreambooth(family, same, same, wish.prompts, task.truth, tuning)

    def made() -> Iterator[Made]:
        draft, draft_s = _timed(lambda: drafts(family, same, wish.prompts, wish.styles))
        yield Made(DREAMBOOTH, tuned.x, (tuned.tuning_s + tuned.sampling_s) / len(wish.prompts))
        yield from ways(family, task, draft, draft_s)

    return compared(family, task, made(), {STEPS: float(tuned.steps), TURNED: float(tuned.after_best)})


@torch.no_grad()
def _views(family: Family, people: list[ToySubject]) -> Compared:
    """The View Generator against the reference copied, turned to both sides."""
    turns = [VIEW_TURN if person.index % 2 else -VIEW_TURN for person in people]
    shown, truth = references(people), turned_by(people, turns)
    wish = Asked([f"a photo of a {name}" for name in shown.names], truth.shots, people)
    view, seconds = _timed(lambda: views(family, shown, turns))

    def made() -> Iterator[Made]:
        yield Made("reference copied", shown.x, 0.0, shown.mask)
        yield Made("View Generator", view, seconds / len(people))
        yield from _truths(family, truth)

    return compared(family, Task(VIEW, shown, shown, shown, wish, truth), made())
