"""Running stages over a batch: the one place where a pair may fail without failing its neighbours."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from builder.batch import Batch, concatenate
from builder.plan import Pair
from builder.recipe import Stage
from builder.subjects import Skipped
from toffee_hf.errors import RecipeError, RunError, ToffeeError
from toffee_hf.images import ImageError

_MAX_MESSAGES = 20
_ENVIRONMENT = (OSError, ImportError, MemoryError)  # what a pair cannot cause
_FOLDERS = re.compile(r"/(?:[^/\s'\":]+/)+")


@dataclass
class ShardLog:
    """What a receipt tells beside rows: wall seconds per stage, messages, and what was tried."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    messages: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # picture -> why it cannot be used
    retried: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    reduced_batch: bool = False

    def note(self, message: str) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)

    def leave_out(self, pictures: Sequence[Skipped]) -> None:
        self.left_out.update({picture.file: picture.reason for picture in pictures})


def run_stages(stages: Sequence[Stage], pairs: Sequence[Pair], attempt: int, log: ShardLog) -> Batch:
    """All stages over one batch, until no pair is left in it. Raises `ToffeeError` only for what concerns them all."""
    batch = _start(pairs, attempt, log)
    for stage in stages:
        if not len(batch):
            break
        begun = time.perf_counter()
        batch = _run_stage(stage, batch, log)
        log.seconds[stage.name] += time.perf_counter() - begun
        log.leave_out(batch.left_out)
        batch = replace(batch, left_out=())
    return batch


def _start(pairs: Sequence[Pair], attempt: int, log: ShardLog) -> Batch:
    """The runner's columns: `reference_bytes`, and an empty `scores` per pair. Unreadable subjects fall here.

    Raises `RunError` if none of them can be read: then a disk is gone, not a picture.
    """
    data: list[bytes | None] = []
    errors: dict[int, OSError] = {}
    for index, pair in enumerate(pairs):
        try:
            data.append(pair.subject.read())
        except OSError as err:
            errors[index] = err
            data.append(None)
    if len(errors) == len(pairs) and all(err.errno for err in errors.values()):
        raise RunError(f"subjects cannot be read: {_said(errors[0])}; bring them back and give the same command again")
    batch = Batch(tuple(pairs), attempt).with_columns(reference_bytes=data, scores=[{} for _ in pairs])
    batch = batch.leave_out({index: f"unreadable_file: {_said(err)}" for index, err in errors.items()})
    log.leave_out(batch.left_out)
    return replace(batch, left_out=())


def _run_stage(stage: Stage, batch: Batch, log: ShardLog) -> Batch:
    """One stage. Raises the first error if every pair failed by the same kind: then the stage is broken, not a pair."""
    failures: dict[int, Exception] = {}
    done = _run_parts(stage, batch, log, failures)
    if len(failures) == len(batch) and _is_broken(list(failures.values())):
        raise next(iter(failures.values()))
    for number, err in failures.items():
        log.note(f"pair {number}: stage {stage.name}: {type(err).__name__}: {_said(err)}")
    return done


def _is_broken(errors: Sequence[Exception]) -> bool:
    """Whether these errors of a whole batch are the stage's: all alike, and of one pair only what no pair can cause."""
    if len(errors) > 1:
        return len({type(err) for err in errors}) == 1
    return isinstance(errors[0], _ENVIRONMENT) or _is_out_of_memory(errors[0])


def _run_parts(stage: Stage, batch: Batch, log: ShardLog, failures: dict[int, Exception]) -> Batch:
    """A failing batch is run in parts, down to the pair that fails, which is then rejected."""
    try:
        return _checked(stage, batch, stage.run(batch))
    except Exception as err:  # the per-pair boundary
        if isinstance(err, ToffeeError) and not isinstance(err, ImageError):
            raise
        if len(batch) == 1:
            return _rejected(batch, err, failures)
        parts = _parts(batch, err, log)
    joined = concatenate([_run_parts(stage, part, log, failures) for part in parts])
    return replace(joined, rejected=batch.rejected + joined.rejected)


def _parts(batch: Batch, err: Exception, log: ShardLog) -> list[Batch]:
    """Halves if memory ran out, else pair by pair."""
    step = 1
    if _is_out_of_memory(err):
        log.reduced_batch = True
        step = -(-len(batch) // 2)
    return [batch.select(range(i, min(i + step, len(batch)))) for i in range(0, len(batch), step)]


def _rejected(batch: Batch, err: Exception, failures: dict[int, Exception]) -> Batch:
    if isinstance(err, ImageError):
        return batch.leave_out({0: err.reason})
    failures[batch.pairs[0].number] = err
    return batch.reject([0], "stage_failed")


def _said(err: Exception) -> str:
    """What the error says, without the folders of this machine: receipts travel."""
    return _FOLDERS.sub(".../", (err.strerror if isinstance(err, OSError) else None) or str(err))


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
