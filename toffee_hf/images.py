"""Pictures in, pictures out: what a subject's file must be, and how every picture of a row is encoded.

Ordinary picture files come in (EXIF orientation, transparency, palette, CMYK, 16 bits, animation, ICC profile) and
one kind leaves: a square uint8 sRGB array. Pillow and numpy load on first use.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toffee_hf.errors import ToffeeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

ImageFormat = Literal["webp", "jpeg"]

MAX_PIXELS = 64_000_000
MIN_SIDE_PX = 32
MAX_ASPECT = 8
GROUND_RGB = (232, 232, 232)  # what shows through transparent pixels: a light neutral grey, apart from pure white
# A phone's JPEG may hold more pictures (MPO): the first counts. Not EPS, which would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")

REASONS = {
    "empty": "the file has no bytes",
    "not_a_picture": "the file is not a picture of a known format (" + ", ".join(FORMATS) + ")",
    "truncated": "the header is fine, but the pixels cannot be read",
    "too_large": f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels",
    "too_long": f"the long side is more than {MAX_ASPECT} times the short side",
    "too_small": f"the short side is under {MIN_SIDE_PX} px",
}

# What Pillow's parsers are known to raise on hostile bytes, beside OSError.
_PARSER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
_OPENING = threading.Lock()  # `catch_warnings` swaps a global of the process


class ImageError(ToffeeError):
    """A picture that cannot be used. `reason` is a key of `REASONS`, `detail` says what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        sentence = REASONS.get(self.reason, self.reason)
        return f"{sentence} ({self.detail})" if self.detail else sentence


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header says: stored width and height in pixels (before EXIF orientation), Pillow's format and mode."""

    width: int
    height: int
    format: str
    mode: str


def probe(data: bytes) -> ImageInfo:
    """Read the header only and check format and size; no pixel is decoded.

    Raises ImageError with any reason of `REASONS` but `truncated`.
    """
    with _open(data) as picture:
        info = ImageInfo(*picture.size, format=str(picture.format), mode=picture.mode)
    _check_size(info)
    return info


def decode(data: bytes, size_px: int) -> NDArray[np.uint8]:
    """The whole picture as uint8 sRGB (size_px, size_px, 3): oriented, over `GROUND_RGB`, centre square, LANCZOS.

    Of an animation the first frame. Raises ImageError with any reason of `REASONS`.
    """
    import numpy as np
    from PIL import Image

    if size_px < 1:
        raise ValueError(f"size_px must be at least 1, got {size_px}")
    probe(data)
    try:
        with _open(data) as opened:
            opened.draft(opened.mode, (2 * size_px, 2 * size_px))  # JPEG: decode at a fraction, still twice the need
            opened.load()
            square = _centre_square(_oriented(opened))
        rgb = _over_ground(_to_srgb(_to_8_bits(square)))
    except _PARSER_ERRORS as err:
        raise ImageError("truncated", str(err)) from err
    return np.array(rgb.resize((size_px, size_px), Image.Resampling.LANCZOS), dtype=np.uint8)


def encode_image(array: NDArray[np.uint8], format: ImageFormat) -> bytes:
    """uint8 RGB (H, W, 3) to lossless WebP (fastest setting) or JPEG quality 95 without chroma subsampling."""
    picture = _from_array(array, channels=3)
    buffer = io.BytesIO()
    if format == "webp":
        picture.save(buffer, "WEBP", lossless=True, method=0, quality=0)
    elif format == "jpeg":
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        raise ValueError(f"format must be 'webp' or 'jpeg', got {format!r}")
    return buffer.getvalue()


def encode_mask(array: NDArray[np.uint8]) -> bytes:
    """uint8 mask (H, W) of 0 and 255 to PNG, mode L."""
    picture = _from_array(array, channels=1)
    strange = sorted({int(value) for value in array.ravel()[(array.ravel() != 0) & (array.ravel() != 255)]})
    if strange:
        raise ValueError(f"a mask holds only 0 and 255, got also {strange[:5]}")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_any_mask(data: bytes, size_px: int) -> NDArray[np.bool_]:
    """A mask as people store them, (size_px, size_px), true where the subject is; oriented and cropped like `decode`.

    The subject is what is opaque where that differs from place to place, else what is bright. Where no value exceeds 1,
    1 is the subject: labels, not shades. Raises ImageError with any reason of `REASONS`.
    """
    import numpy as np
    from PIL import Image

    probe(data)
    try:
        with _open(data) as opened:
            opened.load()
            plane = _centre_square(_shades(_oriented(opened)))
    except _PARSER_ERRORS as err:
        raise ImageError("truncated", str(err)) from err
    return np.array(plane.resize((size_px, size_px), Image.Resampling.LANCZOS)) > 127


def _shades(picture: Image.Image) -> Image.Image:
    """Opacity or brightness as L."""
    import numpy as np
    from PIL import Image

    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        alpha = rgba.getchannel("A")
        picture = alpha if np.ptp(np.asarray(alpha)) else rgba.convert("RGB")
    if picture.mode != "F" and not picture.mode.startswith("I"):
        picture = picture.convert("L")
    if np.asarray(picture).max() <= 1:
        return Image.fromarray(np.clip(np.rint(np.asarray(picture, np.float32) * 255), 0, 255).astype(np.uint8))
    return _to_8_bits(picture)


def _from_array(array: NDArray[np.uint8], channels: int) -> Image.Image:
    from PIL import Image

    wanted = "(H, W, 3)" if channels == 3 else "(H, W)"
    fits = array.ndim == 3 and array.shape[2] == 3 if channels == 3 else array.ndim == 2
    if not fits or array.size == 0 or array.dtype.name != "uint8":
        raise ValueError(f"needs a uint8 array {wanted}, got {array.dtype.name} {array.shape}")
    return Image.fromarray(array)


def _open(data: bytes) -> Image.Image:
    """Parse the header. Pillow's own warnings about odd headers and large pictures are answered by our checks."""
    from PIL import Image

    if not data:
        raise ImageError("empty")
    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as err:
        raise ImageError("too_large", str(err).partition(",")[0]) from err
    except _PARSER_ERRORS as err:
        raise ImageError("not_a_picture", _likely(data)) from err


def _likely(data: bytes) -> str:
    """A hint at what the bytes are instead, for the report's line."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "it looks like HEIC: convert it to JPEG"
    return f"it starts with {data[:12]!r}"


def _check_size(info: ImageInfo) -> None:
    width, height = info.width, info.height
    found = f"{width}x{height}"
    if width * height > MAX_PIXELS:
        raise ImageError("too_large", found)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError("too_long", found)
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError("too_small", found)


def _oriented(picture: Image.Image) -> Image.Image:
    """Apply EXIF orientation; a broken EXIF block costs the orientation, not the picture."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except _PARSER_ERRORS:
        return picture


def _centre_square(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Deep greyscale to L: 16 bits (and 32-bit integers, clipped to 16) over 257, floats as [0, 1] or else [0, 255]."""
    import numpy as np
    from PIL import Image

    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float32), nan=0.0, posinf=255.0, neginf=0.0)
    if picture.mode != "F":
        values = values / 257.0
    elif values.max() <= 1.0:
        values = values * 255.0
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA if anything is transparent, through the embedded ICC profile where it fits the picture's mode."""
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        rgb = _through_profile(rgba.convert("RGB"), picture.info.get("icc_profile"))
        rgb.putalpha(rgba.getchannel("A"))
        return rgb
    plain = picture.convert("RGB") if picture.mode == "P" else picture.convert("L") if picture.mode == "1" else picture
    if plain.mode == "LAB":
        from PIL import ImageCms

        return _transformed(plain, ImageCms.createProfile("LAB"))
    return _through_profile(plain, picture.info.get("icc_profile")).convert("RGB")


def _through_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    from PIL import ImageCms

    if not profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        return _transformed(picture, source)
    except (ImageCms.PyCMSError, *_PARSER_ERRORS):  # a broken or foreign profile costs the profile, not the picture
        return picture


def _transformed(picture: Image.Image, profile: Any) -> Image.Image:
    from PIL import ImageCms

    result = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert result is not None  # None only for inPlace=True
    return result


def _over_ground(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode != "RGBA":
        return picture
    ground = Image.new("RGBA", picture.size, (*GROUND_RGB, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")
