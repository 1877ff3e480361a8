"""A benchmark of DreamBench's shape in the toy world: held-out subjects, tiny metric models, and the truth known.

15 prompts of a subject name a scene, 5 also a style, 5 change its colour or surface. B batch, H, W pixels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from toffee_hf.evaluation.dreambench.drawing import Drawer, Reference, Sampling, draw_with, takes_subject, weights_hash
from toffee_hf.evaluation.dreambench.metric_models import mean_cosine, picture_pixels
from toffee_hf.evaluation.dreambench.protocol import BenchSubject, Job
from toffee_hf.evaluation.dreambench.scoring import Scored, told
from toffee_hf.evaluation.figures import Figure, psnr_inside
from toffee_hf.evaluation.heldout import Asked, Pictures, asked, pictures, references, subjects
from toffee_hf.evaluation.measure import named
from toffee_hf.evaluation.report import markdown_rows
from toffee_hf.evaluation.ways import drafts, pasted, text_to_image
from toffee_hf.family import Family
from toffee_hf.perception import similarity
from toffee_hf.perception.depth import control_picture
from toffee_hf.perception.masks import subject_masks
from toffee_hf.toy.designs import MATERIALS
from toffee_hf.toy.world import POSE_LIMIT, ToySubject, reference_shot, toy_shot, toy_subject

SUBJECTS, PHOTOS = 30, 5
KINDS = ("photo",) * 15 + ("style",) * 5 + ("colour", "texture", "colour", "texture", "colour")
COLUMNS = ("Seg-DINO", "DINO", "CLIP-I", "CLIP-T", "PSNR", "scene", "style", "class")
MODEL, RIVAL = "model", "rival"
POSED = ", depth given"               # after a model's name: the pose of the reference is told too
TEXT, PASTE, REAL = "text only", "reference pasted onto the draft", "real: the subject rendered again"


def toy_bench(count: int = SUBJECTS) -> list[BenchSubject]:
    """The first `count` held-out subjects and their prompts; their photographs are rendered, not files."""
    return [BenchSubject(_name(person), person.class_name, (), tuple(wishes(person.index).prompts))
            for person in subjects("held-out", 0, count)]


def _name(person: ToySubject) -> str:
    return f"toy-held-out-{person.index:04d}"


def _person(job: Job) -> ToySubject:
    return toy_subject("held-out", int(job.subject.rpartition("-")[2]))


@lru_cache(maxsize=SUBJECTS)
def wishes(index: int) -> Asked:
    """The prompts of a held-out subject, and what would show them. Wood has no colour: it is asked for a surface."""
    person = toy_subject("held-out", index)
    whole = Asked([], [], [])
    for number, kind in enumerate(KINDS):
        able = "texture" if kind == "colour" and person.design.name in MATERIALS else kind
        whole = whole.and_also(asked([person], able, f"/dreambench/{number}"))
    return whole


def wish_of(jobs: Sequence[Job]) -> Asked:
    """What these jobs ask for."""
    rows = [(wishes(_person(job).index), job.prompt_index) for job in jobs]
    return Asked([w.prompts[i] for w, i in rows], [w.shots[i] for w, i in rows], [w.become[i] for w, i in rows])


def photographs(person: ToySubject) -> Pictures:
    """PHOTOS photos of a subject in any place and pose that shows its front; the first is its reference."""
    choices = [random.Random(f"dreambench/photo/{person.index}/{i}") for i in range(1, PHOTOS)]
    return pictures([person] * PHOTOS, [reference_shot(person), *(
        toy_shot(choice, style="photo", yaw=choice.uniform(-POSE_LIMIT, POSE_LIMIT), occluded=0.0)
        for choice in choices)])


@dataclass(frozen=True, slots=True)
class Looks:
    """What the family's models see in N pictures: class tokens, CLIP embeddings (N, D each), patches of the subject."""

    dino: Tensor
    clip: Tensor
    patches: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, family: Family, x_N3HW: Tensor, mask_N1HW: Tensor) -> Looks:
        return cls(similarity.dino_images(family.dino, x_N3HW), similarity.clip_images(family.clip, x_N3HW),
                   similarity.subject_patches(family.dino, x_N3HW, mask_N1HW))


class ToyJudge:
    """Scores by the family's own models and by the truth. A subject's photographs are looked at once."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.photos = lru_cache(maxsize=1)(self._photos)
        self.truth = lru_cache(maxsize=len(KINDS))(self._truth)
        self.sources = {"family": {"name": family.folder.name, "sha256": weights_hash(family.folder)}}

    @torch.no_grad()
    def scores(self, jobs: Sequence[Job], shown: Sequence[Image.Image]) -> dict[str, Tensor]:
        """COLUMNS of pictures of one subject, (B,) each.

        DINO, CLIP-I and Seg-DINO are means over the subject's photographs; PSNR in dB against the truth, inside its
        mask; scene, style and class are 1 where the classifier names what was asked for.
        """
        family, wish, photos = self.family, wish_of(jobs), self.photos(_person(jobs[0]))
        truth = [self.truth(_person(job).index, job.prompt_index) for job in jobs]
        x_true, mask_true = torch.cat([t.x for t in truth]), torch.cat([t.mask for t in truth])
        x = torch.cat([_sized(picture, x_true.shape[-1]) for picture in shown])
        names = [person.class_name for person in wish.become]
        seen = Looks.of(family, x, subject_masks(family.segmenter, family.clip, family.tokenizer, x, names))
        text = similarity.clip_texts(family.clip, family.tokenizer, wish.prompts)
        alike = [similarity.patch_similarity(family.domain.patch_means, seen.patches, (features, shows))
                 for features, shows in zip(photos.patches[0].split(1, 1), photos.patches[1].split(1), strict=True)]
        return {"Seg-DINO": torch.stack(alike).mean(0), "DINO": mean_cosine(seen.dino, photos.dino),
                "CLIP-I": mean_cosine(seen.clip, photos.clip), "CLIP-T": similarity.cosine(seen.clip, text),
                "PSNR": psnr_inside(x, x_true, mask_true), **named(family, x, wish, names)}

    def _photos(self, person: ToySubject) -> Looks:
        shown = photographs(person)
        return Looks.of(self.family, shown.x, shown.mask)

    @staticmethod
    def _truth(index: int, prompt_index: int) -> Pictures:
        wish = wishes(index)
        return pictures([wish.become[prompt_index]], [wish.shots[prompt_index]])


def _sized(picture: Image.Image, size_px: int) -> Tensor:
    """(1, 3, size_px, size_px) in [-1, 1]."""
    return picture_pixels(picture if picture.size == (size_px, size_px) else picture.resize((size_px, size_px)))


def _pictures(x_B3HW: Tensor) -> list[Image.Image]:
    """PIL pictures of tensors in [-1, 1]."""
    whole = ((x_B3HW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in whole]


def _plane(mask_1HW: Tensor) -> Image.Image:
    return Image.fromarray((mask_1HW[0] * 255).round().byte().cpu().numpy())


def baselines(family: Family) -> dict[str, Drawer]:
    """Ways to compare with: the base model told in words, the reference pasted under its depth, and the ceiling."""

    def text(jobs: Sequence[Job]) -> Sequence[Image.Image]:
        return _pictures(text_to_image(family, [job.prompt for job in jobs], [job.seed for job in jobs]))

    @torch.no_grad()
    def paste(jobs: Sequence[Job]) -> Sequence[Image.Image]:
        posed = references([_person(job) for job in jobs])
        draft = drafts(family, posed, [job.prompt for job in jobs], wish_of(jobs).styles, [job.seed for job in jobs])
        return _pictures(pasted(draft, posed, posed))

    def real(jobs: Sequence[Job]) -> Sequence[Image.Image]:
        wish, choices = wish_of(jobs), [random.Random(f"dreambench/real/{job.place}/{job.seed}") for job in jobs]
        shots = [toy_shot(choice, scene=shot.scene, style=shot.style, yaw=choice.uniform(-POSE_LIMIT, POSE_LIMIT),
                          occluded=0.0) for choice, shot in zip(choices, wish.shots, strict=True)]
        return _pictures(pictures(wish.become, shots).x)

    return {TEXT: text, PASTE: paste, REAL: real}


def toy_reference(person: ToySubject, *, depth: bool) -> Reference:
    """A subject's reference picture with its true mask, and the depth of it where that is wanted."""
    shown = references([person])
    near = control_picture(shown.depth, shown.mask)[0, :1] if depth else None
    return Reference(_pictures(shown.x)[0], _plane(shown.mask[0]), None if near is None else _plane(near))


def model_drawers(name: str, pipeline: Any, sampling: Sampling) -> dict[str, Drawer]:
    """The ways of a pipeline: with the reference, and also with its depth where it follows one; else by words alone."""

    def draw(jobs: Sequence[Job], depth: bool | None) -> Sequence[Image.Image]:
        reference = None if depth is None else toy_reference(_person(jobs[0]), depth=depth)
        return draw_with(pipeline, jobs, reference, sampling)

    if not takes_subject(pipeline):
        return {name: partial(draw, depth=None)}
    return {name: partial(draw, depth=False), name + POSED: partial(draw, depth=True)}


def folder_of(output: Path, way: str) -> Path:
    """Where the pictures of a way lie."""
    return output / "images" / re.sub(r"\W+", "-", way)


def toy_table(scored: Mapping[str, Scored]) -> str:
    """Markdown: a line a way, a column a score; then how far the model is above each other way, subject by subject."""
    lines = [(way, len(s.means), *(told(s.figure(column)) for column in COLUMNS)) for way, s in scored.items()]
    table = markdown_rows(("way", "subjects", *COLUMNS), lines)
    above = [(f"{way} − {other}", *(told(Figure.of(ours.values(c) - theirs.values(c))) for c in COLUMNS))
             for way, ours in scored.items() if way in (MODEL, MODEL + POSED)
             for other, theirs in scored.items() if other not in (MODEL, MODEL + POSED)]
    return table if not above else f"{table}\n\n{markdown_rows(('difference', *COLUMNS), above)}"
