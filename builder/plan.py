"""The plan: which pairs a run tries. Lazy and deterministic; a pair is a pure function of its number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING

from builder.seeds import seed_for
from builder.subjects import Subject
from toffee_hf.errors import InputError

if TYPE_CHECKING:
    from builder.recipe import Recipe
    from builder.subjects import SubjectIndex

_TURN = 1 << 64  # phases are 64-bit fractions of a turn
# Roberts' R2 sequence, 1/g and 1/g**2 with g the plastic number: evenly spread along both axes at once.
_STEP_IN_ROUND = 0xC13FA9A902A6328F
_STEP_BETWEEN_ROUNDS = 0x91E10DA5C79E7B1C


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair to try. number: its place in the plan, from 0; seed: int in [0, 2**63)."""

    number: int
    subject: Subject
    task: str
    category: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work: the pairs [first, last] of one run, which become its files and one receipt."""

    run8: str
    number: int
    pairs: tuple[Pair, ...]

    @property
    def first(self) -> int:
        return self.pairs[0].number

    @property
    def last(self) -> int:
        """Number of the last pair, inclusive."""
        return self.pairs[-1].number

    @property
    def name(self) -> str:
        return shard_name(self.run8, self.number)


def shard_name(run8: str, number: int) -> str:
    return f"{run8}-{number:05d}"


def pair_seed(seed: int, number: int) -> int:
    """The seed of pair `number` of a run with `seed`."""
    return seed_for(seed, "pair", number)


@dataclass(frozen=True)
class Plan:
    """Pairs 0..count-1 of one recipe, seed and subject index; nothing is enumerated before it is asked for.

    Every subject is used before any is used twice. Rounds walk one seeded permutation from different starts, and
    (task, category) cells follow a low-discrepancy sequence over place and round, so that shares hold over any
    stretch of pairs and each subject meets all categories in turn.
    """

    recipe: Recipe
    subjects: SubjectIndex
    seed: int
    run8: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"--pairs must be at least 1, got {self.count}")

    @property
    def shard_count(self) -> int:
        return -(-self.count // self.recipe.pairs_per_shard)

    def shard_range(self, number: int) -> tuple[int, int]:
        """First and last pair number (inclusive) of a shard."""
        first = number * self.recipe.pairs_per_shard
        return first, min(first + self.recipe.pairs_per_shard, self.count) - 1

    def shard(self, number: int) -> Shard:
        first, last = self.shard_range(number)
        return Shard(self.run8, number, tuple(self.pair(k) for k in range(first, last + 1)))

    def shards(self) -> Iterator[Shard]:
        return (self.shard(number) for number in range(self.shard_count))

    def pair(self, number: int) -> Pair:
        """Pair `number`; it does not depend on how many pairs the plan has."""
        seed = pair_seed(self.seed, number)
        round_, place = divmod(number, len(self.subjects))
        walk = (place + seed_for(self.seed, "round", round_)) % len(self.subjects)
        subject = self.subjects[(walk * self._stride + self._offset) % len(self.subjects)]
        task, category = self._cell(walk, round_)
        prompt = self.recipe.prompts.write(seed, category, subject.class_name)
        return Pair(number, subject, task, category, prompt, seed)

    def _cell(self, walk: int, round_: int) -> tuple[str, str]:
        phase = (walk * _STEP_IN_ROUND + round_ * _STEP_BETWEEN_ROUNDS + self._phase) % _TURN
        bounds, cells = self._cells
        return cells[min(bisect_right(bounds, phase), len(cells) - 1)]

    @cached_property
    def _cells(self) -> tuple[list[int], list[tuple[str, str]]]:
        """Upper ends of the cells on the turn, and their (task, category)."""
        bounds, cells, end = [], [], 0.0
        editing = self.recipe.editing_share
        for category, share in self.recipe.prompts.shares:
            for task, part in (("generation", 1 - editing), ("editing", editing)):
                end += share * part
                if share * part > 0:
                    bounds.append(round(end / self.recipe.prompts.total * _TURN))
                    cells.append((task, category))
        return bounds, cells

    @cached_property
    def _phase(self) -> int:
        return seed_for(self.seed, "phase") << 1

    @cached_property
    def _offset(self) -> int:
        return seed_for(self.seed, "offset") % len(self.subjects)

    @cached_property
    def _stride(self) -> int:
        """A seeded number without a common divisor with the number of subjects: i -> i*stride is a permutation."""
        size = len(self.subjects)
        stride = seed_for(self.seed, "stride") % size or 1
        while gcd(stride, size) != 1:
            stride = stride % size + 1
        return stride
