"""Pictures of visitors, opened within limits, and what was painted on them. Masks are L, 255 inside."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFilter, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 36_000_000              # of a picture that is decoded, 6,000 x 6,000
SIDE_PX = 1024                        # longer side that is worked with
GROUND = (232, 232, 232)              # behind transparent pictures, as the editor has it
PAINTED = 128                         # of 255: opacity from which paint counts
AROUND = 8                            # of 255: blur of an outline from which it counts as the place of a subject
PLACES = {"Where I paint": None, "In the middle": (0.2, 0.2, 0.8, 0.92), "On the left": (0.03, 0.3, 0.45, 0.9),
          "On the right": (0.55, 0.3, 0.97, 0.9)}     # boxes in parts of the picture

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # for what others decode; twice as much is refused by Pillow
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class Unusable(ValueError):
    """What a visitor gave cannot be used; the message says why and what to do."""


def opened(picture: str | bytes, name: str) -> Image.Image:
    """A file or its bytes as RGB or, with transparency, RGBA; upright, at most SIDE_PX wide and high.

    name: what the picture is to the visitor. Raises Unusable.
    """
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as file:
            width, height = file.size
            if width * height > MOST_PIXELS:
                raise Unusable(f"{name} has {width:,} x {height:,} pixels, which is too large: at most "
                               f"{MOST_PIXELS // 1_000_000} million pixels. Save a smaller copy and try again.")
            file.draft("RGB", (SIDE_PX, SIDE_PX))
            return _upright(file)
    except Unusable:
        raise
    except FileNotFoundError:         # the page was open for longer than pictures are kept
        raise Unusable(f"{name} is no longer kept; add it again.") from None
    except Image.DecompressionBombError:
        raise Unusable(f"{name} is too large: at most {MOST_PIXELS // 1_000_000} million pixels.") from None
    except Exception as err:          # a decoder in the hands of strangers raises anything
        raise Unusable(f"{name} cannot be read as a picture. Use a PNG, JPEG or WebP file that opens in a picture "
                       "viewer.") from err


def _upright(file: Image.Image) -> Image.Image:
    mode = "RGBA" if file.has_transparency_data else "RGB"
    if file.mode.startswith("I"):     # 16 bit: Pillow would cut off, not scale
        file = file.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    small = ImageOps.exif_transpose(file)
    small.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    clean = small.convert(mode)
    clean.info.clear()
    return clean


def painted(layers: Iterable[Image.Image], size: tuple[int, int]) -> Image.Image | None:
    """The mask of everything that was painted on any layer; None where nothing was."""
    mask = Image.new("L", size)
    for layer in layers:
        if layer.mode != "RGBA":      # an opaque layer would hide the scene: not paint
            continue
        alpha = layer.getchannel("A").resize(size, Image.Resampling.BILINEAR)
        mask.paste(255, (0, 0), alpha.point(lambda value: 255 if value >= PAINTED else 0))
    return mask if mask.getbbox() else None


def placed(place: object, size: tuple[int, int], subject: Image.Image | None = None) -> Image.Image | None:
    """The mask of a named place, for those who cannot paint; None for what has to be painted.

    A subject that is cut out stands in the place by its outline and a little around, another fills its ellipse.
    """
    part = PLACES.get(place) if isinstance(place, str) else None
    if part is None:
        return None
    x0, y0, x1, y1 = box = [round(share * side) for share, side in zip(part, size * 2, strict=True)]
    mask, outline = Image.new("L", size), _outline(subject)
    if outline is None:
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        return mask
    fitted = ImageOps.contain(outline, (max(x1 - x0, 1), max(y1 - y0, 1)), Image.Resampling.BILINEAR)
    mask.paste(fitted, ((x0 + x1 - fitted.width) // 2, y1 - fitted.height))
    return mask.filter(ImageFilter.BoxBlur(max(size) // 64)).point(lambda value: 255 if value > AROUND else 0)


def _outline(subject: Image.Image | None) -> Image.Image | None:
    """What is opaque of a picture, cut to it; None where nothing or all of it is."""
    if subject is None or subject.mode != "RGBA":
        return None
    alpha = subject.getchannel("A").point(lambda value: 255 if value >= PAINTED else 0)
    box = alpha.getbbox()
    return alpha.crop(box) if box and alpha.getextrema()[0] == 0 else None


def on_ground(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole picture in the middle of a plain RGB ground of `size`."""
    fitted = ImageOps.contain(picture, size, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", size, GROUND)
    at = (size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2
    ground.paste(fitted, at, fitted if fitted.mode == "RGBA" else None)
    return ground
