"""Where the pairs of a dataset lie: row groups of Parquet files in a folder or on the Hub, found without reading a row.

The columns are those that `toffee build` writes; `load_dataset` reads the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfFileSystem
from tqdm import tqdm

from toffee_hf.errors import InputError, RunError

READERS = 8
COMMON = ("prompt", "reference", "reference_mask", "target", "target_mask")
COLUMNS = {"generation": COMMON, "editing": (*COMMON, "source", "mask")}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that lie together: the first `rows` of a row group. size: bytes of the whole group."""

    file: str
    group: int
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class PairFiles:
    """One config of a dataset, in the order in which it was built."""

    config: str
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return sum(block.rows for block in self.blocks)

    @property
    def row_bytes(self) -> float:
        """Mean size of a row."""
        return sum(block.size for block in self.blocks) / len(self)

    def first(self, rows: int) -> PairFiles:
        """What a smaller build would have written."""
        kept: list[Block] = []
        for block in self.blocks:
            if rows <= 0:
                break
            kept.append(replace(block, rows=min(rows, block.rows)))
            rows -= block.rows
        return replace(self, blocks=tuple(kept))

    def identity(self) -> list[tuple[object, ...]]:
        """What a resumed training compares."""
        return [(self.config, Path(block.file).name, block.group, block.rows, block.size) for block in self.blocks]


def open_pairs(spec: str, config: str, columns: Sequence[str]) -> PairFiles:
    """Find the rows of a folder, or of a dataset ORG/NAME or ORG/NAME@REVISION on the Hub.

    Raises InputError if it cannot be opened, lacks the config or one of the columns, or has no row.
    """
    files = _files(spec, config)
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda file: _blocks(file, columns), files)
        blocks = [block for group in tqdm(found, f"{config} files", len(files), disable=None) for block in group]
    if not blocks:
        raise InputError(f"dataset {spec} has no rows in {config!r}")
    return PairFiles(config, tuple(blocks))


def _files(spec: str, config: str) -> list[str]:
    import datasets

    local = Path(spec).is_dir()
    if not local and not _HUB_ID.fullmatch(spec):
        raise InputError(f"--data {spec!r} is neither a folder nor a dataset ORG/NAME; `toffee build` writes one")
    place, _, revision = (str(Path(spec).resolve()), "", "") if local else spec.partition("@")
    try:
        names = datasets.get_dataset_config_names(place, revision=revision or None)
        builder = datasets.load_dataset_builder(place, config, revision=revision or None) if config in names else None
    except Exception as err:  # `datasets` raises whatever its readers and the network raise
        raise InputError(f"--data {spec!r} cannot be opened as a dataset: {str(err).splitlines()[0]}") from err
    if builder is None:
        raise InputError(f"dataset {spec} has no pairs for {config}, it has {', '.join(names)}; give --tasks by what "
                         "it has, or a dataset that `toffee build` wrote")
    files = [str(file) for file in (builder.config.data_files or {}).get("train", [])]
    if not files or not all(file.endswith(".parquet") for file in files):
        raise InputError(f"{config} of dataset {spec} is no Parquet with a split train, as `toffee build` writes it")
    return files


def _blocks(file: str, columns: Sequence[str]) -> list[Block]:
    try:
        with _opened(file) as opened:
            footer = opened.metadata
            names = set(opened.schema_arrow.names)
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"{file} cannot be read as Parquet ({err}); remove it or build it again") from err
    lacking = [name for name in columns if name.partition(".")[0] not in names]
    if lacking:
        raise InputError(f"{file} lacks the columns {', '.join(lacking)}; it has {', '.join(sorted(names))}")
    groups = (footer.row_group(i) for i in range(footer.num_row_groups))
    return [Block(file, i, group.num_rows, group.total_byte_size) for i, group in enumerate(groups) if group.num_rows]


def read_rows(block: Block, columns: Sequence[str], first: int, last: int) -> list[dict[str, Any]]:
    """Rows [first, last) of a block; pictures as {"bytes", "path"}. Raises RunError if they cannot be read now."""
    try:
        with _opened(block.file) as opened:
            table = opened.read_row_group(block.group, columns=list(columns)).slice(first, last - first)
    except (OSError, pa.ArrowException) as err:
        raise RunError(f"{block.file} cannot be read ({err}); once it can, the same command goes on from the last "
                       "checkpoint") from err
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    """A ParquetFile: of a Hub file only the wanted parts are fetched."""
    with HfFileSystem().open(file) if "://" in file else pa.OSFile(file) as raw, pq.ParquetFile(raw) as opened:
        yield opened
