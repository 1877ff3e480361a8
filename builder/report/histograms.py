"""Histograms of every score, kept pairs against rejected ones: where the thresholds cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.columns import SCORES
from builder.report import drawing as paper
from builder.report.samples import score_rows
from builder.report.statistics import Statistics

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

BINS = 40
PANEL_PX, PANEL_HEIGHT_PX, MARGIN_PX, GAP_PX, PER_LINE = 392, 230, 48, 32, 3


def score_histograms(output: Path, statistics: Statistics) -> Image.Image:
    """One panel per score that any row has: kept in green upon rejected in red. RGB."""
    from PIL import Image, ImageDraw

    kept, rejected = _scores(output, statistics)
    names = [name for name in SCORES if kept[name] or rejected[name]]
    lines = max(1, -(-len(names) // PER_LINE))
    size = (2 * MARGIN_PX + PER_LINE * PANEL_PX + (PER_LINE - 1) * GAP_PX, 150 + lines * (PANEL_HEIGHT_PX + GAP_PX))
    sheet = Image.new("RGB", size, paper.PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, sum(1 for name in names), statistics)
    for number, name in enumerate(names):
        left = MARGIN_PX + number % PER_LINE * (PANEL_PX + GAP_PX)
        top = 130 + number // PER_LINE * (PANEL_HEIGHT_PX + GAP_PX)
        _draw_panel(draw, (left, top), name, kept[name], rejected[name])
    return sheet


def _scores(output: Path, statistics: Statistics) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Measured scores by name, of kept rows and of rejected ones."""
    kept: dict[str, list[float]] = {name: [] for name in SCORES}
    rejected: dict[str, list[float]] = {name: [] for name in SCORES}
    for config in statistics.rows:
        side = rejected if config == "rejected" else kept
        for scores in score_rows(output, statistics, config):
            for name, value in scores.items():
                if value is not None and name in side:
                    side[name].append(value)
    return kept, rejected


def _draw_header(draw: ImageDraw.ImageDraw, panels: int, statistics: Statistics) -> None:
    paper.write(draw, (MARGIN_PX, 36), "Scores" if panels else "No score was measured", 34)
    at = float(MARGIN_PX)
    for ink, label in (
        (paper.GREEN, f"kept {statistics.kept:,}"),
        (paper.RED, f"rejected {statistics.tried - statistics.kept:,}"),
    ):
        draw.rectangle((at, 87, at + 11, 98), fill=ink)
        at = paper.write(draw, (at + 18, 84), label, 16) + 26
    paper.write(draw, (at, 84), "a pair that fell early has no later scores", 16, paper.GREY)


def _draw_panel(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], name: str, kept: Sequence[float], rejected: Sequence[float]
) -> None:
    low, high = _span([*kept, *rejected])
    left, top = at
    floor, room = top + PANEL_HEIGHT_PX - 28, PANEL_HEIGHT_PX - 92
    end = paper.write(draw, (left, top), name, 20)
    paper.write(draw, (end + 12, top + 4), f"{len(kept) + len(rejected):,} rows", 15, paper.GREY)
    for line in paper.wrapped(SCORES[name], 13, PANEL_PX, 2):
        top += 17
        paper.write(draw, (left, top + 9), line, 13, paper.GREY)
    below, above = _binned(rejected, low, high), _binned(kept, low, high)
    scale = room / max(1, *(a + b for a, b in zip(above, below, strict=True)))
    width = PANEL_PX / BINS
    for number, (good, bad) in enumerate(zip(above, below, strict=True)):
        bar_left, bar_right = left + number * width, left + (number + 1) * width - 2
        middle = floor - bad * scale
        if bad:
            draw.rectangle((bar_left, middle, bar_right, floor), fill=paper.RED)
        if good:
            draw.rectangle((bar_left, middle - good * scale, bar_right, middle), fill=paper.GREEN)
    draw.line((left, floor + 1, left + PANEL_PX, floor + 1), fill=paper.INK, width=1)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        value = f"{low + share * (high - low):.2f}"
        draw.text((left + share * PANEL_PX, floor + 7), value, fill=paper.GREY, font=paper.font(14), anchor=anchor)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The axis: the range of the values, opened to tenths."""
    low, high = int(min(values) * 10 - 0.999) / 10, int(max(values) * 10 + 0.999) / 10
    return (low, high) if high > low else (low, low + 0.1)


def _binned(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, int((value - low) / (high - low) * BINS)))] += 1
    return counts
