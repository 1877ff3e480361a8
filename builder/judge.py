"""The judge: pure rules over scores, each with a bound, and one verdict per pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from builder.columns import SCORES
from builder.reasons import KEPT, REASONS

Scores = Mapping[str, "float | None"]
Rule = Callable[[Scores, str], "Verdict"]  # (scores, category) -> verdict; pure


@dataclass(frozen=True, slots=True)
class Verdict:
    """keep, and one code of `builder.reasons.REASONS` (`kept` exactly when it is kept)."""

    keep: bool
    reason: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS or self.keep != (self.reason == KEPT):
            raise ValueError(f"a verdict needs a reason of builder.reasons that fits keep, got {self}")


KEEP = Verdict(True, KEPT)


def reject(reason: str) -> Verdict:
    """A verdict against the pair; `reason` is a code of `REASONS` other than `kept`."""
    return Verdict(False, reason)


def judge(rules: Sequence[Rule], scores: Scores, category: str) -> Verdict:
    """The first rule that fails gives the reason; broken scores are `score_invalid` before any rule is asked."""
    if invalid_scores(scores):
        return reject("score_invalid")
    for rule in rules:
        verdict = rule(scores, category)
        if not verdict.keep:
            return verdict
    return KEEP


def invalid_scores(scores: Mapping[str, Any]) -> list[str]:
    """Names of scores that are unknown, or neither None nor a number in [-1, 1]."""
    return [name for name, value in scores.items() if name not in SCORES or not _is_score(value)]


def _is_score(value: Any) -> bool:
    if value is None:
        return True
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return isfinite(number) and -1.0 <= number <= 1.0
