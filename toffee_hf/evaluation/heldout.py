"""Pictures of subjects that no training has seen, and what they are asked to become. B batch, H, W pixels."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toffee_hf.toy.captions import POSES, article, in_style, place
from toffee_hf.toy.designs import COLOURS
from toffee_hf.toy.render import Shot
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import Split, ToySubject, reference_shot, toy_shot, toy_subject

POSE_TURN = 1.1                       # radians of a pose prompt
SURFACES = ("striped", "polka-dot", "checkered", "zigzag", "wooden", "marble", "golden")
JITTER_TURN, JITTER_SIZE, JITTER_SHIFT = 0.3, 0.12, 0.05     # radians; part of the size; part of the frame


@dataclass(frozen=True, slots=True)
class Pictures:
    """A batch of pictures: x (B, 3, H, W) in [-1, 1], mask and depth (B, 1, H, W) in [0, 1]."""

    subjects: list[ToySubject]
    shots: list[Shot]
    x: Tensor
    mask: Tensor
    depth: Tensor

    @property
    def names(self) -> list[str]:
        return [subject.class_name for subject in self.subjects]

    @property
    def styles(self) -> list[str]:
        return [shot.style for shot in self.shots]


@dataclass(frozen=True, slots=True)
class Asked:
    """Prompts, and the shots and subjects that would show them."""

    prompts: list[str]
    shots: list[Shot]
    become: list[ToySubject]

    @property
    def styles(self) -> list[str]:
        return [shot.style for shot in self.shots]

    def and_also(self, other: Asked) -> Asked:
        """Both, one after the other."""
        return Asked(self.prompts + other.prompts, self.shots + other.shots, self.become + other.become)


def pictures(subjects: list[ToySubject], shots: list[Shot]) -> Pictures:
    """One picture of each subject."""
    shown = [subject.render([shot]) for subject, shot in zip(subjects, shots, strict=True)]
    image, mask, depth = (torch.cat([getattr(r, field) for r in shown]) for field in ("image", "mask", "depth"))
    return Pictures(subjects, shots, image * 2 - 1, mask, depth)


def subjects(split: Split, first: int, count: int) -> list[ToySubject]:
    return [toy_subject(split, i) for i in range(first, first + count)]


def references(people: list[ToySubject]) -> Pictures:
    """The reference picture of each subject."""
    return pictures(people, [reference_shot(subject) for subject in people])


def any_pictures(people: list[ToySubject]) -> Pictures:
    """A picture of each subject in any pose, scene and style."""
    return pictures(people, [toy_shot(random.Random(f"held-out/{subject.index}")) for subject in people])


def jittered(people: list[ToySubject]) -> Pictures:
    """The references again, turned by up to ±0.3 rad, up to 12 % nearer or farther, and shifted."""
    return pictures(people, [_jittered(reference_shot(s), random.Random(f"jitter/{s.index}")) for s in people])


def _jittered(shot: Shot, choice: random.Random) -> Shot:
    camera = shot.camera
    shift = (camera.shift[0] + choice.uniform(-JITTER_SHIFT, JITTER_SHIFT),
             camera.shift[1] + choice.uniform(-JITTER_SHIFT, JITTER_SHIFT))
    return replace(shot, camera=replace(camera, yaw=camera.yaw + choice.uniform(-JITTER_TURN, JITTER_TURN), shift=shift,
                                        distance=camera.distance * (1 + choice.uniform(-JITTER_SIZE, JITTER_SIZE))))


def turned_by(people: list[ToySubject], turns: list[float]) -> Pictures:
    """The references again with the subject turned about its vertical axis by these radians, all else as it was."""
    shots = [reference_shot(subject) for subject in people]
    return pictures(people, [replace(shot, camera=replace(shot.camera, yaw=shot.camera.yaw + turn))
                             for shot, turn in zip(shots, turns, strict=True)])


def asked(people: list[ToySubject], kind: str, variant: str = "") -> Asked:
    """What each subject is asked to become; another variant is another prompt.

    kind: `photo` (any scene), `style` (and another style), `pose` (and turned to a side), `colour` or `texture`
    (and in another colour or surface). Only pose changes the camera.
    """
    wishes = [_asked(subject, kind, random.Random(f"asked/{kind}/{subject.index}{variant}")) for subject in people]
    prompts, shots, become = zip(*wishes, strict=True)
    return Asked(list(prompts), list(shots), list(become))


def _asked(subject: ToySubject, kind: str, choice: random.Random) -> tuple[str, Shot, ToySubject]:
    scene = choice.choice(list(SCENES))
    style = choice.choice([s for s in STYLES if s != "photo"]) if kind == "style" else "photo"
    words, become, turn = subject.class_name, subject, 0.0
    if kind == "colour":
        colour = choice.choice([name for name in COLOURS if name != subject.design.palette[0]])
        words, become = f"{colour} {words}", subject.recoloured(colour)
    if kind == "texture":
        surface = choice.choice([name for name in SURFACES if name != subject.design.name])
        words, become = f"{surface} {words}", subject.resurfaced(surface)
    words = article(words)
    if kind == "pose":
        side, turn = choice.choice((("left", -POSE_TURN), ("right", POSE_TURN)))
        words += " " + POSES[side]
    prompt = in_style(style, f"{words} {place(scene, choice)}", choice)
    first = reference_shot(subject)
    camera = replace(first.camera, yaw=first.camera.yaw + turn)
    return prompt, replace(first, camera=camera, scene=scene, style=style, scene_seed=choice.randrange(2**31)), become
