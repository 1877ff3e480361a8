"""Contents by their sha256, on disk: two hundred shards cost no memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

PIECE = 1 << 20


class Blobs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()

    def size(self, sha256: str) -> int:
        return self.path(sha256).stat().st_size

    def add(self, content: bytes) -> str:
        return self.add_pieces([content])

    def add_file(self, file: BinaryIO) -> str:
        return self.add_pieces(iter(lambda: file.read(PIECE), b""))

    def add_pieces(self, pieces: Iterable[bytes]) -> str:
        """The sha256 of the joined pieces, which are stored under it."""
        digest = hashlib.sha256()
        with NamedTemporaryFile(dir=self.folder, prefix=".", delete=False) as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
        os.replace(file.name, self.path(digest.hexdigest()))
        return digest.hexdigest()
