"""How far the runs of a folder are, while they are not at their end: from receipts and from what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from builder.receipts import Receipt
from builder.report.markdown import duration, share
from builder.report.statistics import Statistics

_LATELY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Pairs tried and asked for; tried per hour lately, by all workers together; None where no time has passed."""

    tried: int
    asked: int
    kept: int
    per_hour: float | None

    @property
    def seconds_left(self) -> float | None:
        return (self.asked - self.tried) / self.per_hour * 3600 if self.per_hour else None


def ahead(statistics: Statistics) -> Ahead | None:
    """None where everything that was asked for has been tried."""
    asked = {run["run8"]: int(run.get("pairs", 0)) for run in statistics.recipe.get("runs", ())}
    tried = dict.fromkeys(asked, 0)
    for receipt in statistics.receipts:
        tried[receipt.run8] = tried.get(receipt.run8, 0) + receipt.pairs
    if all(tried[run] >= pairs for run, pairs in asked.items()):
        return None
    total = sum(max(tried[run], pairs) for run, pairs in asked.items())
    return Ahead(sum(tried.values()), total, statistics.kept, _per_hour(statistics.receipts))


def ahead_line(statistics: Statistics) -> str:
    """Markdown, or nothing for runs that are at their end."""
    found = ahead(statistics)
    if found is None:
        return ""
    rate = f", {found.per_hour:,.0f} pairs per hour lately" if found.per_hour else ""
    left = f", {duration(found.seconds_left)} to go" if found.seconds_left is not None else ""
    return (
        f"**Being made: {found.tried:,} of {found.asked:,} pairs are tried ({share(found.tried, found.asked)}), "
        f"{found.kept:,} kept{rate}{left}.** What is here is whole and can be loaded; more follows.\n\n"
    )


def _per_hour(receipts: Sequence[Receipt]) -> float | None:
    """Of the shards that were finished within an hour of the latest one."""
    try:
        times = [(_time(it.started), _time(it.finished), it.pairs) for it in receipts]
        latest = max((finished for _, finished, _ in times), default=None)
    except (ValueError, TypeError):  # somebody has edited a receipt
        return None
    if latest is None:
        return None
    recent = [(started, pairs) for started, finished, pairs in times if latest - finished < _LATELY]
    span = (latest - min(started for started, _ in recent)).total_seconds()
    return sum(pairs for _, pairs in recent) / span * 3600 if span > 0 else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
