"""Pairs of a dataset in a shuffled order that is a function of seed and place alone, so any place can be gone to.

An epoch visits the row groups in a new order, cut into windows of rows; a window is held in memory, encoded, and
shuffled. What step n sees needs no memory of the steps before: a resumed training reads what an uninterrupted one
does, and nothing is kept that grows with the dataset. S side of a picture in pixels, B batch.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toffee_hf.errors import RunError
from toffee_hf.images import REASONS as IMAGE_REASONS
from toffee_hf.images import ImageError, decode, probe
from toffee_hf.training.pair_files import PairFiles, read_rows

REASONS = {
    **IMAGE_REASONS,
    "missing": "a picture, a mask or the prompt is missing",
    "sizes_differ": "a mask has another size than its picture, or the source than the target",
    "nothing_shown": "a mask is empty, or the reference has one colour only",
    "new_view": "the reference is a new view, which this training leaves out",
}
WINDOW_BYTES, WINDOW_ROWS = 512_000_000, (64, 1024)
SIZES = (("reference", "reference_mask"), ("target", "target_mask"), ("target", "mask"), ("target", "source"))
PICTURES = ("reference", "target", "source")
MASKS = ("reference_mask", "target_mask", "mask")
READERS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of a row. task: what is learnt from it; drafts: the picture to edit is what should be drawn;
    views: rows whose reference is a new view count."""

    task: str
    columns: tuple[str, ...]
    drafts: bool = False
    views: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """One usable row: pictures uint8 (3, S, S), masks uint8 (S, S) of 0 and 1. source, mask: None for generation."""

    prompt: str
    reference: NDArray[np.uint8]
    reference_mask: NDArray[np.uint8]
    target: NDArray[np.uint8]
    target_mask: NDArray[np.uint8]
    source: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch: reference, source, target (B, 3, S, S) in [-1, 1]; their masks and `mask` (B, 1, S, S) of 0 and 1.
    Where a picture is to be generated, source is 0 and mask 1 all over. skipped: rows left out, by reason."""

    prompts: list[str]
    reference: Tensor
    reference_mask: Tensor
    source: Tensor
    mask: Tensor
    target: Tensor
    target_mask: Tensor
    skipped: Counter[str]

    @staticmethod
    def of(pairs: Sequence[Pair], skipped: Counter[str], device: torch.device) -> Pairs:
        def pictures(arrays: list[NDArray[np.uint8]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device).float() / 127.5 - 1

        def masks(arrays: list[NDArray[np.uint8]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)[:, None]).to(device).float()

        edits = torch.tensor([p.source is not None for p in pairs], device=device)[:, None, None, None]
        return Pairs(
            [p.prompt for p in pairs], pictures([p.reference for p in pairs]), masks([p.reference_mask for p in pairs]),
            pictures([p.target if p.source is None else p.source for p in pairs]) * edits,
            masks([np.ones_like(p.target_mask) if p.mask is None else p.mask for p in pairs]),
            pictures([p.target for p in pairs]), masks([p.target_mask for p in pairs]), skipped)


def decoded(row: Mapping[str, Any], wanted: Wanted, size_px: int) -> Pair | str:
    """A row ready to use, or the reason (of REASONS) why it is not."""
    if not wanted.views and row["scores"]["view_dino"] is not None:
        return "new_view"
    files: dict[str, Any] = {name: (row[name] or {}).get("bytes") for name in (*PICTURES, *MASKS)
                             if name in wanted.columns}
    if not row["prompt"] or not all(files.values()):
        return "missing"
    try:
        sizes = {name: (info.width, info.height) for name, info in ((n, probe(data)) for n, data in files.items())}
        if any(sizes[a] != sizes[b] for a, b in SIZES if b in files):
            return "sizes_differ"
        arrays = {name: decode(data, size_px) for name, data in files.items()}
    except ImageError as err:
        return err.reason
    masks = {name: (arrays[name].mean(2) > 127).astype(np.uint8) for name in MASKS if name in arrays}
    if arrays["reference"].min() == arrays["reference"].max() or not all(mask.any() for mask in masks.values()):
        return "nothing_shown"
    pictures = {name: arrays[name].transpose(2, 0, 1) for name in arrays if name not in masks}
    edits = wanted.task == "editing"
    return Pair(row["prompt"], pictures["reference"], masks["reference_mask"],
                pictures["source" if wanted.drafts else "target"], masks["target_mask"],
                pictures["source"] if edits else None, masks["mask"] if edits else None)


class PairStream:
    """The endless stream of one task. Used by one thread at a time, at places that rise."""

    def __init__(self, files: PairFiles, wanted: Wanted, size_px: int, seed: int) -> None:
        self.files, self.wanted, self.size_px = files, wanted, size_px
        self.key = f"{seed}/{wanted.task}"
        least, most = WINDOW_ROWS
        fitting = min(most, max(least, int(WINDOW_BYTES / files.row_bytes)))
        self.windows = math.ceil(len(files) / fitting)
        self.window = math.ceil(len(files) / self.windows)          # of equal size, so that none is left with few rows
        self.readers = ThreadPoolExecutor(READERS)
        self.ahead = ThreadPoolExecutor(1)
        self.held: dict[int, Future[list[dict[str, Any]]]] = {}
        self.order = lru_cache(2)(self._order)

    def at(self, place: int) -> tuple[Pair, Counter[str]]:
        """The row at a place, or, where it cannot be used, another of its window; and how many could not, by reason."""
        epoch, row = divmod(place, len(self.files))
        number, row = divmod(row, self.window)
        rows = self._held(epoch * self.windows + number)
        skipped: Counter[str] = Counter()
        for i in self._candidates(place, row, len(rows)):
            found = decoded(rows[i], self.wanted, self.size_px)
            if isinstance(found, Pair):
                return found, skipped
            skipped[found] += 1
        counts = ", ".join(f"{count} {reason} ({REASONS[reason]})" for reason, count in sorted(skipped.items()))
        raise RunError(f"none of {len(rows)} rows of {self.wanted.task} in a row can be used: {counts}")

    def _candidates(self, place: int, row: int, rows: int) -> Iterator[int]:
        yield row
        others = [i for i in range(rows) if i != row]
        random.Random(f"{self.key}/instead/{place}").shuffle(others)
        yield from others

    def _held(self, number: int) -> list[dict[str, Any]]:
        """A window; the next one is read meanwhile, and no other is kept."""
        for wanted in (number, number + 1):
            if wanted not in self.held:
                self.held[wanted] = self.ahead.submit(self._read, wanted)
        for other in set(self.held) - {number, number + 1}:
            del self.held[other]
        return self.held[number].result()

    def _read(self, number: int) -> list[dict[str, Any]]:
        epoch, number = divmod(number, self.windows)
        first = number * self.window
        pieces = self._pieces(epoch, first, min(first + self.window, len(self.files)))
        read = self.readers.map(lambda piece: read_rows(piece[0], self.wanted.columns, *piece[1:]), pieces)
        rows = [row for part in read for row in part]
        random.Random(f"{self.key}/{epoch}/{number}").shuffle(rows)
        return rows

    def _pieces(self, epoch: int, first: int, last: int) -> Iterator[tuple[Any, int, int]]:
        """Blocks, each with its rows, that cover the rows [first, last) of an epoch."""
        order, starts = self.order(epoch)
        i = bisect_right(starts, first) - 1
        while first < last:
            block, start = self.files.blocks[order[i]], starts[i]
            end = min(start + block.rows, last)
            yield block, first - start, end - start
            first, i = end, i + 1

    def _order(self, epoch: int) -> tuple[list[int], list[int]]:
        """The blocks of an epoch, and the row at which each begins."""
        order = list(range(len(self.files.blocks)))
        random.Random(f"{self.key}/{epoch}").shuffle(order)
        return order, [0, *accumulate(self.files.blocks[i].rows for i in order)][:-1]

    def shown(self, row: int) -> Pair | None:
        """A row in the order of the build, or the next one that can be used; for people to look at."""
        starts = [0, *accumulate(block.rows for block in self.files.blocks)]
        for at in range(row, min(row + WINDOW_ROWS[0], len(self.files))):
            i = bisect_right(starts, at) - 1
            rows = read_rows(self.files.blocks[i], self.wanted.columns, at - starts[i], at - starts[i] + 1)
            found = decoded(rows[0], self.wanted, self.size_px)
            if isinstance(found, Pair):
                return found
        return None

    def close(self) -> None:
        """Read no further."""
        for pool in (self.ahead, self.readers):
            pool.shutdown(wait=False, cancel_futures=True)
