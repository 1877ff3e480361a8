"""The Space's examples: held-out toys cut out, and a scene. `python -m toffee_hf.publishing.space_examples
FOLDER` writes the pictures and examples.json."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from toffee_hf.publishing.examples import _pil
from toffee_hf.toy.world import ToySubject, reference_shot, toy_subject

SIZE_PX = 256


@dataclass(frozen=True, slots=True)
class Example:
    """A held-out toy and what to make of it; scene: the toy whose reference picture is edited."""

    title: str
    subject: int
    prompt: str
    scene: int | None = None


EXAMPLES = (
    Example("Duck in the snow", 20, "a duck in the snow"),
    Example("Mug as a watercolour", 28, "a watercolour painting of a mug on a wooden table"),
    Example("Cat on the moon", 41, "a cat on the moon", scene=10),
)


def write_examples(folder: Path) -> list[Path]:
    """Write the pictures and `examples.json`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures, table = {}, []
    for example in EXAMPLES:
        toy = toy_subject("held-out", example.subject)
        row = {"title": example.title, "prompt": example.prompt, "subject": f"{toy.class_name}.png"}
        pictures[row["subject"]] = _cut_out(toy)
        if example.scene is not None:
            other = toy_subject("held-out", example.scene)
            row["scene"] = "scene.png"
            pictures["scene.png"] = _pil(other.render([reference_shot(other)], SIZE_PX).image)
        table.append(row)
    for name, picture in pictures.items():
        picture.save(folder / name, optimize=True)
    (folder / "examples.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return [*(folder / name for name in pictures), folder / "examples.json"]


def _cut_out(toy: ToySubject) -> Image.Image:
    """The toy alone, transparent around it."""
    shown = toy.render([replace(reference_shot(toy), scene="table")], SIZE_PX)
    picture = _pil(shown.image)
    picture.putalpha(_pil(shown.mask))
    return picture


if __name__ == "__main__":
    for path in write_examples(Path(sys.argv[1])):
        print(path)
