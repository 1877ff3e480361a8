"""The method against its rivals on held-out subjects, by category of change: quality, identity, text, cost.

B batch, H, W pixels. Drafts are drawn under true masks and depth for all ways alike; *pose* targets follow a new view
by the View Generator, as they do when a dataset is built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from toffee_hf.evaluation.dreambooth import Tuning, dreambooth
from toffee_hf.evaluation.figures import Figure, psnr_inside, ssim_inside
from toffee_hf.evaluation.heldout import Asked, Pictures, asked, pictures, references, subjects, turned_by
from toffee_hf.evaluation.measure import BATCH, VIEW_TURN
from toffee_hf.evaluation.report import markdown_rows
from toffee_hf.evaluation.ways import Drafts, drafts, pasted, refined, through_autoencoder, views
from toffee_hf.family import Family
from toffee_hf.perception import similarity
from toffee_hf.perception.depth import estimate_depth
from toffee_hf.perception.masks import subject_masks
from toffee_hf.pipelines.pipeline_toffee_refiner import LUMINANCE, blurred
from toffee_hf.toy.designs import MATERIALS

KINDS = ("photo", "style", "pose", "colour", "texture")
TRANSFERS = {"colour": "pattern", "texture": "palette"}
COLUMNS = ("PSNR", "SSIM", "Seg-DINO", "CLIP-T", "style", "copy", "seconds")
PROMPTS_TUNED = 5                     # that share one tuning
LIGHT_PX = 24                         # reach of the blur that tells light from paint
Scores = dict[str, Tensor]            # of COLUMNS, one value a picture


@dataclass(frozen=True, slots=True)
class Task:
    """One batch of one kind: references, what the target's layout follows, prompts, and the truth."""

    kind: str
    reference: Pictures
    posed: Pictures
    wish: Asked
    truth: Pictures


@torch.no_grad()
def compare(family: Family, count: int, kinds: tuple[str, ...] = KINDS) -> dict[tuple[str, str], dict[str, Figure]]:
    """Figures of COLUMNS for each (kind, way), over `count` held-out subjects a kind."""
    found: dict[tuple[str, str], list[Scores]] = {}
    for first in range(0, count, BATCH):
        people = subjects("held-out", first, min(BATCH, count - first))
        for kind in kinds:
            able = [p for p in people if kind != "colour" or p.design.name not in MATERIALS]   # wood has no colour
            if not able:
                continue
            task = task_of(family, able, kind)
            for way, x, seconds in ways(family, task):
                found.setdefault((kind, way), []).append(scores(family, task, x, seconds))
    return {key: {column: Figure.of(torch.cat([s[column] for s in some])) for column in COLUMNS}
            for key, some in found.items()}


def task_of(family: Family, people: list[Any], kind: str) -> Task:
    reference, wish = references(people), asked(people, kind)
    truth = pictures(wish.become, wish.shots)
    posed = reference
    if kind == "pose":
        turns = [w.camera.yaw - r.camera.yaw for w, r in zip(wish.shots, reference.shots, strict=True)]
        x = views(family, reference, turns)
        mask = subject_masks(family.segmenter, family.clip, family.tokenizer, x, reference.names)
        posed = Pictures(people, wish.shots, x, mask, estimate_depth(family.depth, x))
    return Task(kind, reference, posed, wish, truth)


def ways(family: Family, task: Task) -> Iterator[tuple[str, Tensor, float]]:
    """Each way's name, pictures (B, 3, H, W) in [-1, 1], and seconds a picture."""
    posed, prompts, count = task.posed, task.wish.prompts, len(task.wish.prompts)
    (draft, draft_s) = _timed(lambda: drafts(family, posed, prompts))
    yield "draft", draft.x, draft_s / count
    paste, paste_s = _timed(lambda: pasted(draft, posed, posed))
    yield "reference pasted", paste, (draft_s + paste_s) / count
    yield "pasted, light corrected", relit_paste(draft, posed), (draft_s + paste_s) / count
    transfer = TRANSFERS.get(task.kind, "full")
    target, refine_s = _timed(lambda: refined(family, draft, posed, posed, prompts, transfer=transfer))
    yield "Refiner", target, (draft_s + refine_s) / count
    yield "truth through the autoencoder", through_autoencoder(family, task.truth.x), 0.0
    yield "truth", task.truth.x, 0.0


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def relit_paste(draft: Drafts, posed: Pictures) -> Tensor:
    """The subject pasted under the draft's light: its blurred luminance takes the draft's."""
    weights = draft.x.new_tensor(LUMINANCE)[:, None, None]

    def light(x: Tensor) -> Tensor:
        grey = ((x + 1) / 2 * weights).sum(1, keepdim=True)
        return blurred(grey * posed.mask, LIGHT_PX) / blurred(posed.mask, LIGHT_PX).clamp_min(1e-3)

    gain = ((light(draft.x) + 0.05) / (light(posed.x) + 0.05)).clamp(0.4, 2.5)
    subject = (((posed.x + 1) / 2 * gain).clamp(0, 1) * 2 - 1) * posed.mask
    return draft.x * (1 - posed.mask) + subject


def scores(family: Family, task: Task, x_B3HW: Tensor, seconds: float) -> Scores:
    """COLUMNS of pictures; identity is that of the reference, fidelity that of the truth."""
    truth, means = task.truth, family.domain.patch_means
    clip, dino, shown = family.clip, family.dino, task.reference
    text = similarity.clip_texts(clip, family.tokenizer, task.wish.prompts)
    style = family.classifier.answers(x_B3HW)["style"]
    return {
        "PSNR": psnr_inside(x_B3HW, truth.x, truth.mask), "SSIM": ssim_inside(x_B3HW, truth.x, truth.mask),
        "Seg-DINO": similarity.subject_similarity(dino, means, x_B3HW, truth.mask, shown.x, shown.mask),
        "CLIP-T": similarity.cosine(similarity.clip_images(clip, x_B3HW), text),
        "style": torch.tensor([float(a == s.style) for a, s in zip(style, task.wish.shots, strict=True)]),
        "copy": similarity.copy_score(dino, x_B3HW, shown.x), "seconds": torch.full((len(x_B3HW),), seconds)}


def compare_tuned(family: Family, people: int, tuning: Tuning) -> dict[str, dict[str, Figure]]:
    """DreamBooth-LoRA and the method on the same few subjects, PROMPTS_TUNED each: three photos and two styles."""
    found: dict[str, list[Scores]] = {}
    for person in subjects("held-out", 0, people):
        kinds = ("photo", "style", "photo", "style", "photo")[:PROMPTS_TUNED]
        wish = asked([person], kinds[0])
        for i, kind in enumerate(kinds[1:]):
            wish = wish.and_also(asked([person], kind, f"/{i}"))
        same = references([person] * len(wish.prompts))
        task = Task("photo", same, same, wish, pictures(wish.become, wish.shots))
        tuned = dreambooth(family, same, same, wish.prompts, task.truth, tuning)
        seconds = (tuned.tuning_s + tuned.sampling_s) / len(wish.prompts)
        with torch.no_grad():
            rows = {"DreamBooth-LoRA": scores(family, task, tuned.x, seconds)}
            rows |= {way: scores(family, task, x, s) for way, x, s in ways(family, task) if way in ("draft", "Refiner")}
        for way, values in rows.items():
            found.setdefault(way, []).append(values)
    return {way: {column: Figure.of(torch.cat([s[column] for s in some])) for column in COLUMNS}
            for way, some in found.items()}


def comparison_table(rows: Mapping[str, Mapping[str, Figure]]) -> str:
    """Markdown: a line a way, a column a score."""
    return markdown_rows(("way", "pairs", *COLUMNS), [(name, found["PSNR"].n, *(found[c] for c in COLUMNS))
                                                      for name, found in rows.items()])


@torch.no_grad()
def compare_views(family: Family, count: int, turn: float = VIEW_TURN) -> dict[str, dict[str, Figure]]:
    """The View Generator against the reference copied, turned to both sides."""
    found: dict[str, list[Scores]] = {}
    for first in range(0, count, BATCH):
        people = subjects("held-out", first, min(BATCH, count - first))
        turns = [turn if person.index % 2 else -turn for person in people]
        shown, truth = references(people), turned_by(people, turns)
        view, seconds = _timed(partial(views, family, shown, turns))
        rows = {"reference copied": (shown.x, 0.0), "View Generator": (view, seconds / len(people)),
                "truth through the autoencoder": (through_autoencoder(family, truth.x), 0.0), "truth": (truth.x, 0.0)}
        wish = Asked([f"a photo of a {name}" for name in shown.names], truth.shots, people)
        task = Task("view", shown, shown, wish, truth)
        for way, (x, s) in rows.items():
            found.setdefault(way, []).append(scores(family, task, x, s))
    return {way: {column: Figure.of(torch.cat([s[column] for s in some])) for column in COLUMNS}
            for way, some in found.items()}
