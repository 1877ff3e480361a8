"""The Xet formats that an upload consists of: xorbs (chunks, compressed) and shards (which chunks make which file).

Source: the Xet protocol specification, pages "xorb" and "shard" (huggingface.co/docs/xet).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_HEADER = struct.Struct("<B3sB3s")      # version, bytes as stored, how compressed, bytes as they were
SECTION = 48                                 # every record of a shard has 48 bytes
BOOKEND = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes [start, end) of a serialised xorb, its header included, that hold `size` bytes of content."""

    start: int
    end: int
    compression: int
    size: int


@dataclass(frozen=True, slots=True)
class Term:
    """`size` bytes of a file: the chunks [first, last) of a xorb."""

    xorb: str
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class XetFile:
    hash: str
    terms: tuple[Term, ...]
    sha256: str

    @property
    def size(self) -> int:
        return sum(term.size for term in self.terms)


def hash_text(raw: bytes) -> str:
    """A hash as the protocol writes it: four little-endian words of 64 bits."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def chunks_of(path: Path) -> tuple[Chunk, ...]:
    """The chunks of a serialised xorb. What follows them, if anything, starts with XETBLOB."""
    chunks, at = [], 0
    with path.open("rb") as file:
        while len(header := file.read(CHUNK_HEADER.size)) == CHUNK_HEADER.size and header[:7] != b"XETBLOB":
            _, stored, compression, size = CHUNK_HEADER.unpack(header)
            end = at + CHUNK_HEADER.size + int.from_bytes(stored, "little")
            chunks.append(Chunk(at, end, compression, int.from_bytes(size, "little")))
            at = file.seek(end)
    return tuple(chunks)


def content(path: Path, chunks: tuple[Chunk, ...]) -> Iterator[bytes]:
    """What the chunks hold."""
    with path.open("rb") as file:
        for chunk in chunks:
            file.seek(chunk.start + CHUNK_HEADER.size)
            yield _expand(file.read(chunk.end - chunk.start - CHUNK_HEADER.size), chunk)


def _expand(stored: bytes, chunk: Chunk) -> bytes:
    """0: as it is; 1: an LZ4 frame; 2: the same, of every fourth byte first."""
    if chunk.compression == 0:
        return stored
    import pyarrow

    plain = pyarrow.decompress(stored, chunk.size, codec="lz4", asbytes=True)
    if chunk.compression == 1:
        return plain
    whole, at = bytearray(chunk.size), 0
    for offset in range(4):
        count = len(range(offset, chunk.size, 4))
        whole[offset::4] = plain[at : at + count]
        at += count
    return bytes(whole)


def files_of(shard: bytes) -> Iterator[XetFile]:
    """The files that a shard tells of. The records of its second part, the xorbs, say nothing new."""
    at = SECTION
    while (raw := shard[at : at + 32]) != BOOKEND:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        at += SECTION
        terms = tuple(_term(shard, at + SECTION * number) for number in range(count))
        at += SECTION * count * (2 if flags & WITH_VERIFICATION else 1)
        sha256 = ""
        if flags & WITH_METADATA:
            sha256 = hash_text(shard[at : at + 32])
            at += SECTION
        yield XetFile(hash_text(raw), terms, sha256)


def _term(shard: bytes, at: int) -> Term:
    size, first, last = struct.unpack_from("<4xIII", shard, at + 32)
    return Term(hash_text(shard[at : at + 32]), size, first, last)
