"""The publisher of a build: one thread that brings finished shards to the Hub while the next ones are made.

It is nice to the workers (it runs where they leave time), sends the bytes of a shard as soon as it is finished, and
commits seldom: the Hub asks for few commits, and every one comes with a new card.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from builder.plan import shard_name
from builder.publication import MOST_SHARDS, Publication
from builder.receipts import Receipt, read_receipt, receipt_path
from builder.taking_up import DEAD_AFTER_S

_NICE = 10
_COMMITS = 48                         # of a whole build, where time and disk allow so few
_LEAST_LOCAL = 4
_SHORT = 200                          # shards of a run that may make a commit of every two


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to commit. every_s: at least so long between two commits of a folder that stays on the disk."""

    every_s: float = 300.0
    poll_s: float = 0.5
    last_words_s: float = 5.0         # what a commit under way is given when the build is interrupted


def local_shards(shards: int, workers: int) -> int:
    """How many of a run's shards lie on a disk that does not keep them: two for every worker, and of a long run two
    batches, so that its commits stay few."""
    least = max(_LEAST_LOCAL, 2 * workers)
    return least if shards <= _SHORT else max(least, 2 * _batch(shards))


def _batch(shards: int) -> int:
    """Shards of one commit."""
    return min(MOST_SHARDS, math.ceil(shards / _COMMITS))


class Publisher:
    """Publishes while the block runs. shards: of the whole run; most_local: shards on the disk at which `room` says no,
    for a folder that does not keep them; say: hears at once what has ended the publisher, `finish` raises it."""

    def __init__(
        self, publication: Publication, shards: int, most_local: int, pace: Pace | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self.publication, self.most_local, self.pace, self.say = publication, most_local, pace or Pace(), say
        self.batch = _batch(shards)
        self.trouble: BaseException | None = None
        self._waiting: dict[str, Receipt] = {}
        self._sent: set[str] = set()
        self._lock, self._stop, self._news = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="publisher")
        self._committed = -math.inf
        self._begun, self._made = time.monotonic(), 0

    def begin(self, making: Iterable[tuple[str, int]]) -> None:
        """Start. making: (run, number) of the shards to come, whose older versions need not be published."""
        coming = {shard_name(run8, number) for run8, number in making}
        self._waiting = {it.name: it for it in self.publication.waiting() if it.name not in coming}
        repository = self.publication.repository
        repository.patience = replace(repository.patience, sleep=self._sleep)
        self._begun = time.monotonic()
        self._thread.start()

    def made(self, run8: str, number: int) -> None:
        """A shard has its receipt."""
        receipt = read_receipt(receipt_path(self.publication.output, run8, number))
        if receipt is not None:
            with self._lock:
                self._waiting[receipt.name] = receipt
                self._made += 1
            self._news.set()

    def room(self, in_flight: int) -> bool:
        """Whether one more shard may be begun. Raises what has ended the publisher, where room would never come."""
        if self.publication.keep_local:
            return True
        if self.trouble is not None:
            raise self.trouble
        return len(self._waiting) + in_flight < self.most_local

    def finish(self) -> None:
        """Publish the rest, and say that nothing more is to come. Raises what has ended the publisher."""
        self._end()
        if self.trouble is not None:
            raise self.trouble
        repository = self.publication.repository
        repository.patience = replace(repository.patience, sleep=time.sleep)
        self.publication.publish(list(self._waiting.values()), done=True)

    def abandon(self) -> None:
        """The build is interrupted: no more commits, and little time for the one under way."""
        self._end(self.pace.last_words_s)

    def _end(self, within_s: float | None = None) -> None:
        self._stop.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _work(self) -> None:
        with suppress(OSError, AttributeError):  # a thread has a niceness of its own on Linux alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            while not self._stop.is_set():
                self._step()
                self._news.wait(self.pace.poll_s)
                self._news.clear()
        except _Stopped:
            return
        except Exception as err:
            self.trouble = err
            self.say(f"publishing has stopped, and shards are made as long as there is room for them: {err}")

    def _step(self) -> None:
        with self._lock:
            waiting = list(self._waiting.values())
        for receipt in waiting:
            if receipt.name not in self._sent and not self._stop.is_set():
                self.publication.send(receipt)
                self._sent.add(receipt.name)
        if self._is_due(len(waiting)) and not self._stop.is_set():
            self.publication.silent_s = self._silence()
            self.publication.publish(waiting)
            self._committed = time.monotonic()
            with self._lock:
                for receipt in waiting:
                    del self._waiting[receipt.name]

    def _is_due(self, count: int) -> bool:
        if count == 0:
            return False
        if not self.publication.keep_local:
            return count >= max(1, self.most_local // 2)
        first = self._committed == -math.inf
        return first or (count >= self.batch and time.monotonic() - self._committed >= self.pace.every_s)

    def _silence(self) -> float:
        """Seconds within which another commit comes for certain: three times what as many shards took until now."""
        each = (time.monotonic() - self._begun) / max(1, self._made)
        batch = self.batch if self.publication.keep_local else self.most_local
        return max(DEAD_AFTER_S, 3 * each * batch)

    def _sleep(self, seconds: float) -> None:
        """Waiting for the Hub ends with the build."""
        if self._stop.wait(seconds):
            raise _Stopped


class _Stopped(BaseException):
    """The build has ended while the publisher waited."""
