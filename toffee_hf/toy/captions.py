"""Captions and prompts of the toy world: one wording for training the text encoder and for asking afterwards."""

from __future__ import annotations

import random
from dataclasses import dataclass

from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS, Design
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES

GLYPHS = ("heart", "star", "cross", "moon", "arrow")
POSES = {"front": "seen from the front", "left": "turned to the left", "right": "turned to the right",
         "back": "seen from behind"}


def pose_word(yaw: float) -> str:
    """The pose that a yaw in radians shows: its nearest quarter turn, left and right being the viewer's."""
    quarter = round(yaw / 1.5707963) % 4
    return ("front", "right", "back", "left")[quarter]


def article(words: str) -> str:
    """`words` with its indefinite article."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def described(class_name: str, design: Design, choice: random.Random) -> str:
    """The subject in words, with its colours or design or without."""
    first, second, _ = design.palette
    if design.name in MATERIALS:
        return f"{design.name} {class_name}"
    if design.name in GLYPHS:
        with_figure = f"{first} {class_name} with a {second} {design.name}"
        return choice.choice((with_figure, f"{first} {class_name}", class_name))
    return choice.choice((f"{first} and {second} {design.name} {class_name}", f"{first} and {second} {class_name}",
                          f"{design.name} {class_name}", f"{first} {class_name}", class_name))


def place(scene: str, choice: random.Random) -> str:
    return choice.choice(SCENES[scene].phrases)


def in_style(style: str, words: str, choice: random.Random) -> str:
    """`words` (with its article) as a picture of `style`."""
    return choice.choice(STYLES[style].phrases).format(words)


def caption(class_name: str, design: Design, scene: str, style: str, yaw: float, choice: random.Random) -> str:
    """One of many wordings for a picture; scene and style are named nearly always, pose in a third of them."""
    words = article(described(class_name, design, choice))
    if choice.random() < 0.35:
        words += " " + POSES[pose_word(yaw)]
    if choice.random() < 0.92:
        words += " " + place(scene, choice)
    if style == "photo" and choice.random() < 0.4:
        return words
    return in_style(style, words, choice)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a prompt of the toy world asks for; None where it says nothing."""

    scene: str | None
    style: str
    pose: str | None
    colour: str | None
    surface: str | None


def understood(prompt: str) -> Wish:
    """The wish of a prompt that was made of this world's words."""
    scene = max(((len(p), name) for name, s in SCENES.items() for p in s.phrases if p in prompt), default=(0, None))[1]
    style = max(((len(p), name) for name, s in STYLES.items() for p in s.phrases
                 if all(part in prompt for part in p.split("{}"))), default=(0, "photo"))[1]
    pose = next((name for name, words in POSES.items() if words in prompt), None)
    words = _without_place(prompt, scene).split()
    return Wish(scene, style, pose, next((c for c in COLOURS if c in words), None),
                next((d for d in (*MATERIALS, *DESIGNS) if d in words), None))


def colours_of(prompt: str) -> list[str]:
    """The colours of a prompt's subject, as they are named; those of its place are not among them."""
    return [word for word in _without_place(prompt, understood(prompt).scene).split() if word in COLOURS]


def _without_place(prompt: str, scene: str | None) -> str:
    return prompt if scene is None else min((prompt.replace(p, "") for p in SCENES[scene].phrases), key=len)


def corpus(lines: int = 4000) -> list[str]:
    """Text to train a tokenizer on, seeded: covers every word that captions and prompts use."""
    from toffee_hf.toy.world import toy_subject

    choice = random.Random("corpus")
    found = []
    for i in range(lines):
        subject = toy_subject("train", i)
        scene, style, yaw = choice.choice(list(SCENES)), choice.choice(list(STYLES)), choice.uniform(-3.1, 3.1)
        found.append(caption(subject.class_name, subject.design, scene, style, yaw, choice))
    return found
