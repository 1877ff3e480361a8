"""Subjects from a dataset: a folder or Hub id that `datasets` reads, with columns `image` and `class_name`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from builder.subject_folders import METADATA
from builder.subject_pictures import Candidate, index_candidates
from builder.subjects import SubjectIndex
from toffee_hf.errors import InputError

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_DATA_FILES = ("*.parquet", "*.arrow")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """The picture in one row. Each process opens the dataset once."""

    spec: str
    row: int

    def read(self) -> bytes:
        picture = _open(self.spec)[self.row]["image"]
        if not picture:
            return b""
        data = picture["bytes"]
        return data if data is not None else Path(picture["path"]).read_bytes()


def is_dataset(spec: str) -> bool:
    """A folder with Parquet or Arrow files and no photo metadata, or what looks like ORG/NAME and is no folder."""
    path = Path(spec)
    if path.is_dir():
        photos = any((path / name).exists() for name in METADATA)
        return not photos and any(next(path.rglob(pattern), None) for pattern in _DATA_FILES)
    return not path.exists() and not spec.startswith((".", "/", "~")) and _HUB_ID.fullmatch(spec) is not None


def index_dataset(spec: str) -> SubjectIndex:
    """Index every row; raises `InputError` if the dataset cannot be opened or lacks a column."""
    spec = str(Path(spec).resolve()) if Path(spec).is_dir() else spec
    rows = _open(spec)
    lacking = {"image", "class_name"} - set(rows.column_names)
    if lacking:
        missing = ", ".join(sorted(lacking))
        raise InputError(f"dataset {spec} needs the columns image and class_name; missing: {missing}")
    return index_candidates(spec, _candidates(spec, rows), (), len(rows))


def _candidates(spec: str, rows: datasets.Dataset) -> Iterator[Candidate]:
    ids = rows["subject_id"] if "subject_id" in rows.column_names else [""] * len(rows)
    for row, (class_name, subject_id) in enumerate(zip(rows["class_name"], ids, strict=True)):
        yield Candidate(f"row {row}", str(class_name or ""), str(subject_id or ""), DatasetRow(spec, row))


@lru_cache(maxsize=1)
def _open(spec: str) -> datasets.Dataset:
    import datasets

    try:
        if (Path(spec) / "state.json").is_file():
            rows = datasets.load_from_disk(spec)
        else:
            rows = datasets.load_dataset(spec, split="train")
    except Exception as err:  # `datasets` raises whatever its readers and the network raise
        raise InputError(f"--subjects {spec!r} cannot be opened as a dataset: {err}") from err
    if "image" not in rows.column_names:
        return rows
    return rows.cast_column("image", datasets.Image(decode=False))
