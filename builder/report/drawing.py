"""Paper, ink and type of the report's pictures, drawn with Pillow."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PAPER = (255, 255, 255)
INK = (28, 30, 34)
GREY = (112, 117, 125)
PALE = (240, 241, 243)
LINE = (222, 224, 228)
GREEN = (22, 130, 74)
RED = (194, 44, 44)
SUBJECT = (0, 190, 200)  # outline of a subject mask
EDIT = (255, 140, 0)  # outline of an edit mask
# one per reason of rejection, most frequent first
REASON_INKS = ((194, 44, 44), (226, 114, 66), (236, 164, 72), (168, 92, 140), (116, 92, 164), (92, 120, 168))


@cache
def font(size_px: int) -> Any:
    """Pillow's own typeface: the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size_px)


def text_width(text: str, size_px: int) -> float:
    """In pixels."""
    return float(font(size_px).getlength(text))


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size_px: int, ink: Any = INK) -> float:
    """One line of text with its top left at `at`; returns where it ends, in pixels."""
    draw.text(at, text, fill=ink, font=font(size_px), anchor="la")
    return at[0] + text_width(text, size_px)


def wrapped(text: str, size_px: int, width_px: float, lines: int) -> list[str]:
    """`text` in at most `lines` lines of at most `width_px`; the last one ends in an ellipsis if more was said."""
    found, words = [""], text.split()
    for word in words:
        longer = f"{found[-1]} {word}".strip()
        if found[-1] and text_width(longer, size_px) > width_px:
            found.append(word)
        else:
            found[-1] = longer
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1] + "..."]
    return [_cut(line, size_px, width_px) for line in found]


def _cut(line: str, size_px: int, width_px: float) -> str:
    if text_width(line, size_px) <= width_px:
        return line
    while line and text_width(line + "...", size_px) > width_px:
        line = line[:-1].rstrip(". ")
    return line + "..."


def opened(data: bytes, side_px: int) -> Image.Image:
    """An encoded picture of a row at the size of a tile, RGB."""
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)


def outlined(tile: Image.Image, mask: bytes | None, ink: tuple[int, int, int]) -> Image.Image:
    """The tile with a line of `ink` and a thin white one drawn around a mask, outside of it."""
    from PIL import Image, ImageChops, ImageFilter

    if mask is None:
        return tile
    shape = Image.open(io.BytesIO(mask)).convert("L").resize(tile.size, Image.Resampling.LANCZOS)
    shape = shape.filter(ImageFilter.GaussianBlur(1.0)).point(lambda value: 255 if value >= 128 else 0)
    drawn = tile.copy()
    for spread, colour in ((7, PAPER), (5, ink)):
        band = ImageChops.subtract(shape.filter(ImageFilter.MaxFilter(spread)), shape)
        drawn.paste(colour, (0, 0), band.filter(ImageFilter.GaussianBlur(0.5)))
    return drawn


def png(picture: Image.Image) -> bytes:
    """The same picture gives the same bytes with one version of Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
