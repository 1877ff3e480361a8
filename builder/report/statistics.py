"""What the receipts of an output folder add up to. The card and the pictures take every figure from here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS
from builder.published import published_files, published_receipts
from builder.reasons import KEPT
from builder.receipts import Receipt, ShardFile, has_size, read_receipts, total
from builder.run_record import read_record
from toffee_hf.errors import InputError


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sums over the receipts of one folder. Seconds are worker-seconds: two busy workers spend two in one second."""

    recipe: dict[str, Any]  # recipe.json
    receipts: tuple[Receipt, ...]  # in the order of run and shard, without the files that are lost
    lost: tuple[str, ...] = ()  # files that receipts tell of and that are gone or cut
    away: frozenset[str] = frozenset()  # files that are on the Hub alone

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each config that has any, in the order of `CONFIGS`."""
        counts = {config: sum(receipt.rows.get(config, 0) for receipt in self.receipts) for config in CONFIGS}
        return {config: count for config, count in counts.items() if count}

    @property
    def tried(self) -> int:
        """Pairs tried: every one is a row of some config."""
        return sum(self.rows.values())

    @property
    def kept(self) -> int:
        return self.tried - self.rows.get("rejected", 0)

    @property
    def kept_share(self) -> float:
        """[0, 1]; 0 where nothing was tried."""
        return self.kept / self.tried if self.tried else 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """Rejected pairs by the reason of their last attempt, most frequent first."""
        counts = total(receipt.reasons for receipt in self.receipts)
        return {reason: count for reason, count in counts.items() if count and reason != KEPT}

    @property
    def retried(self) -> dict[str, int]:
        """Earlier attempts, by the reason that they were given up for, most frequent first."""
        return total(receipt.retried for receipt in self.receipts)

    @property
    def attempts(self) -> int:
        return sum(receipt.attempts for receipt in self.receipts)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage over all shards, in the order in which the stages ran."""
        sums: dict[str, float] = {}
        for receipt in self.receipts:
            for stage, seconds in receipt.seconds.items():
                sums[stage] = sums.get(stage, 0.0) + seconds
        return sums

    @property
    def seconds_total(self) -> float:
        return sum(receipt.seconds_total for receipt in self.receipts)

    @property
    def seconds_per_kept(self) -> float | None:
        return self.seconds_total / self.kept if self.kept else None

    @property
    def versions(self) -> dict[str, list[str]]:
        """Every version of every library that took part."""
        found: dict[str, set[str]] = {}
        for receipt in self.receipts:
            for name, version in receipt.versions.items():
                found.setdefault(name, set()).add(version)
        return {name: sorted(versions) for name, versions in sorted(found.items())}

    @property
    def messages(self) -> list[tuple[str, str]]:
        """(shard, message) of everything that a shard had to say."""
        return [(it.name, message) for it in self.receipts for message in it.messages]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """(picture, why it could not be used), of those seen at first sight and of those whose turn came."""
        first = [(line["file"], line["reason"]) for line in self.recipe.get("skipped") or ()]
        later = {item: None for receipt in self.receipts for item in receipt.left_out.items()}
        return [*first, *sorted(later)]

    @property
    def reduced(self) -> list[str]:
        """Shards that ran at a reduced batch, outside the promise of equal bytes."""
        return [it.name for it in self.receipts if it.reduced_batch]

    def files(self, config: str) -> list[ShardFile]:
        """The Parquet files of `config`, in the order of run and shard."""
        return [file for receipt in self.receipts for file in receipt.files if file.config == config]

    def version(self, config: str) -> str:
        """A version like 1.X.Y that changes whenever a file of `config` does, for the cache of `datasets`."""
        digest = hashlib.sha256()
        for file in self.files(config):
            digest.update(f"{file.path} {file.sha256}\n".encode())
        number = digest.hexdigest()
        return f"1.{int(number[:6], 16)}.{int(number[6:12], 16)}"

    def distinct(self, field: str) -> list[str]:
        """The different values of a field of the receipts, in order of appearance."""
        return list(dict.fromkeys(str(getattr(receipt, field)) for receipt in self.receipts))


def read_statistics(output: Path) -> Statistics:
    """Read recipe.json and the receipts of a folder. Raises InputError if it is none, or recipe.json is damaged."""
    receipts = list(read_receipts(output))
    recipe = read_record(output)
    if not receipts and recipe is None:
        raise InputError(f"{output} holds no receipts/ and no recipe.json: name a folder that `toffee build` wrote")
    absent = {file.path: file.sha256 for receipt in receipts for file in _absent(output, receipt)}
    published = published_files(output) if absent else {}
    lost = {path for path, sha256 in absent.items() if published.get(path) != sha256}
    return statistics_of(recipe or {}, (_without(it, lost) for it in receipts), lost, absent.keys() - lost)


def published_statistics(output: Path, recipe: dict[str, Any], new: Iterable[Receipt]) -> Statistics:
    """Of what the Hub holds, with the receipts `new` added or put in the place of their older versions."""
    receipts = published_receipts(output) | {receipt.name: receipt for receipt in new}
    away = (file.path for receipt in receipts.values() for file in _absent(output, receipt))
    return statistics_of(recipe, receipts.values(), (), away)


def statistics_of(
    recipe: dict[str, Any], receipts: Iterable[Receipt], lost: Iterable[str], away: Iterable[str]
) -> Statistics:
    ordered = sorted(receipts, key=lambda receipt: (receipt.run8, receipt.shard))
    return Statistics(recipe, tuple(ordered), tuple(sorted(lost)), frozenset(away))


def _absent(output: Path, receipt: Receipt) -> list[ShardFile]:
    return [file for file in receipt.files if not has_size(output / file.path, file.bytes)]


def _without(receipt: Receipt, lost: set[str]) -> Receipt:
    files = [file for file in receipt.files if file.path not in lost]
    return receipt if len(files) == len(receipt.files) else replace(
        receipt, files=files, rows={file.config: file.rows for file in files})  # fmt: skip
