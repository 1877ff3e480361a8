"""Rows become Parquet: one file per shard and config, the same bytes for the same rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS, MASKS, PICTURES, SCORES, arrow_schema, column_names
from builder.files import sync_folder, write_atomically
from builder.plan import shard_name
from builder.receipts import ShardFile, receipt_path

ROW_GROUP_BYTES = 128_000_000  # readers want at most 150 MB; the text of a row is not counted

Row = dict[str, Any]


def shard_file_name(config: str, run8: str, shard: int) -> str:
    """Relative to the output folder."""
    return f"{config}/train-{shard_name(run8, shard)}.parquet"


def publish_rows(output: Path, run8: str, shard: int, rows: dict[str, list[Row]]) -> list[ShardFile]:
    """Put the files of a shard in place; those of an earlier, shorter version go. The caller writes the receipt.

    rows: config -> rows. An old receipt goes first, so that no receipt ever stands beside files it does not describe.
    """
    encoded = {config: encode_parquet(config, rows[config]) for config in CONFIGS if rows.get(config)}
    remove_shard(output, run8, shard)
    files = []
    for config, (data, num_bytes) in encoded.items():
        path = shard_file_name(config, run8, shard)
        write_atomically(output / path, data)
        files.append(
            ShardFile(
                config=config,
                path=path,
                rows=len(rows[config]),
                bytes=len(data),
                num_bytes=num_bytes,
                sha256=sha256(data).hexdigest(),
            )
        )
    return files


def remove_shard(output: Path, run8: str, shard: int) -> None:
    """Remove the receipt of a shard, then its files."""
    paths = [receipt_path(output, run8, shard)]
    paths += [output / shard_file_name(config, run8, shard) for config in CONFIGS]
    for path in paths:
        if path.exists():
            path.unlink()
            sync_folder(path.parent)


def encode_parquet(config: str, rows: Sequence[Row]) -> tuple[bytes, int]:
    """The file, and its size in memory as Arrow. Image bytes uncompressed, the rest zstd; no timestamps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, buffer, num_bytes = arrow_schema(config), io.BytesIO(), 0
    with pq.ParquetWriter(buffer, schema, **_writer_options(config)) as writer:
        for group in _row_groups(rows):
            table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in group], schema=schema)
            num_bytes += table.nbytes
            writer.write_table(table, row_group_size=len(group))
    return buffer.getvalue(), num_bytes


def _writer_options(config: str) -> dict[str, Any]:
    images = [name for name in column_names(config) if name in PICTURES + MASKS]
    plain = [name for name in column_names(config) if name not in images and name != "scores"]
    plain += [f"scores.{score}" for score in SCORES]
    compression = {f"{name}.{leaf}": "NONE" for name in images for leaf in ("bytes", "path")}
    compression |= dict.fromkeys(plain, "ZSTD")
    return {
        "compression": compression,
        "use_dictionary": plain,
        "write_statistics": plain,
        "write_page_index": True,
        "store_schema": True,
    }


def _row_groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        row_size = sum(len(row[name]["bytes"]) for name in PICTURES + MASKS if row.get(name))
        if group and size + row_size > ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += row_size
    if group:
        yield group
