"""Rows read back from the Parquet shards of an output folder: a few whole ones, or the scores of many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.reasons import KEPT
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
    """`count` rows drawn at random, seeded by the config's version: the same folder always shows the same rows."""
    total = statistics.rows.get(config, 0)
    random_rows = random.Random(f"{config} {statistics.version(config)}")
    wanted = sorted(random_rows.sample(range(total), min(count, total)))
    return [Row(config, _row_at(output, statistics, config, index)) for index in wanted]


def score_rows(output: Path, statistics: Statistics, config: str) -> Iterator[dict[str, float | None]]:
    """The scores of every row, or of the rows of `MOST_FILES` files drawn at random."""
    import pyarrow.parquet as pq

    paths = [file.path for file in statistics.files(config)]
    if len(paths) > MOST_FILES:
        paths = sorted(random.Random(statistics.version(config)).sample(paths, MOST_FILES))
    for path in paths:
        with _damage_is_told(output / path):
            cells = pq.read_table(output / path, columns=["scores"], partitioning=None)["scores"].to_pylist()
        yield from (cell or {} for cell in cells)


def _row_at(output: Path, statistics: Statistics, config: str, index: int) -> dict[str, Any]:
    """Row `index` of a config, counted over its files in the order of run and shard."""
    import pyarrow.parquet as pq

    for file in statistics.files(config):
        if index < file.rows:
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
