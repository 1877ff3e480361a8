"""The contact sheet: a few rows drawn at random, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.reasons import KEPT, REASONS
from builder.report import drawing as paper
from builder.report.samples import Row, drawn_rows
from builder.report.statistics import Statistics

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

ROWS = 16  # about; every config that has rows gets at least one line of cells
TILE_PX, TILE_GAP_PX = 192, 8
MARGIN_PX, CELL_GAP_PX, LINE_GAP_PX = 48, 30, 24
PICTURES = {"generation": ("reference", "target"), "editing": ("reference", "source", "target")}
CELLS_PER_LINE = {"generation": 3, "editing": 2}
WIDTH_PX = 2 * MARGIN_PX + 3 * (2 * TILE_PX + TILE_GAP_PX) + 2 * CELL_GAP_PX
MAIN_SCORES = ("seg_dino", "detail", "clip_t", "copy", "outside")
CONTENT_PX = WIDTH_PX - 2 * MARGIN_PX
TALLEST_CELL_PX = 340

SUBTITLES = {
    "generation": "the target shows the reference's subject as the prompt asks",
    "editing": "the target is the source with the reference's subject inside the mask",
    "rejected": "data too, with every score that was measured, so that they can be judged again",
}


def contact_sheet(output: Path, statistics: Statistics) -> Image.Image:
    """Counts and reasons on top, then rows of every config, drawn in proportion. RGB, `WIDTH_PX` wide."""
    from PIL import Image, ImageDraw

    sections = {
        config: drawn_rows(output, statistics, config, _count(statistics, config)) for config in statistics.rows
    }
    sheet = Image.new("RGB", (WIDTH_PX, _height(sections)), paper.PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _draw_header(draw, statistics, sum(map(len, sections.values())))
    for config, rows in sections.items():
        top = _draw_section(sheet, top, config, rows, statistics.rows[config])
    return sheet.crop((0, 0, WIDTH_PX, top + MARGIN_PX // 2))


def _count(statistics: Statistics, config: str) -> int:
    """How many rows of a config are shown: its share of `ROWS`, in whole lines of cells."""
    per_line = CELLS_PER_LINE.get(config, 3)
    share = statistics.rows[config] / statistics.tried * ROWS
    return per_line * max(1, round(share / per_line))


def _lines(rows: Sequence[Row]) -> list[list[Row]]:
    """Cells of one line are equally wide, so each task has lines of its own."""
    found = []
    for task, per_line in CELLS_PER_LINE.items():
        of_task = [row for row in rows if row.task == task]
        found += [of_task[start : start + per_line] for start in range(0, len(of_task), per_line)]
    return found


def _height(sections: dict[str, list[Row]]) -> int:
    """Enough for everything; the sheet is cut to what was drawn."""
    lines = sum(len(_lines(rows)) for rows in sections.values())
    return 400 + lines * (TALLEST_CELL_PX + LINE_GAP_PX) + len(sections) * 100


def _draw_header(draw: ImageDraw.ImageDraw, statistics: Statistics, shown: int) -> int:
    title = f"{statistics.kept:,} of {statistics.tried:,} pairs kept ({statistics.kept_share:.0%})"
    if not statistics.kept:
        title = (
            f"Nothing kept: all {statistics.tried:,} pairs tried were rejected" if statistics.tried else "No pair tried"
        )
    paper.write(draw, (MARGIN_PX, 40), title, 36)
    names, runs = statistics.distinct("recipe"), statistics.distinct("run8")
    facts = f"recipe {', '.join(names)} · run {', '.join(runs)} · {shown} rows drawn at random, not picked"
    paper.write(draw, (MARGIN_PX, 90), paper.wrapped(facts, 17, CONTENT_PX, 1)[0], 17, paper.GREY)
    return _draw_legend(draw, _draw_shares(draw, 128, statistics))


def _draw_shares(draw: ImageDraw.ImageDraw, top: int, statistics: Statistics) -> int:
    """One bar of all pairs tried: kept, and rejected by reason."""
    counts = {KEPT: statistics.kept, **statistics.reasons}
    inks = [paper.GREEN, *paper.REASON_INKS, *[paper.GREY] * len(counts)]
    left = float(MARGIN_PX)
    label_at, label_top = float(MARGIN_PX), top + 26
    for (reason, count), ink in zip(counts.items(), inks, strict=False):
        if not count:
            continue
        right = left + CONTENT_PX * count / max(1, statistics.tried)
        draw.rectangle((left, top, max(left, right - 2), top + 15), fill=ink)
        label = f"{reason.replace('_', ' ')} {count:,}"
        if label_at + 20 + paper.text_width(label, 16) > WIDTH_PX - MARGIN_PX:
            label_at, label_top = float(MARGIN_PX), label_top + 24
        draw.rectangle((label_at, label_top + 3, label_at + 11, label_top + 14), fill=ink)
        label_at = paper.write(draw, (label_at + 18, label_top), label, 16) + 26
        left = right
    return label_top + 24


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> int:
    at = float(MARGIN_PX)
    for ink, label in ((paper.SUBJECT, "outline of the subject's mask"), (paper.EDIT, "outline of the mask to edit")):
        draw.rounded_rectangle((at, top + 3, at + 12, top + 15), radius=3, outline=ink, width=3)
        at = paper.write(draw, (at + 19, top), label, 16, paper.GREY) + 26
    return top + 34


def _draw_section(sheet: Image.Image, top: int, config: str, rows: Sequence[Row], total: int) -> int:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(sheet)
    draw.line((MARGIN_PX, top, WIDTH_PX - MARGIN_PX, top), fill=paper.LINE, width=2)
    end = paper.write(draw, (MARGIN_PX, top + 16), config, 26)
    paper.write(draw, (end + 14, top + 24), f"{total:,} rows: {SUBTITLES[config]}", 16, paper.GREY)
    top += 62
    for line in _lines(rows):
        task = line[0].task
        width = len(PICTURES[task]) * (TILE_PX + TILE_GAP_PX) - TILE_GAP_PX
        stride = (CONTENT_PX - width) // (CELLS_PER_LINE[task] - 1)
        ends = [_draw_cell(sheet, (MARGIN_PX + number * stride, top), row, width) for number, row in enumerate(line)]
        top = max(ends) + LINE_GAP_PX
    return top


def _draw_cell(sheet: Image.Image, at: tuple[int, int], row: Row, width: int) -> int:
    """Pictures with their names above, then prompt, verdict and scores. Returns where the cell ends."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(sheet)
    left, top = at
    for number, column in enumerate(PICTURES[row.task]):
        tile_left = left + number * (TILE_PX + TILE_GAP_PX)
        paper.write(draw, (tile_left, top), column, 14, paper.GREY)
        _draw_tile(sheet, (tile_left, top + 20), row, column)
    return _draw_words(draw, (left, top + 20 + TILE_PX + 9), row, width)


def _draw_tile(sheet: Image.Image, at: tuple[int, int], row: Row, column: str) -> None:
    from PIL import ImageDraw

    data = row.picture(column)
    if data is None:
        draw = ImageDraw.Draw(sheet)
        draw.rounded_rectangle((*at, at[0] + TILE_PX - 1, at[1] + TILE_PX - 1), radius=4, fill=paper.PALE)
        centre = (at[0] + TILE_PX / 2, at[1] + TILE_PX / 2)
        draw.text(
            centre,
            "not readable" if column == "reference" else "not made",
            fill=paper.GREY,
            font=paper.font(16),
            anchor="mm",
        )
        return
    tile = paper.opened(data, TILE_PX)
    if column == "source":
        tile = paper.outlined(tile, row.picture("mask"), paper.EDIT)
    elif column == "target":
        tile = paper.outlined(tile, row.picture("target_mask"), paper.SUBJECT)
    sheet.paste(tile, at)


def _draw_words(draw: ImageDraw.ImageDraw, at: tuple[int, int], row: Row, width: int) -> int:
    left, top = at
    for line in paper.wrapped(str(row.cells["prompt"]), 18, width, 2):
        paper.write(draw, (left, top), line, 18)
        top += 23
    kept = row.reason == KEPT
    verdict = "kept" if kept else f"rejected, {row.reason.replace('_', ' ')}: {REASONS.get(row.reason, '')}"
    for line in paper.wrapped(f"{row.cells['category']} · {verdict}", 15, width, 2):
        paper.write(draw, (left, top + 2), line, 15, paper.GREEN if kept else paper.RED)
        top += 20
    _draw_scores(draw, (left, top + 4), row, width)
    return top + 24


def _draw_scores(draw: ImageDraw.ImageDraw, at: tuple[float, float], row: Row, width: int) -> None:
    """As many of the main scores as there is room for."""
    left, top = at
    for name in MAIN_SCORES:
        value = f"{row.scores[name]:.2f}" if name in row.scores else ""
        if not value or left + paper.text_width(f"{name} {value}", 14) > at[0] + width:
            continue
        end = paper.write(draw, (left, top), name, 14, paper.GREY)
        left = paper.write(draw, (end + 5, top), value, 14) + 16
