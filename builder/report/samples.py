"""Rows read back from the Parquet shards of an output folder: a few whole ones, or the scores of many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.reasons import KEPT
from builder.report.remembered import merged, read_scores, remembered_rows, remembered_scores
from builder.report.statistics import Statistics
from toffee_hf.errors import InputError

MOST_FILES = 256  # per config, for the histograms: enough rows for any bar


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a config, and the config it is in; its pictures are still encoded."""

    config: str
    cells: dict[str, Any]

    @property
    def task(self) -> str:
        return str(self.cells.get("task") or self.config)

    @property
    def reason(self) -> str:
        return str(self.cells.get("reason") or KEPT)

    @property
    def scores(self) -> dict[str, float]:
        """Those that were measured."""
        return {name: value for name, value in (self.cells.get("scores") or {}).items() if value is not None}

    def picture(self, column: str) -> bytes | None:
        """The encoded picture of an image column, None where the row has none."""
        cell = self.cells.get(column)
        return cell["bytes"] if cell else None


def drawn_rows(output: Path, statistics: Statistics, config: str, count: int) -> list[Row]:
    """`count` rows drawn at random, seeded by the config's version: the same folder always shows the same rows.

    In the place of those that are on the Hub alone stand rows that were remembered.
    """
    total = statistics.rows.get(config, 0)
    chance = random.Random(f"{config} {statistics.version(config)}")
    wanted = sorted(chance.sample(range(total), min(count, total)))
    found = [row for index in wanted if (row := _row_at(output, statistics, config, index)) is not None]
    if len(found) < len(wanted):
        kept = remembered_rows(output, config)
        found += chance.sample(kept, min(len(wanted) - len(found), len(kept)))
    return [Row(config, row) for row in found]


def score_rows(output: Path, statistics: Statistics, config: str) -> Iterator[dict[str, float | None]]:
    """The scores of every row, or of the rows of `MOST_FILES` files drawn at random, or of the remembered sample."""
    paths = [file.path for file in statistics.files(config) if file.path not in statistics.away]
    is_whole = len(paths) == len(statistics.files(config))
    if len(paths) > MOST_FILES:
        paths = sorted(random.Random(statistics.version(config)).sample(paths, MOST_FILES))
    tables = (_scores(output / path) for path in paths)
    for table in tables if is_whole else [merged([remembered_scores(output, config), *tables])]:
        yield from (cell or {} for cell in table["scores"].to_pylist())


def _scores(path: Path) -> Any:
    with _damage_is_told(path):
        return read_scores(path)


def _row_at(output: Path, statistics: Statistics, config: str, index: int) -> dict[str, Any] | None:
    """Row `index` of a config, counted over its files in the order of run and shard; None if it is not here."""
    import pyarrow.parquet as pq

    for file in statistics.files(config):
        if index < file.rows:
            if file.path in statistics.away:
                return None
            with _damage_is_told(output / file.path), pq.ParquetFile(output / file.path) as parquet:
                return _row_of(parquet, index)
        index -= file.rows
    raise IndexError(f"{config} has no such row")


@contextmanager
def _damage_is_told(path: Path) -> Iterator[None]:
    """What pyarrow raises for a damaged file, as one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, KeyError, IndexError) as err:
        raise InputError(f"{path} is damaged; remove it, and the same `toffee build` makes it again") from err


def _row_of(parquet: Any, index: int) -> dict[str, Any]:
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if index < rows:
            row: dict[str, Any] = parquet.read_row_group(group).slice(index, 1).to_pylist()[0]
            return row
        index -= rows
    raise IndexError(f"the Parquet file has fewer rows than its receipt says, by {index + 1} or more")
