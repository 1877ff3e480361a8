"""Subjects from a dataset: a folder or Hub id that `datasets` reads, with columns `image` and `class_name`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from builder.subject_folders import class_folders, pictures_in
from builder.subject_metadata import NAMES
from builder.subject_pictures import Candidate, index_candidates
from builder.subjects import SubjectIndex
from toffee_hf.errors import InputError

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_MARKS = ("state.json", "dataset_info.json")
_DATA_FILES = ("*.parquet", "data/**/*.parquet")


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

    def read_mask(self) -> bytes:
        """The picture in column `mask`."""
        mask = _open(self.spec)[self.row]["mask"] or {"bytes": b""}
        data = mask["bytes"]
        return data if data is not None else Path(mask["path"]).read_bytes()


def columns(spec: str) -> dict[str, list[object]]:
    """Column names of a dataset, with the values of those that are neither pictures nor words."""
    rows = _open(_place(spec))
    return {name: list(rows[name]) if name == "yaw" else [] for name in rows.column_names}


def is_dataset(spec: str) -> bool:
    """A folder that is one and holds no photos, or what looks like ORG/NAME and is no folder."""
    path = Path(spec)
    if path.is_dir():
        return _holds_data(path) and not _holds_photos(path)
    return not path.exists() and not spec.startswith((".", "/", "~")) and _HUB_ID.fullmatch(spec) is not None


def _holds_data(folder: Path) -> bool:
    """Saved by `datasets`, or with Parquet on top, in data/, or where the card says."""
    if any((folder / name).is_file() for name in _MARKS):
        return True
    return any(next(folder.glob(pattern), None) for pattern in (*_DATA_FILES, *_listed_patterns(folder)))


def _listed_patterns(folder: Path) -> list[str]:
    """The patterns of the first folders in `configs` of README.md, which name Parquet files."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = text.split("---\n")[1] if text.startswith("---\n") else ""
    found = re.findall(r"^[\s-]*(?:path|data_files|data_dir):\s*['\"]?([\w.-]+)/", head, re.MULTILINE)
    return [f"{name}/*.parquet" for name in found if name != ".."]


def _holds_photos(folder: Path) -> bool:
    if any((folder / name).exists() for name in NAMES):
        return True
    for found in class_folders(folder):
        with suppress(OSError):
            if pictures_in(found):
                return True
    return False


def _place(spec: str) -> str:
    return str(Path(spec).resolve()) if Path(spec).is_dir() else spec


def index_dataset(spec: str, unnamed: str = "") -> SubjectIndex:
    """Index every row; raises `InputError` if the dataset cannot be opened or lacks a column.

    unnamed: the class word of everything, where there is none.
    """
    spec = _place(spec)
    rows = _open(spec)
    lacking = {"image", "class_name"} - set(rows.column_names) - ({"class_name"} if unnamed else set())
    if lacking:
        missing = ", ".join(sorted(lacking))
        raise InputError(f"dataset {spec} needs the columns image and class_name; missing: {missing}")
    return index_candidates(spec, _candidates(spec, rows, unnamed), (), len(rows))


def _candidates(spec: str, rows: datasets.Dataset, unnamed: str) -> Iterator[Candidate]:
    ids = rows["subject_id"] if "subject_id" in rows.column_names else [""] * len(rows)
    names = rows["class_name"] if "class_name" in rows.column_names else [unnamed] * len(rows)
    for row, (class_name, subject_id) in enumerate(zip(names, ids, strict=True)):
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
    for name in {"image", "mask"} & set(rows.column_names):
        rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows
