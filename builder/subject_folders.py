"""A folder of photos: `metadata.csv` or `metadata.jsonl`, or one folder per class."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.subject_pictures import Candidate, index_candidates
from builder.subjects import Skipped, SubjectIndex
from toffee_hf.errors import InputError

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".mpo", ".jp2", ".png", ".webp", ".avif", ".heic", ".heif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
)
METADATA = ("metadata.csv", "metadata.jsonl")
_MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A picture file. path: absolute."""

    path: str

    def read(self) -> bytes:
        path = Path(self.path)
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise OSError(27, f"it has more than {_MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()


def index_folder(spec: str) -> SubjectIndex:
    """Index a photo folder that exists. A bad line or picture is left out with its reason; nothing else happens."""
    root = Path(spec).resolve()
    found = [root / name for name in METADATA if (root / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{spec} holds {' and '.join(METADATA)}; keep one of them")
    lines = list(_from_metadata(found[0]) if found else _from_class_folders(root))
    candidates = [line for line in lines if isinstance(line, Candidate)]
    skipped = [line for line in lines if isinstance(line, Skipped)]
    return index_candidates(spec, candidates, skipped, len(candidates))


def _from_class_folders(root: Path) -> Iterator[Candidate | Skipped]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
                yield _candidate(root, f"{folder.name}/{path.name}", folder.name, "")


def _from_metadata(metadata: Path) -> Iterator[Candidate | Skipped]:
    lines = _csv_lines(metadata) if metadata.suffix == ".csv" else _json_lines(metadata)
    for number, line in lines:
        name = _text(line, "file_name") if isinstance(line, dict) else ""
        if not name:
            yield Skipped(f"{metadata.name}:{number}", "bad_line")
        else:
            yield _candidate(metadata.parent, name, _text(line, "class_name"), _text(line, "subject_id"))


def _csv_lines(metadata: Path) -> Iterator[tuple[int, Any]]:
    with metadata.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"file_name", "class_name"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{metadata} needs the columns file_name and class_name; missing: {', '.join(missing)}")
        try:
            for line in reader:
                yield reader.line_num, line
        except csv.Error as err:
            yield reader.line_num, f"{err}"


def _json_lines(metadata: Path) -> Iterator[tuple[int, Any]]:
    with metadata.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                try:
                    yield number, json.loads(text)
                except ValueError:
                    yield number, text


def _text(line: dict[str, Any], key: str) -> str:
    value = line.get(key)
    return "" if value is None else str(value)


def _candidate(root: Path, name: str, class_name: str, subject_id: str) -> Candidate | Skipped:
    """Refuses names that lead out of the folder, by `..`, an absolute path or a link."""
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(root)
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, a loop of links
        return Skipped(name, "bad_name")
    if not inside:
        return Skipped(name, "outside_folder")
    return Candidate(name, class_name, subject_id, PhotoFile(str(path)))
