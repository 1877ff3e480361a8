"""Running stages over a batch: the one place where a pair may fail without failing its neighbours."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from builder.batch import Batch, concatenate
from builder.plan import Pair
from builder.recipe import Stage
from toffee_hf.errors import RecipeError, ToffeeError
from toffee_hf.images import ImageError

_MAX_MESSAGES = 20


@dataclass
class ShardLog:
    """What a receipt tells beside rows: wall seconds per stage, messages, and what was tried."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    messages: list[str] = field(default_factory=list)
    retried: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    reduced_batch: bool = False

    def note(self, message: str) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)


def run_stages(stages: Sequence[Stage], pairs: Sequence[Pair], attempt: int, log: ShardLog) -> Batch:
    """All stages over one batch, until no pair is left in it. Raises `ToffeeError` only for what concerns them all."""
    batch = _start(pairs, attempt, log)
    for stage in stages:
        if not len(batch):
            break
        begun = time.perf_counter()
        batch = _run_stage(stage, batch, log)
        log.seconds[stage.name] += time.perf_counter() - begun
    return batch


def _start(pairs: Sequence[Pair], attempt: int, log: ShardLog) -> Batch:
    """The runner's columns: `reference_bytes`, and an empty `scores` per pair. Unreadable subjects fall here."""
    data: list[bytes | None] = []
    for pair in pairs:
        try:
            data.append(pair.subject.read())
        except OSError as err:
            log.note(f"pair {pair.number}: subject {pair.subject.subject_id}: {err}")
            data.append(None)
    batch = Batch(tuple(pairs), attempt).with_columns(reference_bytes=data, scores=[{} for _ in pairs])
    return batch.reject([i for i, item in enumerate(data) if item is None], "unreadable")


def _run_stage(stage: Stage, batch: Batch, log: ShardLog) -> Batch:
    """One stage. A failing batch is run in parts, down to the pair that fails, which is then rejected."""
    try:
        return _checked(stage, batch, stage.run(batch))
    except Exception as err:  # the per-pair boundary
        if isinstance(err, ToffeeError) and not isinstance(err, ImageError):
            raise
        if len(batch) == 1:
            return _rejected(stage, batch, err, log)
        parts = _parts(batch, err, log)
    done = [_run_stage(stage, part, log) for part in parts]
    joined = concatenate(done)
    return Batch(joined.pairs, joined.attempt, joined.columns, batch.rejected + joined.rejected)


def _parts(batch: Batch, err: Exception, log: ShardLog) -> list[Batch]:
    """Halves if memory ran out, else pair by pair."""
    step = 1
    if _is_out_of_memory(err):
        log.reduced_batch = True
        step = -(-len(batch) // 2)
    return [batch.select(range(i, min(i + step, len(batch)))) for i in range(0, len(batch), step)]


def _rejected(stage: Stage, batch: Batch, err: Exception, log: ShardLog) -> Batch:
    reason = "unreadable" if isinstance(err, ImageError) else "stage_failed"
    log.note(f"pair {batch.pairs[0].number}: stage {stage.name}: {type(err).__name__}: {err}")
    return batch.reject([0], reason)


def _is_out_of_memory(err: Exception) -> bool:
    if isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError":  # torch's, which may not be loaded
        return True
    return isinstance(err, RuntimeError) and "DefaultCPUAllocator" in str(err)


def _checked(stage: Stage, before: Batch, after: Batch) -> Batch:
    """The stage's promises: no pair lost or moved, every column written that it declares."""
    fallen = [item.pair.number for item in after.rejected[len(before.rejected) :]]
    staying = [pair.number for pair in before.pairs if pair.number not in set(fallen)]
    if [pair.number for pair in after.pairs] != staying or len(fallen) + len(staying) != len(before):
        raise RecipeError(f"stage {stage.name!r} lost or moved pairs; it may drop them only by batch.reject")
    lacking = sorted(name for name in stage.writes if name not in after)
    if lacking and len(after):
        raise RecipeError(f"stage {stage.name!r} says that it writes {lacking[0]!r}, and did not")
    return after
