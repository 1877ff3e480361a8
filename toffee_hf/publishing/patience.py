"""Calls of the Hub, made again while what hinders them may pass, and told in one sentence when it does not."""

from __future__ import annotations

import errno
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from toffee_hf.errors import DiskFull, HubError, HubRefusal, ToffeeError

Answer = TypeVar("Answer")
PASSING = frozenset({408, 409, 412, 425, 429, 500, 502, 503, 504})       # statuses that another try may change
FULL = (errno.ENOSPC, errno.EDQUOT)
MOST_CHARACTERS = 200
RESET = re.compile(r"\br=0\b.*?\bt=(\d+)")
SECONDS = re.compile(r"\A(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits double from `first_s` up to `most_s`, until `total_s` have passed. sleep: may raise, to give up at once."""

    first_s: float = 1.0
    most_s: float = 120.0
    total_s: float = 4 * 3600.0
    sleep: Callable[[float], object] = time.sleep

    def hurried(self) -> Patience:
        """For questions before anything runs: a person waits for the answer."""
        return replace(self, total_s=min(self.total_s, 20.0), most_s=min(self.most_s, 5.0))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a call failed. status: of HTTP, None without an answer; said: for people; wait_s: what the Hub asks for."""

    status: int | None
    said: str
    wait_s: float = 0.0

    @property
    def passes(self) -> bool:
        return self.status is None or self.status in PASSING


def patiently(call: Callable[[], Answer], patience: Patience, what: str) -> Answer:
    """The answer of `call`, sooner or later. what: "cannot do this", for the message.

    Raises HubRefusal where the Hub says no, HubError when patience is at its end; bugs pass through.
    """
    for wait in waits(patience):
        try:
            return call()
        except Exception as err:
            trouble = refused_or_passing(err, what)
            said = err
        if trouble.wait_s > patience.total_s:
            break
        patience.sleep(max(wait, trouble.wait_s))
    raise out_of_patience(what, trouble) from said


def waits(patience: Patience) -> Iterator[float]:
    """Seconds to wait after each try, with chance in them, while patience lasts; at least one."""
    end, wait = time.monotonic() + patience.total_s, patience.first_s
    while True:
        yield wait * random.uniform(0.5, 1.0)
        if time.monotonic() > end:
            return
        wait = min(2 * wait, patience.most_s)


def refused_or_passing(err: Exception, what: str) -> Trouble:
    """The trouble, if it may pass. Raises HubRefusal if it will not, DiskFull where this disk is the trouble, and the
    error itself if it is a bug."""
    if any(isinstance(cause, OSError) and cause.errno in FULL for cause in _causes(err)):
        raise DiskFull(f"{what}: no space is left on this disk; make room, and give the same command again") from err
    trouble = trouble_of(err)
    if trouble is None:
        raise err
    if not trouble.passes:
        raise HubRefusal(f"{what}: {trouble.said}", trouble.status or 0, trouble.said) from err
    return trouble


def out_of_patience(what: str, trouble: Trouble) -> HubError:
    asked = f", and asks for {trouble.wait_s:,.0f} s" if trouble.wait_s else ""
    return HubError(f"{what} ({trouble.said}{asked}), and patience is at its end; the same command goes on from here")


def trouble_of(err: BaseException) -> Trouble | None:
    """What an error of the client is to us; None for a bug or an error of our own."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    for found in _causes(err):
        if isinstance(found, OfflineModeIsEnabled):
            return Trouble(403, "HF_HUB_OFFLINE is set")
        if isinstance(found, HfHubHTTPError):
            status = int(found.response.status_code)
            return Trouble(status, f"the Hub answers {status}{_words(found.server_message)}", _asked_wait(found))
        if isinstance(found, HTTPError):
            return Trouble(None, f"no whole answer from the Hub{_words(type(found).__name__)}")
        if isinstance(found, OSError) and found.filename is not None:     # a file of ours
            return None
    if isinstance(err, ToffeeError):
        return None
    if isinstance(err, ValueError) and "Invalid metadata" in str(err):
        return Trouble(400, _one_line(str(err)))
    if isinstance(err, (OSError, json.JSONDecodeError, RuntimeError)) or "LFS batch" in str(err):
        return Trouble(None, f"no whole answer from the Hub{_words(str(err))}")   # RuntimeError: of uploads, and of Xet
    return None


def _causes(err: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = err
    while found is not None:
        yield found
        found = found.__cause__


def _asked_wait(err: object) -> float:
    """Of `Retry-After: 30`, or of `RateLimit: "api";r=0;t=30`."""
    headers = getattr(getattr(err, "response", None), "headers", {})
    found = RESET.search(headers.get("RateLimit", "")) or SECONDS.search(headers.get("Retry-After", ""))
    return min(3600.0, float(found[1])) if found else 0.0


def _words(text: object) -> str:
    return f": {_one_line(str(text))}" if text else ""


def _one_line(text: str) -> str:
    """Short, and without a token, should the Hub repeat one."""
    from huggingface_hub import get_token

    line, token = " ".join(text.split()), get_token()
    line = line.replace(token, "***") if token else line
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}..."
