"""What `method` has compared as tables and pictures, with the seeds of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.evaluation.figures import Figure
from toffee_hf.evaluation.method import (
    COLUMNS,
    DREAMBOOTH,
    GROUPS,
    JITTERED,
    KINDS,
    PASTED,
    RELIT,
    STEPS,
    TUNED,
    TURNED,
    VIEW,
    VIEW_PASTED,
    Compared,
    Part,
    compare,
)
from toffee_hf.evaluation.processes import spread
from toffee_hf.evaluation.report import markdown_rows, marked, rewrite, save
from toffee_hf.family import Family

METHOD = "method against its rivals"
ALL = "all"
NEAREST = "truth through the autoencoder"
# sheet: its groups, and how many pairs of each
SHEETS = {"method": (GROUPS[:-2], 2), "method_views": ((VIEW,), 8), "method_tuned": ((TUNED,), 10)}
# group: what is held against what
RIVALS = {**{group: ("Refiner", ("draft", PASTED, RELIT))
             for group in (*KINDS, JITTERED, ALL)},
          VIEW: ("View Generator", ("reference copied",)), TUNED: ("Refiner", (DREAMBOOTH,))}


class Comparison:
    """Figures of every pair seen so far, and the pairs that the sheets show."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[str, list[float]]] = {}
        self.people: dict[tuple[str, str], list[int]] = {}
        self.shown: dict[str, list[tuple[str, Any]]] = {group: [] for group in GROUPS}
        self.ways: dict[str, list[str]] = {}

    def add(self, found: Compared) -> None:
        """Take one part in."""
        for way, values in found.values.items():
            groups = (found.group, ALL) if found.group in KINDS and way != VIEW_PASTED else (found.group,)
            for group in groups:
                held = self.values.setdefault((group, way), {})
                self.people.setdefault((group, way), []).extend(found.subjects)
                for column, some in values.items():
                    held.setdefault(column, []).extend(some)
        self.ways[found.group] = on_sheets(found)
        wanted = next(count for groups, count in SHEETS.values() if found.group in groups)
        few = self.shown[found.group]
        for i in range(min(len(found.subjects), wanted - len(few))):
            few.append((f"{found.subjects[i]} “{found.prompts[i]}”", strip(found, i, on_sheets(found))))

    def column(self, group: str, way: str, column: str) -> Tensor:
        """Mean over the pairs of each of N subjects, (N,), in the order of their numbers: its pairs are no N values."""
        values, people = torch.tensor(self.values[group, way][column]), torch.tensor(self.people[group, way])
        known, of = people.unique(return_inverse=True)
        total: Tensor = torch.zeros(len(known), dtype=values.dtype).index_add(0, of, values)
        mean: Tensor = total / of.bincount(minlength=len(known))
        return mean

    def groups(self) -> list[str]:
        """Those compared, in the order of the tables."""
        seen = {group for group, _ in self.values}
        return [group for group in (*GROUPS[:-2], ALL, VIEW, TUNED) if group in seen]

    def text(self, docs: Path | None = None) -> str:
        """Both tables, the cost of tuning, and what the sheets in `docs`/tiny show."""
        parts = [self.table(), self.gains()]
        if TUNED in self.groups():
            parts.append(self._cost())
        if docs is not None:
            parts.append("\n".join(self._legend(name) for name in SHEETS if self._columns(name)))
        return "\n\n".join(parts)

    def table(self) -> str:
        """A line a way, a column a score."""
        lines = []
        for group in self.groups():
            for way in [way for g, way in self.values if g == group]:
                found = [Figure.of(self.column(group, way, column)) for column in COLUMNS]
                lines.append((f"{group}: {way}", len(self.people[group, way]), found[0].n, *found))
        return markdown_rows(("way", "pairs", "subjects", *COLUMNS), lines)

    def gains(self) -> str:
        """Mean differences, pair by pair, and the part of the way to the best that the autoencoder allows."""
        lines = []
        for group in self.groups():
            own, rivals = RIVALS[group]
            for rival in rivals:
                lines.append((f"{group}: {own} - {rival}", *self._gain(group, own, rival)))
        heading = ("pair by pair", "PSNR, dB", "of the gap to the autoencoder's truth", "SSIM", "Seg-DINO", "CLIP-T",
                   "style")
        return markdown_rows(heading, lines)

    def _gain(self, group: str, own: str, rival: str) -> tuple[object, ...]:
        def more(column: str) -> Figure:
            return Figure.of(self.column(group, own, column) - self.column(group, rival, column))

        gap = (self.column(group, NEAREST, "PSNR") - self.column(group, rival, "PSNR")).double().mean().item()
        return (more("PSNR"), f"{more('PSNR').mean / gap:.0%}", *(more(c) for c in COLUMNS[1:5]))

    def _cost(self) -> str:
        """How often a pair of the method goes into one that is tuned for."""
        tuned, refined = (self.column(TUNED, way, "seconds").mean().item() for way in (DREAMBOOTH, "Refiner"))
        steps, turned = (self.column(TUNED, DREAMBOOTH, column) for column in (STEPS, TURNED))
        return (f"{DREAMBOOTH} took {steps.mean():.0f} steps in the mean until the first checkpoint within 0.2 dB of "
                f"its own best ({(turned == 0).sum()} of {len(turned)} subjects had their best at the last one), and "
                f"costs {tuned / refined:.0f} times the seconds of the Refiner a pair: {tuned:.1f} s against "
                f"{refined:.2f} s of one thread, its tuning shared by five pairs.")

    def _columns(self, sheet: str) -> list[tuple[str, str, Any]]:
        """Group, what is shown, and the strip of each column of a sheet."""
        return [(group, *some) for group in SHEETS[sheet][0] for some in self.shown[group]]

    def _legend(self, sheet: str) -> str:
        columns = self._columns(sheet)
        rows = ", ".join(self.ways[columns[0][0]])
        shown = "; ".join(f"{group} {what}" for group, what, _ in columns)
        return (f"[tiny/{sheet}.png](tiny/{sheet}.png), from top to bottom: {rows}; from left to right, each with the "
                f"number of the held-out subject, which is also the seed: {shown}.")

    def write_sheets(self, folder: Path) -> None:
        """The sheets that hold anything, as PNG."""
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        for name in SHEETS:
            columns = [column for *_, column in self._columns(name)]
            if columns:
                save(Image.fromarray(np.concatenate(columns, 1)), folder / f"{name}.png")


def on_sheets(found: Compared) -> list[str]:
    """The ways that every group of a sheet has."""
    return [way for way in found.pictures if way != VIEW_PASTED]


def strip(found: Compared, i: int, ways: list[str]) -> np.ndarray[Any, Any]:
    """These ways' pictures of pair i, one under the other, (ways · H, W, 3) uint8."""
    return np.concatenate([found.pictures[way][i] for way in ways], 0)


def write_pairs(found: Compared, folder: Path) -> None:
    """One PNG a pair, and a line of `pairs.jsonl`: subject, seed, prompt, the ways from top to bottom, their scores."""
    from PIL import Image

    with (folder / "pairs.jsonl").open("a", encoding="utf-8") as lines:
        for i, subject in enumerate(found.subjects):
            name = f"{found.group.replace(',', '').replace(' ', '_')}-{subject:04d}"
            name += f"-{i}" if found.group == TUNED else ""
            whole = strip(found, i, list(found.pictures))
            Image.fromarray(whole).save(folder / f"{name}.png")    # in true colour: scores can be had from it
            told = {"file": f"{name}.png", "group": found.group, "subject": f"toy-held-out-{subject:04d}",
                    "seed": subject, "prompt": found.prompts[i], "ways": list(found.pictures),
                    "scores": {way: {c: v[i] for c, v in values.items()} for way, values in found.values.items()}}
            lines.write(json.dumps(told, ensure_ascii=False) + "\n")


def compare_all(family: Family, parts: list[Part], workers: int, docs: Path | None = None,
                pictures: Path | None = None) -> str:
    """The tables of everything in `parts`; into docs/method.md with sheets in docs/tiny, and every picture, if asked.

    Raises InputError where docs/method.md has no place for them, before anything is compared.
    """
    if docs is not None:
        marked(docs / "method.md", METHOD)
    if pictures is not None:
        try:
            pictures.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise InputError(f"--pictures {pictures} cannot be made ({err.strerror})") from err
    comparison = Comparison()
    for found in _found(family, parts, workers):
        comparison.add(found)
        if pictures is not None:
            write_pairs(found, pictures)
    text = comparison.text(docs)
    if docs is not None:
        comparison.write_sheets(docs / "tiny")
        rewrite(docs / "method.md", METHOD, text)
    return text


def _found(family: Family, parts: list[Part], workers: int) -> Iterator[Compared]:
    for some in spread(compare, family, parts, workers, "method"):
        yield from some
