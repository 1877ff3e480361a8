"""`metadata.csv` and `metadata.jsonl`, line by line: a bad line costs itself and nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toffee_hf.errors import InputError

NAMES = ("metadata.csv", "metadata.jsonl")
_NEEDED = ("file_name", "class_name")
_MOST_LINES = 10  # that one record may span, by line breaks in quotes

Line = dict[str, Any]


def metadata_lines(path: Path) -> Iterator[tuple[int, Line | None]]:
    """(number, fields) of every line that is not empty; None where it cannot be parsed, or has no `file_name`.

    Raises `InputError` if the file is not UTF-8 or a CSV lacks a column.
    """
    lines = _csv_lines(path) if path.suffix == ".csv" else _json_lines(path)
    for number, line in lines:
        yield number, line if line is not None and text_of(line, "file_name") else None


def text_of(line: Line, key: str) -> str:
    value = line.get(key)
    return "" if value is None else str(value)


def _text_lines(path: Path) -> list[str]:
    """With their ends, as they are."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(file)
    except UnicodeDecodeError as err:
        raise InputError(f"{path} is not UTF-8; save it as UTF-8") from err


def _json_lines(path: Path) -> Iterator[tuple[int, Line | None]]:
    for number, text in enumerate(_text_lines(path), 1):
        if text.strip():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            yield number, line if isinstance(line, dict) else None


def _csv_lines(path: Path) -> Iterator[tuple[int, Line | None]]:
    records = _csv_records(_text_lines(path))
    header = next((fields for _, fields in records if fields is None or fields), None) or []
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise InputError(f"{path} needs the columns {' and '.join(_NEEDED)}; missing: {', '.join(missing)}")
    for number, fields in records:
        if fields is None or len(fields) > len(header):
            yield number, None
        elif fields:
            yield number, dict(zip(header, fields, strict=False))


def _csv_records(lines: Sequence[str]) -> Iterator[tuple[int, list[str] | None]]:
    """(number of the first line, fields) of every record; None for a line that begins no record."""
    at = 0
    while at < len(lines):
        fields, used = _csv_record(lines[at : at + _MOST_LINES])
        yield at + 1, fields
        at += used


def _csv_record(lines: Sequence[str]) -> tuple[list[str] | None, int]:
    """The first record and the lines it takes; a quote that is open at a line's end is looked for further on."""
    for used in range(1, len(lines) + 1):
        try:
            return next(csv.reader(lines[:used], strict=True), []), used
        except csv.Error as err:
            if "unexpected end of data" not in str(err):
                break
    return None, 1
