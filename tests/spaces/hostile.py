"""Files that a stranger might send as a picture."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image


def write_hostile(folder: Path) -> dict[str, Path]:
    """By what they are, all with a picture's name."""
    files = {"text": b"not a picture at all", "empty": b"", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>"
             b"alert(1)</script></svg>", "html": b"<!doctype html><script>alert(1)</script>", "cut off": _png()[:200],
             "bomb": _bomb(50_000), "zip bomb": _zip(), "gif": _gif()}
    paths = {}
    for name, data in files.items():
        paths[name] = folder / f"{name.replace(' ', '-')}.png"
        paths[name].write_bytes(data)
    return paths


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "PNG")
    return buffer.getvalue()


def _gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


def _bomb(side: int) -> bytes:
    """A PNG of `side` pixels a side by its header, with a megabyte of zeros inside."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))[:-4]
            + chunk(b"IEND", b""))


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10_000_000))
    return buffer.getvalue()
