"""What the local engine and its workers say to each other: small, and never a recipe or a picture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Blame(Enum):
    """What a failed shard means for the run."""

    SHARD = "shard"  # try again, then give this shard up
    INPUT = "input"  # the user's: every shard would fail
    DISK = "disk"  # full: every shard would fail


@dataclass(frozen=True, slots=True)
class Setup:
    """First message to a worker. recipe: a reference; output: an absolute path; seed: the run's, for receipts."""

    recipe: str
    output: str
    seed: int
    threads: int


@dataclass(frozen=True, slots=True)
class Done:
    """A receipt has been written."""

    shard: int
    pairs: int
    kept: int


@dataclass(frozen=True, slots=True)
class Failed:
    """`run_shard` raised. message: one line for the user; detail: the traceback, for a bug of ours."""

    shard: int
    blame: Blame
    message: str
    detail: str = ""
