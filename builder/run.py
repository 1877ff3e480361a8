"""A run: one recipe, one seed, one subject index; what of it is done in an output folder, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.families import check_families
from builder.files import os_errors_are_input
from builder.fingerprint import run_fingerprint
from builder.lease import Part
from builder.machine import device_kind, instruction_set, library_versions
from builder.plan import Plan
from builder.published import published_files
from builder.receipts import Receipt, is_done, read_receipts
from builder.recipe import Recipe
from builder.recipe_reference import absolute_reference, load_recipe
from builder.subjects import SubjectIndex, index_subjects
from toffee_hf.errors import InputError

DEFAULT_RECIPE = "tiny"
DEFAULT_SUBJECTS = "toy:held-out"
DEFAULT_OUTPUT = Path("toffee")
DEFAULT_PAIRS = 64
_MAX_SEED = 2**63 - 1
MAX_PAIRS = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What a user asks for. recipe: its reference; pairs: how many to try; seed in [0, 2**63)."""

    recipe: str = DEFAULT_RECIPE
    subjects: str = DEFAULT_SUBJECTS
    pairs: int = DEFAULT_PAIRS
    seed: int = 0
    output: Path = DEFAULT_OUTPUT

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= MAX_PAIRS:
            raise InputError(f"--pairs must be at least 1 and at most {MAX_PAIRS:,}, got {self.pairs}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise InputError(f"--seed must be in [0, 2**63), got {self.seed}")


@dataclass(frozen=True, slots=True)
class Run:
    """A request with its recipe loaded and its subjects indexed. reference: the recipe's, valid in any folder."""

    request: RunRequest
    reference: str
    recipe: Recipe
    subjects: SubjectIndex
    plan: Plan

    @property
    def run8(self) -> str:
        return self.plan.run8

    def pending(self, part: Part) -> Iterator[int]:
        """Numbers of the shards of `part` without a receipt over all their pairs, or with a file that is nowhere."""
        output = self.request.output
        published = published_files(output)
        for number in range(part.index, self.plan.shard_count, part.count):
            if not is_done(output, self.run8, number, *self.plan.shard_range(number), published):
                yield number

    def is_complete(self) -> bool:
        return next(self.pending(Part()), None) is None

    def receipts(self) -> Iterator[Receipt]:
        return read_receipts(self.request.output, self.run8)

    def other_stack(self) -> str | None:
        """How an earlier shard's libraries, CPU or kind of device differ from this process's, if they do."""
        now = {**library_versions(), "cpu": instruction_set(), "device": device_kind()}
        for receipt in self.receipts():
            then = {**receipt.versions, "cpu": receipt.cpu, "device": "cpu" if receipt.device == "cpu" else "gpu"}
            changed = [f"{name} {then.get(name)} -> {now.get(name)}" for name in now if then.get(name) != now[name]]
            if changed:
                return ", ".join(changed)
        return None


@os_errors_are_input("cannot read")
def open_run(request: RunRequest) -> Run:
    """Load the recipe and index the subjects; writes nothing. Raises `InputError`."""
    recipe = load_recipe(request.recipe)
    check_families(recipe)
    subjects = index_subjects(request.subjects, recipe.size_px)
    run8 = run_fingerprint(recipe, request.seed, subjects.digest)
    plan = Plan(recipe, subjects, request.seed, run8, request.pairs)
    return Run(request, absolute_reference(request.recipe), recipe, subjects, plan)
