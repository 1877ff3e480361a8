"""A recipe without models: coloured rectangles drawn from the seed, so that a pair costs about a millisecond.

It exercises every way in which a pair can end. `FLAT_PAUSE_S` in the environment slows it down, for tests that kill.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.batch import Batch
from builder.judge import KEEP, Verdict, reject
from builder.recipe import PromptPlan, Recipe
from builder.seeds import seed_for
from toffee_hf.images import ImageError, decode


@dataclass(frozen=True, slots=True)
class FlatSubject:
    size_px: int
    name: str = "subject"
    reads: frozenset[str] = frozenset({"reference_bytes"})
    writes: frozenset[str] = frozenset({"reference", "reference_mask"})

    def run(self, batch: Batch) -> Batch:
        pictures: list[Any] = []
        unreadable = {}
        for index, data in enumerate(batch["reference_bytes"]):
            try:
                pictures.append(decode(data, self.size_px).transpose(2, 0, 1))
            except ImageError as err:
                pictures.append(None)
                unreadable[index] = err.reason
        masks = [_box(self.size_px, 4) for _ in pictures]
        return batch.with_columns(reference=pictures, reference_mask=masks).leave_out(unreadable)


@dataclass(frozen=True, slots=True)
class FlatTarget:
    size_px: int
    name: str = "target"
    reads: frozenset[str] = frozenset({"reference", "scores"})
    writes: frozenset[str] = frozenset({"source", "mask", "target", "target_mask", "scores"})

    def run(self, batch: Batch) -> Batch:
        time.sleep(float(os.environ.get("FLAT_PAUSE_S", "0")))
        mask = _box(self.size_px, 6)
        noise = [np.random.default_rng(seed_for(p.seed, p.number, self.name, batch.attempt)) for p in batch.pairs]
        sources = np.stack([_flat(rng, self.size_px) for rng in noise])
        flats = np.stack([_flat(rng, self.size_px) for rng in noise])
        targets = np.where(mask > 0, flats, sources)
        scores = [{"clip_t": float(rng.random()), "dino": None} for rng in noise]
        masks = [mask] * len(batch)
        return batch.with_columns(source=sources, mask=masks, target=targets, target_mask=masks, scores=scores)


@dataclass(frozen=True, slots=True)
class AtLeast:
    score: str
    least: float
    reason: str

    def __call__(self, scores: Mapping[str, float | None], category: str) -> Verdict:
        value = scores.get(self.score)
        return KEEP if value is not None and value >= self.least else reject(self.reason)


def _box(size_px: int, margin: int) -> Any:
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[margin:-margin, margin:-margin] = 255
    return mask


def _flat(rng: np.random.Generator, size_px: int) -> Any:
    return np.broadcast_to(rng.integers(0, 256, (3, 1, 1), np.uint8), (3, size_px, size_px))


def write(seed: int, category: str, class_name: str) -> str:
    return f"a {class_name}, {category}, number {seed % 1000}"


def recipe(least: float = 0.5, **changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "name": "flat",
        "size_px": 32,
        "stages": (FlatSubject(32), FlatTarget(32)),
        "rules": (AtLeast("clip_t", least, "prompt_missed"),),
        "prompts": PromptPlan(shares=(("background", 2.0), ("style", 1.0)), write=write),
        "pairs_per_shard": 4,
        "batch_size": 3,
        "seconds_per_pair": 0.001,
        "bytes_per_pair": 2000,
    }
    return Recipe(**{**fields, **changes})


def nothing_kept() -> Recipe:
    return recipe(least=2.0)


def all_kept() -> Recipe:
    return recipe(least=-1.0)


def singles() -> Recipe:
    """Many tiny shards."""
    return recipe(pairs_per_shard=1)


def mostly_rejected() -> Recipe:
    return recipe(least=0.9, attempts=1)


def dies() -> Recipe:
    """Its second shard kills its worker, whenever it is tried."""
    return recipe(stages=(FlatSubject(32), Deadly(), FlatTarget(32)))


def broken() -> Recipe:
    """No stage ever works, as where a driver is missing."""
    return recipe(stages=(FlatSubject(32), Broken(), FlatTarget(32)), pairs_per_shard=1)


def buggy() -> Recipe:
    """Every seventh pair raises; its neighbours must not notice."""
    return recipe(stages=(FlatSubject(32), Buggy(), FlatTarget(32)))


@dataclass(frozen=True, slots=True)
class Deadly:
    name: str = "deadly"
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def run(self, batch: Batch) -> Batch:
        if any(pair.number == 5 for pair in batch.pairs):
            os.kill(os.getpid(), 9)
        return batch


@dataclass(frozen=True, slots=True)
class Buggy:
    name: str = "buggy"
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def run(self, batch: Batch) -> Batch:
        if any(pair.number % 7 == 3 for pair in batch.pairs):
            raise ValueError("seven")
        return batch


@dataclass(frozen=True, slots=True)
class Broken:
    name: str = "broken"
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def run(self, batch: Batch) -> Batch:
        raise ImportError("libcuda.so is not there")
