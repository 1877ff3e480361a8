"""The recipe: everything that can change a byte of the dataset, frozen, and checked before a model loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from builder.judge import Rule
from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    from builder.batch import Batch

PROVIDED = frozenset({"reference_bytes", "scores"})  # the runner's: the subject's raw bytes, and an empty dict per pair
NEEDED = frozenset({"reference", "reference_mask", "target", "target_mask"})
NEEDED_FOR_EDITING = frozenset({"source", "mask"})


class Stage(Protocol):
    """A frozen dataclass of settings. It adds columns; models come from a cache of the process that it calls itself.

    It knows no rank, worker or shard. `run` may drop pairs only by `batch.reject`, and keeps the order of the rest.
    """

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> frozenset[str]: ...
    @property
    def writes(self) -> frozenset[str]: ...
    def run(self, batch: Batch) -> Batch: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptPlan:
    """Categories of change with their shares (any positive scale), and what writes a prompt: pure, model-free.

    write: (pair seed, category, class name) -> prompt.
    """

    shares: tuple[tuple[str, float], ...]
    write: Callable[[int, str, str], str]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.shares]
        if not names or len(set(names)) != len(names):
            raise RecipeError(f"prompts need at least one category, each named once, got {names}")
        for name, share in self.shares:
            if not (isfinite(share) and share > 0):
                raise RecipeError(f"the share of category {name!r} must be above 0, got {share}")

    @property
    def total(self) -> float:
        return sum(share for _, share in self.shares)

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.shares)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """A set of weight files: a file or folder here, or a Hub id pinned to a commit. Their content goes into the run."""

    name: str
    licence: str
    source: str  # for people: where it comes from, as shown on the card
    path: Path | None = None
    hub_id: str | None = None
    revision: str | None = None  # 40 hex digits of the Hub's commit

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub_id is None):
            raise RecipeError(f"weight {self.name!r} needs either path or hub_id")
        if self.hub_id is not None and not _is_commit(self.revision):
            raise RecipeError(f"weight {self.name!r} needs revision = the 40 hex digits of a commit of {self.hub_id}")


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a dataset is made. `seconds_per_pair` (of one worker) and `bytes_per_pair` are measured first guesses."""

    name: str
    size_px: int  # side of every picture, which is square
    stages: tuple[Stage, ...]
    rules: tuple[Rule, ...]
    prompts: PromptPlan
    weights: tuple[Weight, ...] = ()
    editing_share: float = 1 / 3
    pairs_per_shard: int = 16
    batch_size: int = 16
    attempts: int = 2
    image_format: Literal["webp", "jpeg"] = "webp"
    threads: int = 1  # torch threads of one CPU worker: 1 and 2 differ in bits
    seconds_per_pair: float = 1.0
    bytes_per_pair: int = 100_000

    def __post_init__(self) -> None:
        for field in ("size_px", "pairs_per_shard", "batch_size", "attempts", "threads"):
            if getattr(self, field) < 1:
                raise RecipeError(f"recipe {self.name!r}: {field} must be at least 1, got {getattr(self, field)}")
        if not 0 <= self.editing_share <= 1:
            raise RecipeError(f"recipe {self.name!r}: editing_share must be in [0, 1], got {self.editing_share}")
        if self.image_format not in ("webp", "jpeg"):
            raise RecipeError(f"recipe {self.name!r}: image_format must be 'webp' or 'jpeg', got {self.image_format!r}")
        check_columns(self)


def check_columns(recipe: Recipe) -> None:
    """Every column is written before it is read, and a row has all it needs at the end; else `RecipeError`."""
    present = set(PROVIDED)
    for stage in recipe.stages:
        missing = sorted(stage.reads - present)
        if missing:
            raise RecipeError(
                f"recipe {recipe.name!r}: stage {stage.name!r} reads column {missing[0]!r}, which no earlier stage "
                f"writes; there are: {', '.join(sorted(present))}"
            )
        present |= stage.writes
    needed = NEEDED | (NEEDED_FOR_EDITING if recipe.editing_share > 0 else frozenset())
    lacking = sorted(needed - present)
    if lacking:
        raise RecipeError(f"recipe {recipe.name!r}: no stage writes column {lacking[0]!r}, which every row needs")
