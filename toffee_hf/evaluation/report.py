"""Tables and picture sheets of a family's figures, written where the documentation keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.evaluation.figures import Figure, grid
from toffee_hf.evaluation.heldout import any_pictures, asked, jittered, pictures, references, subjects, turned_by
from toffee_hf.evaluation.measure import VIEW_TURN, measure
from toffee_hf.evaluation.ways import (
    as_built,
    drafts,
    pasted,
    posed_as,
    refined,
    text_to_image,
    through_autoencoder,
    views,
)
from toffee_hf.family import Family, open_family
from toffee_hf.perception.depth import estimate_depth
from toffee_hf.perception.masks import subject_masks
from toffee_hf.toy.world import ToySubject

FIGURES = "figures of the tiny family"
SHOWN = range(8, 16)                  # held-out subjects on the sheets
UNJUDGED = ("autoencoder", "perception", "matching", "views")      # groups of figures that ask no classifier


def write_figures(family: Path | str, docs: Path, count: int = 304, only: tuple[str, ...] = ()) -> str:
    """Measure a family; write figures and costs into docs/method.md and sheets into docs/tiny; returns the tables.

    only: these groups of figures, the others stay as they are there; none: all.
    """
    begin, end, before, after = marked(docs / "method.md", FIGURES)
    opened = open_measured(str(family), only)
    text = table(measure(opened, count, only))
    if only:
        whole = (docs / "method.md").read_text(encoding="utf-8")
        text = beside(whole.removeprefix(before + begin).removesuffix(end + after), text)
    costs = opened.folder / "training.json"
    if costs.exists():
        rows = [(name, f"{cost['samples']:,.0f}", f"{cost['minutes']:.0f}", f"{cost.get('gpu_minutes', 0):.1f}")
                for name, cost in json.loads(costs.read_text()).items()]
        heading = ("model", "training pictures", "minutes of one CPU core", "minutes of a GPU")
        text += "\n\n" + markdown_rows(heading, rows)
    write_sheets(opened, docs / "tiny")
    rewrite(docs / "method.md", FIGURES, text)
    return text


def open_measured(name: str, only: Sequence[str] = ()) -> Family:
    """A family on the CPU. Raises InputError if it has no classifier, which every figure but those of UNJUDGED asks.

    only: the groups of figures that are wanted; none: all.
    """
    family = open_family(name, "cpu")
    if not set(only or ["all"]) <= set(UNJUDGED) and not (family.folder / "classifier").is_dir():
        raise InputError(f"{family.folder} has no classifier, by which scenes and styles are judged; `toffee train "
                         f"tiny` trains one; without it `evaluate family --only {','.join(UNJUDGED)}` can be measured")
    return family


def table(found: Mapping[str, Figure], heading: tuple[str, str] = ("what", "figure")) -> str:
    """A Markdown table of figures, in their order."""
    lines = [f"| {heading[0]} | {heading[1]} | n |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {figure} | {figure.n} |" for name, figure in found.items())])


def beside(known: str, found: str) -> str:
    """A Markdown table with the lines of another of the same heading: new lines in the place of old ones of that name,
    or at the end."""
    old, new = ({line.split(" | ")[0]: line for line in text.strip().split("\n\n")[0].splitlines()}
                for text in (known, found))
    return "\n".join((old | new).values())


def rewrite(path: Path, section: str, text: str) -> None:
    """Replace what stands between the `section` markers of a Markdown file. Raises InputError where they lack."""
    begin, end, before, after = marked(path, section)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def marked(path: Path, section: str) -> tuple[str, str, str, str]:
    """The markers of a section, and what stands before and after them. Raises InputError where they lack."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"{path} has no lines {begin} and {end}; add them where the figures belong")
    return begin, end, before, after


@torch.no_grad()
def write_sheets(family: Family, folder: Path) -> list[Path]:
    """One PNG a model, of the same held-out subjects; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    people = subjects("held-out", SHOWN.start, len(SHOWN))
    written = []
    for name, draw in SHEETS.items():
        written.append(folder / f"{name}.png")
        save(grid(draw(family, people)), written[-1])
    return written


def save(picture: Any, path: Path) -> None:
    """Write a sheet as a PNG of 256 colours."""
    picture.quantize(256, dither=0).save(path, optimize=True)


def _autoencoder(family: Family, people: list[ToySubject]) -> list[Tensor]:
    shown = any_pictures(people)
    return [shown.x, through_autoencoder(family, shown.x)]


def _perception(family: Family, people: list[ToySubject]) -> list[Tensor]:
    """Picture, true mask, found mask, true depth, found depth."""
    shown = any_pictures(people)
    mask = subject_masks(family.segmenter, family.clip, family.tokenizer, shown.x, shown.names)
    depth = estimate_depth(family.depth, shown.x).clamp(0, 1)
    return [shown.x, *(plane.expand(-1, 3, -1, -1) * 2 - 1 for plane in (shown.mask, mask, shown.depth, depth))]


def _text_to_image(family: Family, people: list[ToySubject]) -> list[Tensor]:
    seeds = [s.index for s in people]
    return [text_to_image(family, asked(people, kind).prompts, seeds) for kind in ("photo", "style")]


def _method(family: Family, people: list[ToySubject], kind: str) -> list[Tensor]:
    """Reference, draft, reference pasted, refined, refined from a jittered reference that was turned, truth."""
    same, wish = references(people), asked(people, kind)
    draft = drafts(family, same, wish.prompts, wish.styles)
    return [same.x, draft.x, pasted(draft, same, same),
            *(refined(family, draft, same, reference, wish.prompts, placed=placed, **as_built(wish))
              for reference, placed in ((same, False), (posed_as(family, same, jittered(people)), True))),
            pictures(people, wish.shots).x]


def _views(family: Family, people: list[ToySubject]) -> list[Tensor]:
    """Reference; view and truth to one side; view and truth to the other."""
    shown, rows = references(people), []
    for turn in (VIEW_TURN, -VIEW_TURN):
        turns = [turn] * len(people)
        rows += [views(family, shown, turns), turned_by(people, turns).x]
    return [shown.x, *rows]


SHEETS: dict[str, Callable[[Family, list[ToySubject]], list[Tensor]]] = {
    "autoencoder": _autoencoder, "perception": _perception, "text_to_image": _text_to_image,
    "photo_prompts": lambda family, people: _method(family, people, "photo"),
    "style_prompts": lambda family, people: _method(family, people, "style"), "views": _views,
}


def markdown_rows(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table of anything."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
