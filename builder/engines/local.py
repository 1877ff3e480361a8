"""The local engine: supervised processes on this machine, one per device or core, and no extra dependency.

A worker that dies is replaced and its shard tried again, three times in all; its neighbours notice nothing. Workers
are fresh processes, never forks, and each has a pipe of its own, so that a SIGKILL cannot poison a shared queue.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from builder.engines.messages import Blame, Done, Failed, Setup
from builder.machine import cpu_cores, visible_gpus
from builder.plan import Plan, Shard
from toffee_hf.errors import DiskFull, InputError, RunError

MAX_TRIES = 3
_TICK_S, _SHORT_TICK_S = 1.0, 0.05
_GRACE_S = 10.0
_BOOT = "import sys; sys.path[:] = {path!r}; from builder.engines.worker import work; work({descriptor}, {parent})"


@dataclass(frozen=True, slots=True)
class FailedShard:
    """A shard that was given up. message: one line; detail: a traceback, or empty."""

    number: int
    message: str
    detail: str = ""


def default_workers() -> int:
    """One per GPU, else one per core."""
    return len(visible_gpus()) or cpu_cores()


def run_local(
    plan: Plan, numbers: Sequence[int], setup: Setup, workers: int, on_done: Callable[[Done], None],
    has_room: Callable[[int], bool] = lambda in_flight: True,
) -> list[FailedShard]:  # fmt: skip
    """Run these shards of `plan`; `on_done` hears of each. Returns what was given up.

    has_room: whether one more may be begun beside so many; while it says no, workers wait with their models loaded.
    Raises `DiskFull` or `InputError` as soon as a shard ends so, for all others would too, and `RunError` if nothing
    but failures is heard at first. However this ends, no worker is left.
    """
    workers = min(workers, len(numbers))
    engine = _Engine(plan, setup, deque(numbers), on_done, has_room, patience=2 * workers + 1)
    try:
        for slot in range(workers):
            engine.start(slot)
        while engine.workers:
            engine.step()
    finally:
        for worker in engine.workers:
            worker.kill()
    return sorted(engine.failed, key=lambda shard: shard.number)


@dataclass(eq=False)
class _Worker:
    slot: int
    process: subprocess.Popen[bytes]
    connection: Connection
    shard: int | None = None

    def send(self, message: Setup | Shard | None) -> None:
        try:
            self.connection.send(message)
        except OSError:  # it died; the engine learns of it from its end of the pipe
            return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


@dataclass
class _Engine:
    plan: Plan
    setup: Setup
    waiting: deque[int]
    on_done: Callable[[Done], None]
    has_room: Callable[[int], bool]
    patience: int  # failures before the first shard is done, at which nothing is expected any more
    workers: list[_Worker] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    failed: list[FailedShard] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)  # until the first shard is done
    any_done: bool = False

    def start(self, slot: int) -> None:
        worker = _spawn(slot, self.setup)
        self.workers.append(worker)
        worker.send(self.setup)
        self.feed(worker)

    def feed(self, worker: _Worker) -> None:
        """The next shard, or the end, or nothing while there is no room."""
        worker.shard = None
        if self.waiting and not self.has_room(sum(other.shard is not None for other in self.workers)):
            return
        worker.shard = self.waiting.popleft() if self.waiting else None
        if worker.shard is not None:
            self.tries[worker.shard] += 1
        worker.send(None if worker.shard is None else self.plan.shard(worker.shard))
        if worker.shard is None:
            self.dismiss(worker)

    def dismiss(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        with suppress(subprocess.TimeoutExpired):  # done with its work, stuck at its exit
            worker.process.wait(_GRACE_S)
        worker.kill()

    def step(self) -> None:
        """Hear from whoever has something to say, or has died; feed who has waited for room."""
        idle = [worker for worker in self.workers if worker.shard is None]
        ready = set(wait([worker.connection for worker in self.workers], _SHORT_TICK_S if idle else _TICK_S))
        for worker in list(self.workers):
            if worker.connection in ready:
                self.hear(worker)
            elif worker.process.poll() is not None:
                self.replace(worker)
            elif worker in idle:
                self.feed(worker)

    def hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self.replace(worker)
            return
        if isinstance(message, Done):
            self.any_done = True
            self.on_done(message)
        else:
            self.failed_once(message)
        self.feed(worker)

    def replace(self, worker: _Worker) -> None:
        """A worker died: its shard is tried again, by a new one."""
        self.workers.remove(worker)
        worker.kill()
        if worker.shard is not None:
            self.failed_once(Failed(worker.shard, Blame.SHARD, _how_it_died(worker.process.returncode)))
        if self.waiting:
            self.start(worker.slot)

    def failed_once(self, failure: Failed) -> None:
        if failure.blame is Blame.DISK:
            raise DiskFull(failure.message)
        if failure.blame is Blame.INPUT:
            raise InputError(failure.message)
        if self.tries[failure.shard] < MAX_TRIES:
            self.waiting.append(failure.shard)
        else:
            self.failed.append(FailedShard(failure.shard, failure.message, failure.detail))
        self.give_up_if_nothing_works(failure)

    def give_up_if_nothing_works(self, failure: Failed) -> None:
        if self.any_done:
            return
        self.failures.append(failure)
        if len(self.failures) >= self.patience and self.waiting:
            first = self.failures[0]
            raise RunError(f"no shard could be done, {self.patience} tries failed. The first: {first.message}; mend "
                           f"this, and give the same command again\n{first.detail}".rstrip())  # fmt: skip


def _spawn(slot: int, setup: Setup) -> _Worker:
    ours, theirs = socket.socketpair()
    boot = _BOOT.format(path=sys.path, descriptor=theirs.fileno(), parent=os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-c", boot],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
        env=_environment(slot, setup.threads),
        pass_fds=(theirs.fileno(),),
    )
    theirs.close()
    return _Worker(slot, process, Connection(ours.detach()))


def _has_descriptor(stream: object) -> bool:
    try:
        return bool(stream.fileno() >= 0)  # type: ignore[attr-defined]  # notebooks and tests replace it
    except (AttributeError, OSError, ValueError):
        return False


def _environment(slot: int, threads: int) -> dict[str, str]:
    """One torch thread pool of the recipe's size that sleeps when idle, one GPU, and no bars but ours."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        environment[f"{library}_NUM_THREADS"] = str(threads)
    environment.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    environment.setdefault("TRANSFORMERS_VERBOSITY", "error")
    gpus = visible_gpus()
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _how_it_died(status: int | None) -> str:
    if status is not None and status < 0:
        hint = " (out of memory? try fewer --workers)" if status == -9 else ""
        return f"its worker was killed by signal {-status}{hint}"
    return f"its worker ended with status {status}"
