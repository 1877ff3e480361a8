"""The pairs of a dataset: an index of everything but the pictures, and the pictures of the rows that are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

CONFIGS = ("generation", "editing", "rejected")
WORDS = ("id", "category", "class_name", "prompt", "scores", "reason", "task")
PICTURES = ("reference", "reference_mask", "source", "mask", "target", "target_mask")
MOST_ROWS = 20_000                    # of an index: some 10 MB
RETRY_S = 30.0


class NoDataset(Exception):
    """There is no dataset that can be read; the message is for visitors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pair without its pictures; where: config, shard and position in the shard."""

    where: tuple[str, int, int]
    words: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why it was rejected; empty where it was kept."""
        return str(self.words.get("reason") or "")


@dataclass(frozen=True)
class Index:
    """All rows, or the first MOST_ROWS; scores: by name a float32 of each row, NaN where not measured."""

    rows: list[Row]
    scores: dict[str, np.ndarray]
    cut: bool = False


class Pairs:
    """A dataset folder or ORG/NAME, read on first use, by any number of threads."""

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.name, self.revision = name, revision
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._failed: tuple[float, NoDataset] | None = None
        self._streams: dict[str, Any] = {}      # by config, with pictures; iterating one leaves it as it is

    def index(self) -> Index:
        """Read once; where that failed, it is tried again after RETRY_S. Raises NoDataset."""
        with self._lock:
            if self._failed is not None and time.monotonic() - self._failed[0] < RETRY_S:
                raise self._failed[1]
            if self._index is None:
                try:
                    self._index = self._read()
                except NoDataset as err:
                    self._failed = time.monotonic(), err
                    raise
            return self._index

    def pictures(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The PIL pictures of rows by column, None where a row has none; each shard is read once. Raises NoDataset."""
        try:
            return self._pictures(rows)
        except Exception as err:      # a file that has gone since, or whatever else reading raises
            raise self._unreadable() from err

    def _pictures(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        found: dict[tuple[str, int, int], dict[str, Any]] = {}
        for config, shard in sorted({row.where[:2] for row in rows}):
            wanted = sorted(row.where[2] for row in rows if row.where[:2] == (config, shard))
            first, stream = wanted[0], self._streams[config]
            stream = stream.shard(stream.num_shards, shard).skip(first).take(wanted[-1] - first + 1)
            for position, cells in enumerate(stream, first):
                if position in wanted:
                    found[config, shard, position] = {name: cells.get(name) for name in PICTURES}
        return [found[row.where] for row in rows]

    def _read(self) -> Index:
        try:
            rows = list(islice(self._rows(), MOST_ROWS + 1))
        except Exception as err:      # a folder, a Hub, a network, a format: the page says that there is nothing
            raise self._unreadable() from err
        if not rows:
            raise NoDataset("The dataset has no rows.")
        shown = rows[:MOST_ROWS]
        names = dict.fromkeys(name for row in shown for name in row.words["scores"] or {})
        scores = {name: np.array([(row.words["scores"] or {}).get(name) for row in shown], np.float32)
                  for name in names}
        return Index(shown, scores, len(rows) > MOST_ROWS)

    def _unreadable(self) -> NoDataset:
        return NoDataset(f"No dataset could be read from “{self.name.rstrip('/').rpartition('/')[2]}”.")

    def _rows(self) -> Iterator[Row]:
        from datasets import get_dataset_config_names

        there = get_dataset_config_names(self.name, revision=self.revision)
        for config in (name for name in CONFIGS if name in there):
            self._streams[config] = self._stream(config)
            known = [name for name in WORDS if name in self._streams[config].features]
            words = self._stream(config, columns=known)
            for shard in range(words.num_shards):
                for position, cells in enumerate(words.shard(words.num_shards, shard)):
                    yield Row((config, shard, position), cells)

    def _stream(self, config: str, **options: Any) -> Any:
        from datasets import load_dataset

        return load_dataset(self.name, config, split="train", streaming=True, revision=self.revision, **options)


def passing(index: Index, bounds: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """By score, which rows lie within [low, high]; what was not measured passes, as for the judge."""
    return {name: np.isnan(values) | ((values >= low) & (values <= high))
            for name, (low, high) in bounds.items() if (values := index.scores.get(name)) is not None}


def chosen(index: Index, verdicts: Sequence[str], categories: Sequence[str], reason: str = "") -> np.ndarray:
    """Which rows have one of the verdicts (kept, rejected) and categories and, if one is given, the reason."""
    return np.array([("rejected" if row.reason else "kept") in verdicts and row.words["category"] in categories
                     and (not reason or row.reason == reason) for row in index.rows], bool)
