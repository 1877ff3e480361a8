"""What goes wrong, where, and how often.

    hub.faults.inject("commit", status(503), times=2)            # the first two commits; the third succeeds
    hub.faults.inject("commit", lost_reply(), after=1)           # the second one is made, and its answer lost
    hub.faults.inject("lfs-put", cut_upload(5_000), path="3f2a") # only requests with that in their path
    hub.faults.inject_randomly(0.1, [status(500), dropped()], seed=7)

`kind` is the name of a route (see `hub.requests`) or a pattern of names ("xet-*", "*").
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to one request. Made by the functions below."""

    name: str
    status: int | None = None                       # answered instead of doing the work
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    drop: Literal["before", "after"] | None = None  # the connection, before or after the work is done
    cut_upload: int | None = None                   # bytes of the request's body that arrive
    cut_download: int | None = None                 # bytes of the reply's body that are sent
    bytes_per_second: int | None = None             # of either body
    delay_s: float = 0.0                            # before the work


def status(code: int, message: str = "") -> Fault:
    text = message or {500: "Internal Error - We're working hard to fix this as soon as possible!",
                       503: "Service Unavailable"}.get(code, f"status {code}")
    return Fault(name=f"status {code}", status=code, message=text)


def rate_limited(reset_s: int = 1, resource: str = "api", quota: int = 1000) -> Fault:
    """429 as the Hub sends it: the client waits `reset_s` + 1 seconds."""
    headers = (("RateLimit", f'"{resource}";r=0;t={reset_s}'),
               ("RateLimit-Policy", f'"fixed window";"{resource}";q={quota};w=300'))
    message = f"We had to rate limit you, you hit the quota of {quota} {resource} requests per 5 minutes period."
    return Fault(name="rate limited", status=429, message=message, headers=headers)


def retry_after(seconds: int = 1) -> Fault:
    """429 with Retry-After alone, as a proxy before the Hub sends it."""
    headers = (("Retry-After", str(seconds)),)
    return Fault(name="retry after", status=429, message="Too Many Requests", headers=headers)


def conflict() -> Fault:
    """412, as if somebody else had committed in between."""
    return Fault(name="conflict", status=412, message="A commit has happened since. Please refresh and try again.")


def dropped() -> Fault:
    """The connection ends before anything is done."""
    return Fault(name="dropped", drop="before")


def lost_reply() -> Fault:
    """The work is done, and the connection ends before the answer."""
    return Fault(name="lost reply", drop="after")


def cut_upload(after_bytes: int) -> Fault:
    return Fault(name="cut upload", cut_upload=after_bytes)


def cut_download(after_bytes: int) -> Fault:
    return Fault(name="cut download", cut_download=after_bytes)


def slow(bytes_per_second: int) -> Fault:
    return Fault(name="slow", bytes_per_second=bytes_per_second)


def late(seconds: float) -> Fault:
    return Fault(name="late", delay_s=seconds)


@dataclass
class _Rule:
    kind: str
    faults: Sequence[Fault]
    path: str = ""
    after: int = 0
    times: int | None = None       # None: for ever
    probability: float = 1.0
    seed: int = 0
    seen: int = 0
    used: int = 0


class Faults:
    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._ordinals: Counter[str] = Counter()
        self._lock = threading.Lock()

    def inject(self, kind: str, fault: Fault, *, times: int | None = 1, after: int = 0, path: str = "") -> None:
        """Let `times` requests of this kind fail (None: all), after `after` of them went well."""
        self._add(_Rule(kind, [fault], path=path, after=after, times=times))

    def inject_randomly(
        self, probability: float, faults: Sequence[Fault], *, seed: int, kind: str = "*", times: int | None = None
    ) -> None:
        """Which requests fail depends on the seed, the kind and the request's ordinal in its kind, not on threads."""
        self._add(_Rule(kind, faults, times=times, probability=probability, seed=seed))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def draw(self, kind: str, path: str) -> Fault | None:
        """The fault of this request, if it has one."""
        with self._lock:
            self._ordinals[kind] += 1
            return next(filter(None, (self._try(rule, kind, path) for rule in self._rules)), None)

    def _add(self, rule: _Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def _try(self, rule: _Rule, kind: str, path: str) -> Fault | None:
        if not fnmatchcase(kind, rule.kind) or rule.path not in path:
            return None
        rule.seen += 1
        if rule.seen <= rule.after or (rule.times is not None and rule.used >= rule.times):
            return None
        drawn = _uniform(rule.seed, kind, self._ordinals[kind])
        if drawn >= rule.probability:
            return None
        rule.used += 1
        return rule.faults[int(drawn / rule.probability * len(rule.faults))]


def _uniform(seed: int, kind: str, ordinal: int) -> float:
    """In [0, 1)."""
    digest = hashlib.sha256(f"{seed} {kind} {ordinal}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
