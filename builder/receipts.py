"""Receipts: what a shard made, from what, and at what cost. A receipt is written last and means "done"."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from builder.files import write_atomically
from builder.plan import shard_name

SCHEMA_VERSION = 1
FOLDER = "receipts"
_NOTHING: Mapping[str, str] = {}
_KINDS: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool, "dict": dict, "list": list}


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A Parquet file. path: relative to the output, with forward slashes; num_bytes: in memory, as Arrow."""

    config: str
    path: str
    rows: int
    bytes: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """first_pair and last_pair are inclusive. Seconds are wall seconds; started and finished are UTC, ISO 8601."""

    schema_version: int = SCHEMA_VERSION
    run8: str
    shard: int
    recipe: str
    seed: int
    first_pair: int
    last_pair: int
    rows: dict[str, int]  # config -> rows, only configs that have rows
    files: list[ShardFile]
    reasons: dict[str, int]  # final verdicts, `kept` among them
    retried: dict[str, int]  # verdicts of earlier attempts
    attempts: int  # pairs tried, retries included
    seconds: dict[str, float]  # stage -> wall seconds; also `encode` (waiting for it) and `write`
    seconds_total: float
    device: str
    versions: dict[str, str]
    cpu: str
    host: str
    started: str
    finished: str
    reduced_batch: bool = False
    messages: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # picture that could not be decoded -> why

    @property
    def name(self) -> str:
        return shard_name(self.run8, self.shard)

    @property
    def pairs(self) -> int:
        return self.last_pair - self.first_pair + 1

    @property
    def kept(self) -> int:
        return self.reasons.get("kept", 0)


def receipt_path(output: Path, run8: str, shard: int) -> Path:
    return output / FOLDER / f"{shard_name(run8, shard)}.json"


def write_receipt(output: Path, receipt: Receipt) -> None:
    text = json.dumps(asdict(receipt), indent=1, ensure_ascii=True) + "\n"
    write_atomically(receipt_path(output, receipt.run8, receipt.shard), text.encode())


def read_receipt(path: Path) -> Receipt | None:
    """The receipt, or None if there is none that can be read (then its shard is not done)."""
    try:
        return receipt_from(path.read_bytes())
    except OSError:
        return None


def has_receipt(output: Path, run8: str, shard: int) -> bool:
    """Whether a shard has a receipt; one that is damaged is none, one that cannot be read now may be one."""
    try:
        return receipt_from(receipt_path(output, run8, shard).read_bytes()) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True


def receipt_from(data: bytes) -> Receipt | None:
    """The receipt, or None where it is damaged."""
    try:
        found = json.loads(data)
        known = {item.name: found[item.name] for item in fields(Receipt) if item.name in found}
        known["files"] = [ShardFile(**item) for item in known["files"]]
        receipt = Receipt(**known)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return receipt if _is_sound(receipt) and all(_is_sound(file) for file in receipt.files) else None


def _is_sound(record: Receipt | ShardFile) -> bool:
    """Whether every field is of its type, and every value of a dict of numbers is a number."""
    for item in fields(record):
        kind, _, inner = str(item.type).partition("[")
        value = getattr(record, item.name)
        if not isinstance(value, _KINDS[kind]):
            return False
        wanted = _KINDS[inner.rstrip("]").rpartition(" ")[2]] if kind == "dict" else object
        if kind == "dict" and not all(isinstance(part, wanted) for part in value.values()):
            return False
    return True


def read_receipts(output: Path, run8: str | None = None) -> Iterator[Receipt]:
    """All readable receipts of the folder, or of one run, in order of name."""
    for path in sorted((output / FOLDER).glob(f"{run8 or '*'}-*.json")):
        receipt = read_receipt(path)
        if receipt is not None:
            yield receipt


def is_done(
    output: Path, run8: str, shard: int, first: int, last: int, elsewhere: Mapping[str, str] = _NOTHING
) -> bool:
    """Whether a receipt covers pairs [first, last] and its files lie there in the size it says, or elsewhere.

    elsewhere: sha256 by path.
    """
    receipt = read_receipt(receipt_path(output, run8, shard))
    if receipt is None or receipt.first_pair > first or receipt.last_pair < last:
        return False
    files = (file for file in receipt.files if elsewhere.get(file.path) != file.sha256)
    return all(has_size(output / file.path, file.bytes) for file in files)


def has_size(path: Path, size: int) -> bool:
    """Whether a file is there with so many bytes."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums by name, largest first."""
    added: Counter[str] = Counter()
    for count in counts:
        added.update(count)
    return dict(sorted(added.items(), key=lambda item: (-item[1], item[0])))
