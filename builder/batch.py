"""A batch of pairs on its way through the stages: columns by name, and the pairs that fell on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from builder.plan import Pair
from builder.reasons import KEPT, REASONS
from builder.seeds import generator_for
from builder.subjects import Skipped
from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Rejected:
    """A pair that a stage rejected, with its part of every column that existed by then."""

    pair: Pair
    reason: str
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """B pairs in one attempt. A column is a tensor or array with leading dimension B, or a list of length B.

    Nothing is changed in place: each method returns a new batch that shares the columns.
    """

    pairs: tuple[Pair, ...]
    attempt: int
    columns: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    left_out: tuple[Skipped, ...] = ()  # pictures that turned out to be unusable; the runner takes them

    def __len__(self) -> int:
        return len(self.pairs)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Any:
        if name not in self.columns:
            raise RecipeError(f"no column {name!r}; there are: {', '.join(sorted(self.columns))}")
        return self.columns[name]

    def with_columns(self, **columns: Any) -> Batch:
        """The batch with these columns added or replaced; raises `RecipeError` if one is not of length B."""
        for name, column in columns.items():
            if len(column) != len(self):
                raise RecipeError(f"column {name!r} has {len(column)} items for {len(self)} pairs")
        return replace(self, columns={**self.columns, **columns})

    def select(self, indices: Sequence[int]) -> Batch:
        """The pairs at `indices`, in that order, without the rejected ones: a view for work on a part."""
        columns = {name: _take(column, indices) for name, column in self.columns.items()}
        return Batch(tuple(self.pairs[i] for i in indices), self.attempt, columns)

    def reject(self, indices: Sequence[int], reason: str) -> Batch:
        """Without the pairs at `indices`, which become rejected rows with whatever columns they have so far.

        reason: a code of `builder.reasons.REASONS` other than `kept`.
        """
        if reason not in REASONS or reason == KEPT:
            raise RecipeError(f"unknown reason {reason!r}; allowed: {', '.join(REASONS)}")
        leaving = {int(i) for i in indices}
        if not leaving:
            return self
        fallen = tuple(Rejected(self.pairs[i], reason, self.row(i)) for i in sorted(leaving))
        staying = self.select([i for i in range(len(self)) if i not in leaving])
        return replace(staying, rejected=self.rejected + fallen, left_out=self.left_out)

    def leave_out(self, reasons: Mapping[int, str]) -> Batch:
        """Without these pairs, whose pictures cannot be decoded: they become `unreadable` rows.

        reasons: index -> what is wrong with the picture, which the receipt and the card tell under the file's name.
        """
        told = tuple(Skipped(self.pairs[i].subject.shown_name, why) for i, why in sorted(reasons.items()))
        return replace(self.reject(tuple(reasons), "unreadable"), left_out=self.left_out + told)

    def row(self, index: int) -> dict[str, Any]:
        """What every column holds for one pair."""
        return {name: column[index] for name, column in self.columns.items()}

    def generators(self, stage: str) -> list[torch.Generator]:
        """One CPU generator per pair, of this attempt and the named stage."""
        return [generator_for(pair.seed, pair.number, stage, self.attempt) for pair in self.pairs]


def concatenate(parts: Sequence[Batch]) -> Batch:
    """The parts one after another, with the rejected pairs of all; empty parts may lack columns."""
    filled = [part for part in parts if len(part)]
    names = list(filled[0].columns) if filled else []
    columns = {name: _join([part.columns[name] for part in filled]) for name in names}
    pairs = tuple(pair for part in parts for pair in part.pairs)
    rejected = tuple(fallen for part in parts for fallen in part.rejected)
    return Batch(pairs, parts[0].attempt, columns, rejected, tuple(it for part in parts for it in part.left_out))


def _take(column: Any, indices: Sequence[int]) -> Any:
    if isinstance(column, (list, tuple)):
        return [column[i] for i in indices]
    return column[list(indices)]


def _join(columns: list[Any]) -> Any:
    if isinstance(columns[0], (list, tuple)):
        return [item for column in columns for item in column]
    if type(columns[0]).__module__.partition(".")[0] == "torch":
        import torch

        return torch.cat(columns)
    import numpy as np

    return np.concatenate(columns)
