"""Cleaning up after processes that died: temporary files, and shard files that never got their receipt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from builder.columns import CONFIGS
from builder.files import os_errors_are_input, sweep_temporary_files
from builder.lease import Part
from builder.published import mirror
from builder.receipts import FOLDER, has_receipt
from builder.shard_files import remove_shard

_SHARD_FILE = re.compile(r"train-([0-9a-f]{8})-(\d{5,})\.parquet")


@os_errors_are_input("cannot use")
def sweep(output: Path, run8: str | None = None, part: Part | None = None) -> None:
    """Remove what the dead left. The caller holds the folder: all of it, or `part` of run `run8`.

    Temporary files go if their process was on this host and is dead; shard files go if they have no sound receipt.
    """
    published = mirror(output)
    folders = [output, output / FOLDER, *(output / config for config in CONFIGS)]
    for folder in (*folders, published, *(path for path in published.glob("*") if path.is_dir())):
        sweep_temporary_files(folder)
    for found, shard in sorted(set(_shards_with_files(output))):
        ours = part is None or part.count == 1 or (found == run8 and part.holds(shard))
        if ours and not has_receipt(output, found, shard):
            remove_shard(output, found, shard)


def _shards_with_files(output: Path) -> Iterator[tuple[str, int]]:
    for config in CONFIGS:
        for path in (output / config).glob("train-*.parquet"):
            if match := _SHARD_FILE.fullmatch(path.name):
                yield match[1], int(match[2])
