"""HTML of the dataset tab: pairs as cards, and what a threshold keeps. Every word of a row is escaped."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from pairs import Row

TILE_PX = 192
SUBJECT, EDIT = (0, 190, 200), (255, 140, 0)      # inks of the two outlines; the second is dashed
BINS = 40
SHOWN = ("seg_dino", "detail", "clip_t", "dino", "copy")
SCORES = {
    "seg_dino": "Same subject", "detail": "Same details", "clip_t": "Follows the prompt", "dino": "Pictures alike",
    "copy": "Copied", "clip_i": "Same content", "in_domain": "Known kind of picture", "view_dino": "New view is true",
    "mask_area": "Size of the subject", "outside": "Changed outside the mask",
}
REASONS = {
    "unreadable": "the subject's picture could not be decoded",
    "out_of_domain": "the models do not know such a picture",
    "no_subject": "no subject of that name was found",
    "reference_unsound": "the subject is cut off, in pieces or too large in its picture",
    "mask_unsound": "the subject is too small or too large in the target",
    "view_mismatch": "the new view shows another thing",
    "identity_lost": "the target shows another thing",
    "copy_paste": "the target repeats the reference",
    "prompt_missed": "the target is not what the prompt asks for",
    "stage_failed": "an error while it was made",
    "score_invalid": "a measurement failed",
}


def card(row: Row, pictures: dict[str, Any]) -> str:
    """One pair as a list item."""
    words, reason = row.words, row.reason
    subject = escape(str(words.get("class_name") or "subject"))
    tiles = "".join(_tile(pictures, *what, subject) for what in (
        ("reference", "reference_mask", SUBJECT), ("source", "mask", EDIT), ("target", "target_mask", SUBJECT)))
    why = escape(REASONS.get(reason, reason.replace("_", " ")))
    verdict = (f'<p class="verdict rejected"><b>✗ rejected</b> {why}</p>' if reason else
               '<p class="verdict kept"><b>✓ kept</b></p>')
    scores = "".join(f"<div><dt>{SCORES[name]}</dt><dd>{value:.2f}</dd></div>" for name in SHOWN
                     if (value := (words.get("scores") or {}).get(name)) is not None)
    return (f'<li class="pair"><div class="tiles">{tiles}</div><h3>{escape(str(words.get("prompt") or ""))}</h3>'
            f'<p class="kind">{escape(str(words.get("category") or ""))} · {subject} · {escape(row.where[0])}</p>'
            f'{verdict}<dl>{scores}</dl></li>')


def _tile(pictures: dict[str, Any], column: str, mask: str, ink: tuple[int, int, int], subject: str) -> str:
    picture = pictures.get(column)
    if picture is None:
        return ""
    tile = picture.convert("RGB").resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    outlined = pictures.get(mask) is not None
    if outlined:
        tile = outline(tile, pictures[mask], ink, dashed=ink == EDIT)
    what = {"reference": f"the {subject} as it is", "source": "the picture to edit",
            "target": f"the {subject} in its new picture"}[column]
    around = "the place to edit" if ink == EDIT else "the subject"
    return (f'<figure><img src="{_data(tile)}" width="{TILE_PX}" height="{TILE_PX}" '
            f'alt="{what}{f", with {around} outlined" if outlined else ""}"><figcaption>{column}</figcaption></figure>')


def outline(tile: Image.Image, mask: Image.Image, ink: tuple[int, int, int], dashed: bool) -> Image.Image:
    """The tile with a line of ink and a thin white one around the mask, outside of it."""
    shape = mask.convert("L").resize(tile.size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(1.0))
    shape = shape.point(lambda value: 255 if value >= 128 else 0)
    drawn = tile.copy()
    for spread, colour in ((9, (255, 255, 255)), (7, ink)):
        band = ImageChops.subtract(shape.filter(ImageFilter.MaxFilter(spread)), shape)
        if dashed and colour == ink:
            band = ImageChops.multiply(band, _stripes(tile.size))
        drawn.paste(colour, (0, 0), band.filter(ImageFilter.GaussianBlur(0.5)))
    return drawn


def _stripes(size: tuple[int, int]) -> Image.Image:
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray((((x + y) // 7 % 2) * 255).astype(np.uint8))


def _data(tile: Image.Image) -> str:
    buffer = io.BytesIO()
    tile.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def note(values: np.ndarray, within: np.ndarray) -> str:
    """Under a slider: how many of these rows it keeps, and their distribution over [-1, 1], what is kept filled."""
    if not len(values) or np.isnan(values).all():
        return '<p class="note">not measured in these rows</p>'
    bars = []
    edges = np.linspace(-1, 1, BINS + 1)
    most = max(1, np.histogram(values, edges)[0].max())
    for name, part in (("out", values[~within]), ("in", values[within])):
        for i, count in enumerate(np.histogram(part, edges)[0]):
            if count:
                height = max(2.0, 26 * float(count) / most)
                bars.append(f'<rect class="{name}" x="{i * 5 + 0.5}" y="{28 - height:.1f}" width="4" '
                            f'height="{height:.1f}"/>')
    return (f'<svg viewBox="0 0 200 28" preserveAspectRatio="none" aria-hidden="true">{"".join(bars)}</svg>'
            f'<p class="note">keeps <b>{int(within.sum()):,}</b> of {len(values):,} rows</p>')
