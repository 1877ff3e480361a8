"""The rules of the judge: bounds on scores, some of them by category of change."""

from __future__ import annotations

from dataclasses import dataclass

from builder.judge import KEEP, Scores, Verdict, reject
from toffee_hf.errors import RecipeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """A score must lie in [low, high]; a score that was not measured passes."""

    score: str
    low: float = -1.0
    high: float = 1.0
    below: str                        # reason under `low`
    above: str                        # reason over `high`
    lows: tuple[tuple[str, float], ...] = ()    # other lower bounds by category

    def __post_init__(self) -> None:
        for low in (self.low, *(value for _, value in self.lows)):
            if not -1 <= low <= self.high <= 1:
                raise RecipeError(
                    f"bounds on {self.score} need -1 <= low <= high <= 1, got low {low}, high {self.high}")

    def __call__(self, scores: Scores, category: str) -> Verdict:
        value = scores.get(self.score)
        if value is None:
            return KEEP
        if value < dict(self.lows).get(category, self.low):
            return reject(self.below)
        return reject(self.above) if value > self.high else KEEP
