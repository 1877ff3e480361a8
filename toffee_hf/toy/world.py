"""The toy world's people and places: seeded subjects, seeded shots, and the truth about any of them.

Training and held-out subjects differ in seed and in their combination of design, first and second colour: a quarter
of the combinations, told by a hash, is held out.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, replace
from typing import Literal

from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS, Design
from toffee_hf.toy.render import Camera, Occluder, Render, Shot, render
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.shapes import PARAMETERS, SHAPES
from toffee_hf.toy.styles import STYLES

TOY_VERSION = 1
Split = Literal["train", "held-out"]
CLASSES = tuple(SHAPES)
POSE_LIMIT = 0.8                      # radians either way in which a subject's reference picture shows its front


@dataclass(frozen=True, slots=True)
class ToySubject:
    """One particular thing: its class, the parameters of its shape, and its design."""

    split: Split
    index: int
    class_name: str
    params: tuple[float, ...]
    design: Design

    def recoloured(self, colour: str) -> ToySubject:
        """The truth of a colour prompt: the same thing with its first colour replaced."""
        _, second, third = self.design.palette
        others = [name for name in (second, third, *COLOURS) if name != colour]
        second = others[0]
        third = next(name for name in (third, *others[1:]) if name not in (colour, second))
        return replace(self, design=replace(self.design, palette=(colour, second, third)))

    def resurfaced(self, design: str) -> ToySubject:
        """The truth of a texture prompt: the same shape and colours under another design or material."""
        return replace(self, design=replace(self.design, name=design))

    def render(self, shots: list[Shot], size_px: int = 128, device: str = "cpu") -> Render:
        """Pictures of this subject; see `toffee_hf.toy.render.Render`."""
        return render(self.class_name, self.params, self.design, shots, size_px, device)


def _held_out(design: str, first: str, second: str) -> bool:
    return hashlib.sha256(f"{design}/{first}/{second}".encode()).digest()[0] % 4 == 0


def toy_subject(split: Split, index: int) -> ToySubject:
    """Subject `index` ≥ 0 of a split; the same for ever (see TOY_VERSION)."""
    choice = random.Random(f"toffee-{TOY_VERSION}/{split}/{index}")
    class_name = CLASSES[index % len(CLASSES)]
    params = tuple(choice.random() for _ in range(PARAMETERS))
    while True:
        name = choice.choice([*DESIGNS, *DESIGNS, *MATERIALS])
        first, second, third = choice.sample(list(COLOURS), 3)
        if _far_apart(first, second) and _held_out(name, first, second) == (split == "held-out"):
            break
    design = Design(name, tuple(choice.random() for _ in range(4)), (first, second, third))
    return ToySubject(split, index, class_name, params, design)


def _far_apart(first: str, second: str) -> bool:
    """Whether two colours are easy to tell from each other, so that their pattern shows."""
    a, b = COLOURS[first], COLOURS[second]
    return math.dist(a, b) > 0.35


def toy_shot(choice: random.Random, *, scene: str | None = None, style: str | None = None, yaw: float | None = None,
             occluded: float = 0.12) -> Shot:
    """A shot with everything that is not given drawn from `choice`; `occluded` is the chance of a ball in front."""
    camera = Camera(yaw=choice.uniform(-math.pi, math.pi) if yaw is None else yaw, elevation=choice.uniform(0.12, 0.34),
                    distance=choice.uniform(2.4, 3.0), shift=(choice.uniform(-0.08, 0.08), choice.uniform(-0.05, 0.05)))
    ball = None
    if choice.random() < occluded:
        ball = Occluder(choice.choice((-1, 1)) * choice.uniform(0.3, 0.5), choice.uniform(0.45, 0.65),
                        choice.uniform(0.1, 0.16), choice.choice(list(COLOURS)))
    return Shot(camera, scene or choice.choice(list(SCENES)), choice.randrange(2**31),
                style or choice.choice(list(STYLES)), ball)


def reference_shot(subject: ToySubject) -> Shot:
    """The shot of a subject's reference picture: a photo, its front turned by at most POSE_LIMIT."""
    choice = random.Random(f"toffee-{TOY_VERSION}/{subject.split}/{subject.index}/reference")
    return toy_shot(choice, style="photo", yaw=choice.uniform(-POSE_LIMIT, POSE_LIMIT), occluded=0.0)
