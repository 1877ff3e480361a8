"""`run_shard`: the only thing that creates rows. Every engine calls exactly this."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from builder.judge import judge, reject
from builder.machine import device_name, instruction_set, library_versions
from builder.plan import Pair, Shard
from builder.processes import host_name
from builder.reasons import RETRIED
from builder.receipts import Receipt, ShardFile, write_receipt
from builder.recipe import Recipe
from builder.rows import Outcome, make_row
from builder.shard_files import Row, publish_rows
from builder.stage_runner import ShardLog, run_stages

_ENCODERS = 2  # threads; the encoders release the GIL


@dataclass(frozen=True, slots=True)
class _Pending:
    """A row that is being encoded; its tensors go as soon as it is."""

    number: int
    config: str
    reason: str
    row: Future[Row]


def run_shard(recipe: Recipe, shard: Shard, output: Path, *, seed: int) -> Receipt:
    """Try every pair of the shard, write its rows, then its receipt.

    seed: the run's, for the receipt only. Raises `DiskFull`, or `RecipeError` if a stage breaks its promises;
    whatever happens, no file is half written.
    """
    started, begun, log = _now(), time.perf_counter(), ShardLog()
    with ThreadPoolExecutor(_ENCODERS) as pool:
        pending = [
            _Pending(outcome.pair.number, outcome.config, outcome.verdict.reason,
                     pool.submit(make_row, outcome, shard.run8, recipe.image_format))
            for outcome in _final_outcomes(recipe, shard.pairs, log)
        ]  # fmt: skip
        with _Timer(log, "encode"):
            rows, reasons = _gather(pending)
    with _Timer(log, "write"):
        files = publish_rows(output, shard.run8, shard.number, rows)
    receipt = _receipt(recipe, shard, seed, files, reasons, log, started, time.perf_counter() - begun)
    write_receipt(output, receipt)
    return receipt


def _final_outcomes(recipe: Recipe, pairs: Sequence[Pair], log: ShardLog) -> Iterator[Outcome]:
    """One outcome per pair, its last attempt, as soon as it is known."""
    for attempt in range(recipe.attempts):
        again: list[Pair] = []
        for outcome in _outcomes(recipe, pairs, attempt, log):
            if outcome.verdict.reason in RETRIED and attempt + 1 < recipe.attempts:
                log.retried[outcome.verdict.reason] += 1
                again.append(outcome.pair)
            else:
                yield outcome
        pairs = sorted(again, key=lambda pair: pair.number)


def _outcomes(recipe: Recipe, pairs: Sequence[Pair], attempt: int, log: ShardLog) -> Iterator[Outcome]:
    for start in range(0, len(pairs), recipe.batch_size):
        chunk = pairs[start : start + recipe.batch_size]
        log.tried += len(chunk)
        batch = run_stages(recipe.stages, chunk, attempt, log)
        for fallen in batch.rejected:
            yield Outcome(fallen.pair, attempt, reject(fallen.reason), fallen.columns)
        for index, pair in enumerate(batch.pairs):
            columns = batch.row(index)
            yield Outcome(pair, attempt, judge(recipe.rules, columns["scores"] or {}, pair.category), columns)


def _gather(pending: list[_Pending]) -> tuple[dict[str, list[Row]], Counter[str]]:
    """Rows by config in order of pair number, and the final verdicts."""
    rows: dict[str, list[Row]] = {}
    for item in sorted(pending, key=lambda item: item.number):
        rows.setdefault(item.config, []).append(item.row.result())
    return rows, Counter(item.reason for item in pending)


def _receipt(
    recipe: Recipe, shard: Shard, seed: int, files: list[ShardFile], reasons: Counter[str], log: ShardLog,
    started: str, seconds_total: float,
) -> Receipt:  # fmt: skip
    return Receipt(
        run8=shard.run8,
        shard=shard.number,
        recipe=recipe.name,
        seed=seed,
        first_pair=shard.first,
        last_pair=shard.last,
        rows={file.config: file.rows for file in files},
        files=files,
        reasons=dict(sorted(reasons.items())),
        retried=dict(sorted(log.retried.items())),
        attempts=log.tried,
        seconds={name: round(value, 4) for name, value in log.seconds.items()},
        seconds_total=round(seconds_total, 4),
        device=device_name(),
        versions=library_versions(),
        cpu=instruction_set(),
        host=host_name(),
        started=started,
        finished=_now(),
        reduced_batch=log.reduced_batch,
        messages=log.messages,
        left_out=log.left_out,
    )


class _Timer:
    """Adds the wall seconds of its block to one name of the log."""

    def __init__(self, log: ShardLog, name: str) -> None:
        self.log, self.name = log, name

    def __enter__(self) -> None:
        self.begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.log.seconds[self.name] += time.perf_counter() - self.begun


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
