"""The pairs of a dataset: an index of everything but the pictures, and the pictures of the rows that are looked at."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from pictures import Unusable, opened

CONFIGS = ("generation", "editing", "rejected")
WORDS = ("id", "category", "class_name", "prompt", "scores", "reason", "task")
PICTURES = ("reference", "reference_mask", "source", "mask", "target", "target_mask")
MOST_ROWS = 20_000                    # of an index: some 10 MB
MOST_BOXES = 200                      # ticked ones that are looked at
RETRY_S, STALE_S = 30.0, 300.0        # before what failed is read again, and what was read, when somebody comes


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


@dataclass(frozen=True, eq=False)
class Index:
    """All rows, or the first MOST_ROWS, as they were at one time.

    scores: by name a float32 of each row, NaN where not measured; streams: by config, with pictures as they are stored;
    iterating one leaves it as it is; read: by the clock of `time.monotonic`.
    """

    rows: list[Row]
    scores: dict[str, np.ndarray]
    cut: bool = False
    streams: dict[str, Any] = field(default_factory=dict)
    read: float = 0.0


class Pairs:
    """A dataset folder or ORG/NAME, read on first use, by any number of threads."""

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.name, self.revision = name, revision
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._failed: tuple[float, NoDataset] | None = None

    def index(self, most_s: float = math.inf) -> Index:
        """Read once, again where that was over `most_s` ago, and RETRY_S after it has failed. Raises NoDataset."""
        with self._lock:
            self._forget(most_s)
            if self._failed is not None and time.monotonic() - self._failed[0] < RETRY_S:
                raise self._failed[1]
            if self._index is None:
                try:
                    self._index = self._read()
                except NoDataset as err:
                    self._failed = time.monotonic(), err
                    raise
            return self._index

    def pictures(self, index: Index, rows: Sequence[Row]) -> list[dict[str, Image.Image | None]]:
        """The pictures of rows by column, None where a row has none that can be opened; each shard is read once.

        Raises NoDataset; then the index is read again, unless it is newer than RETRY_S.
        """
        try:
            return _pictures(index, rows)
        except Exception as err:      # a file that has gone or changed since, or whatever else reading raises
            with self._lock:
                self._forget(RETRY_S)
            raise self._unreadable() from err

    def _forget(self, most_s: float) -> None:
        if self._index is not None and time.monotonic() - self._index.read > most_s:
            self._index = None

    def _read(self) -> Index:
        streams: dict[str, Any] = {}
        try:
            rows = list(islice(self._rows(streams), MOST_ROWS + 1))
        except Exception as err:      # a folder, a Hub, a network, a format: the page says that there is nothing
            raise self._unreadable() from err
        if not rows:
            raise NoDataset("The dataset has no rows.")
        shown = rows[:MOST_ROWS]
        names = dict.fromkeys(name for row in shown for name in row.words["scores"] or {})
        scores = {name: np.array([(row.words["scores"] or {}).get(name) for row in shown], np.float32)
                  for name in names}
        return Index(shown, scores, len(rows) > MOST_ROWS, streams, time.monotonic())

    def _unreadable(self) -> NoDataset:
        return NoDataset(f"No dataset could be read from “{self.name.rstrip('/').rpartition('/')[2]}”.")

    def _rows(self, streams: dict[str, Any]) -> Iterator[Row]:
        from datasets import get_dataset_config_names

        there = get_dataset_config_names(self.name, revision=self.revision)
        for config in (name for name in CONFIGS if name in there):
            streams[config] = self._stream(config)
            known = [name for name in WORDS if name in streams[config].features]
            words = self._stream(config, columns=known)
            for shard in range(words.num_shards):
                for position, cells in enumerate(words.shard(words.num_shards, shard)):
                    yield Row((config, shard, position), cells)

    def _stream(self, config: str, **options: Any) -> Any:
        """Pictures come as they are stored: `datasets` would open any path that a row names, at any size."""
        from datasets import load_dataset

        rows = load_dataset(self.name, config, split="train", streaming=True, revision=self.revision, **options)
        return rows.decode(False)


def _pictures(index: Index, rows: Sequence[Row]) -> list[dict[str, Image.Image | None]]:
    """Raises whatever reading raises, and ValueError where other rows are in the place of these by now."""
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for config, shard in sorted({row.where[:2] for row in rows}):
        wanted = sorted(row.where[2] for row in rows if row.where[:2] == (config, shard))
        first, stream = wanted[0], index.streams[config]
        stream = stream.shard(stream.num_shards, shard).skip(first).take(wanted[-1] - first + 1)
        for position, cells in enumerate(stream, first):
            if position in wanted:
                found[config, shard, position] = cells
    if any(found[row.where].get("id") != row.words.get("id") for row in rows):
        raise ValueError("the dataset has changed")
    return [{name: _opened(found[row.where].get(name), name) for name in PICTURES} for row in rows]


def _opened(cell: Any, name: str) -> Image.Image | None:
    """Of a cell's bytes; its path may name any file of this machine."""
    data = cell.get("bytes") if isinstance(cell, dict) else None
    try:
        return opened(data, name) if isinstance(data, bytes) else None
    except Unusable:
        return None


def passing(index: Index, bounds: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """By score, which rows lie within [low, high]; what was not measured passes, as for the judge."""
    return {name: np.isnan(values) | ((values >= low) & (values <= high))
            for name, (low, high) in bounds.items() if (values := index.scores.get(name)) is not None}


def chosen(index: Index, verdicts: Any, categories: Any, reason: str = "") -> np.ndarray:
    """Which rows have one of the verdicts (kept, rejected) and categories and, if one is given, the reason."""
    verdicts, categories = ticked(verdicts), ticked(categories)
    return np.array([("rejected" if row.reason else "kept") in verdicts and str(row.words["category"]) in categories
                     and (not reason or row.reason == reason) for row in index.rows], bool)


def ticked(boxes: Any) -> frozenset[str]:
    """What a page sent as its ticked boxes, the first MOST_BOXES of them."""
    few = boxes[:MOST_BOXES] if isinstance(boxes, list) else []
    return frozenset(box for box in few if isinstance(box, str))
