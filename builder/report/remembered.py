"""Rows of files that leave the disk: a fair sample of them stays, for the pictures of the report.

An id is a hash, so the rows with the smallest ids are drawn at random, whatever the order in which files leave, and
however often one is remembered.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from builder.columns import MASKS, PICTURES, arrow_schema
from builder.files import write_atomically
from builder.published import mirror
from builder.receipts import ShardFile

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE, SCORED = 24, 4096  # rows of a config: with their pictures, for the contact sheet; for the histograms


def remember(output: Path, files: Iterable[ShardFile]) -> None:
    """Take rows of these files, which are still here, into the sample."""
    for file in files:
        path = output / file.path
        scored, whole = read_scores(path), _read(_path(output, file.config, "rows"), file.config)
        _write(_path(output, file.config, "scores"), merged([remembered_scores(output, file.config), scored]))
        wanted = set(_smallest([*whole["id"].to_pylist(), *scored["id"].to_pylist()], WHOLE))
        new = [name for name in scored["id"].to_pylist() if name in wanted]
        if new:
            whole = _smallest_rows([whole, _rows(path, file.config, new)], WHOLE)
            _write(_path(output, file.config, "rows"), whole)


def recall(output: Path, config: str, file: BinaryIO) -> None:
    """Take rows of a file that was never here into the sample; of its pictures, only the first row group is read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        scored, first = parquet.read(columns=["id", "scores"]), parquet.read_row_group(0)
    whole = _read(_path(output, config, "rows"), config)
    _write(_path(output, config, "scores"), merged([remembered_scores(output, config), scored]))
    _write(_path(output, config, "rows"), _smallest_rows([whole, first], WHOLE))


def remembered_rows(output: Path, config: str) -> list[dict[str, Any]]:
    """Whole rows, at most `WHOLE`."""
    rows: list[dict[str, Any]] = _read(_path(output, config, "rows"), config).to_pylist()
    return rows


def remembered_scores(output: Path, config: str) -> pa.Table:
    """Columns `id` and `scores`, at most `SCORED` rows."""
    path = _path(output, config, "scores")
    return read_scores(path) if path.exists() else arrow_schema(config).empty_table().select(["id", "scores"])


def read_scores(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["id", "scores"], partitioning=None)


def merged(tables: list[pa.Table]) -> pa.Table:
    """The sample of all their rows."""
    return _smallest_rows(tables, SCORED)


def _path(output: Path, config: str, what: str) -> Path:
    return mirror(output) / what / f"{config}.parquet"


def _read(path: Path, config: str) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path, partitioning=None) if path.exists() else arrow_schema(config).empty_table()


def _rows(path: Path, config: str, ids: list[str]) -> pa.Table:
    """Rows by id, one row group after another."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        groups = (file.read_row_group(group) for group in range(file.num_row_groups))
        wanted = pa.array(ids, pa.string())
        found = [group.filter(pc.is_in(group["id"], value_set=wanted)) for group in groups]
    return pa.concat_tables([arrow_schema(config).empty_table(), *found], promote_options="default")


def _smallest(ids: Iterable[str], count: int) -> list[str]:
    return sorted(set(ids))[:count]


def _smallest_rows(tables: list[pa.Table], count: int) -> pa.Table:
    import pyarrow as pa

    table = pa.concat_tables(tables, promote_options="default")
    place = {name: index for index, name in enumerate(table["id"].to_pylist())}
    return table.take(pa.array([place[name] for name in _smallest(place, count)], pa.int64()))


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression={f"{name}.bytes": "NONE" for name in PICTURES + MASKS}, row_group_size=64)
    write_atomically(path, buffer.getvalue())
