"""The rows of an output folder on the Hub: what is not there yet, and commits that bring it there.

Every commit holds whole shards with their receipts, and a card that tells of exactly the rows that are there with it; a
shard counts as published once the Hub names the same sha256 for each of its files.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import taking_up
from builder.files import sync_folder, write_atomically
from builder.published import Place, is_published, mirror, published_receipts, settle_place
from builder.receipts import FOLDER as RECEIPTS
from builder.receipts import Receipt, has_size, read_receipts, receipt_from, receipt_path
from builder.report import CARD, report_pictures
from builder.report.card import dataset_card
from builder.report.remembered import remember
from builder.report.statistics import published_statistics
from builder.run_record import NAME as RECORD
from builder.run_record import read_record
from builder.taking_up import MARKER, There, marker_from
from toffee_hf.errors import HeadMoved, OtherPublisher, RunError
from toffee_hf.publishing.card_check import check_card
from toffee_hf.publishing.hub import Content, Repository, sha256_of

MOST_SHARDS = 100                     # in one commit
DRAW_EVERY_S = 300.0                  # the pictures of the card; its words and figures are new in every commit


@dataclass
class Publication:
    """An output folder and its repository. keep_local: published files stay on the disk; commits: made by this one;
    silent_s: how long none need come from a publisher that is alive; say: hears of every commit."""

    output: Path
    repository: Repository
    keep_local: bool = True
    process: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    commits: list[str] = field(default_factory=list)
    silent_s: float = 3600.0
    say: Callable[[str], None] = lambda text: None
    _there: There = field(default_factory=There)
    _head: str = ""
    _drawn: float = -math.inf
    _place: Place | None = None

    @property
    def told(self) -> str:
        """Address and commit of what is published."""
        return f"{self.repository.url} at {self._head[:12]}, {len(self.commits)} commits by this command"

    @property
    def place(self) -> Place:
        assert self._place is not None, "take_up comes first"
        return self._place

    def look(self) -> dict[str, Any] | None:
        """The record of the runs that are there, or None; writes nothing. Raises InputError as `taking_up.look`."""
        self._there = taking_up.look(self.output, self.repository)
        self._head = self._there.commit
        return self._there.record

    def take_up(self) -> None:
        """Make the folder know what the Hub holds. After `look`, by whoever holds the folder."""
        if self.repository.head() != self._head:          # another command of this folder has ended since the look
            self.look()
        self._place = settle_place(self.output, self.repository.name, self.repository.revision)
        taking_up.take_up(self.output, self.repository, self._there)
        if not self.keep_local:
            self._remove_files(it for it in published_receipts(self.output).values() if is_published(self.output, it))

    def waiting(self) -> list[Receipt]:
        """Finished shards that are not published."""
        return [receipt for receipt in read_receipts(self.output) if not is_published(self.output, receipt)]

    def missing(self) -> list[Receipt]:
        """What will be waiting after `take_up`, from `look` alone; writes nothing."""
        return [receipt for receipt in read_receipts(self.output) if not self._is_there(receipt)]

    def _is_there(self, receipt: Receipt) -> bool:
        """Whether the Hub holds this shard, or one that `take_up` puts in its place."""
        path = f"{RECEIPTS}/{receipt.name}.json"
        remote, commit = self._there.files.get(path), self._there.commit
        if remote is None:
            return False
        if remote.equals(self.output / path):
            return self._there.holds(receipt)
        theirs = receipt_from(self.repository.fetch([path], commit)[path])
        return theirs is not None and self._there.holds(theirs) and theirs.last_pair >= receipt.last_pair

    def send(self, receipt: Receipt) -> None:
        """The bytes of a shard go ahead of its commit."""
        self.repository.send(self._shard_contents(receipt))

    def publish(self, receipts: Sequence[Receipt], done: bool = False) -> None:
        """Commit shards, card and pictures. done: nothing more is to come, and others may publish there."""
        for start in range(0, max(1, len(receipts)), MOST_SHARDS):
            batch = receipts[start : start + MOST_SHARDS]
            self._publish(batch, done and start + MOST_SHARDS >= len(receipts))

    def _publish(self, batch: Sequence[Receipt], done: bool) -> None:
        shards = {path: content for receipt in batch for path, content in self._shard_contents(receipt).items()}
        copies = {
            f"{RECEIPTS}/{it.name}.json": receipt_path(self.output, it.run8, it.shard).read_bytes() for it in batch
        }
        contents: dict[str, Content] = {**shards, **copies, **self._told(batch, done)}
        self._commit(contents, _message(batch), self._replaced(batch))
        self.repository.verify(contents, self._head)
        self.say(f"{self.repository.name} at {self._head[:12]}: {_message(batch)}")
        for path, data in copies.items():
            write_atomically(mirror(self.output) / path, data)
        if not self.keep_local:
            self._remove_files(batch)

    def _shard_contents(self, receipt: Receipt) -> dict[str, Path]:
        """Raises RunError for a file that is gone, or is not what its receipt says."""
        contents = {file.path: self.output / file.path for file in receipt.files}
        for file in receipt.files:
            path = contents[file.path]
            if not has_size(path, file.bytes) or sha256_of(path) != file.sha256:
                raise RunError(
                    f"{path} is gone or not as in its receipt; remove it, and the same `toffee build` makes it again"
                )
        return contents

    def _told(self, batch: Sequence[Receipt], done: bool) -> dict[str, Content]:
        """Everything but shards and receipts: a card that is true with this commit, and who publishes."""
        statistics = published_statistics(self.output, read_record(self.output) or {}, batch)
        card = dataset_card(statistics, self.repository.name, self.repository.revision)
        check_card(card, "dataset")
        marker: dict[str, Any] = {"publisher": self.place.publisher, "done": done}
        if not done:
            marker |= {"process": self.process, "run": _runs(batch), "silent_s": round(self.silent_s)}
        told: dict[str, Content] = {
            CARD: card.encode(),
            RECORD: (self.output / RECORD).read_bytes(),
            MARKER: (json.dumps(marker) + "\n").encode(),
        }
        if self._is_to_draw(batch, done):
            self._drawn = time.monotonic()
            told |= report_pictures(self.output, statistics)
        return told

    def _is_to_draw(self, batch: Sequence[Receipt], done: bool) -> bool:
        """Every few minutes and at the end, unless an earlier command has drawn the same rows."""
        if self._drawn == -math.inf and not batch and self._there.marker.get("done"):
            return False
        return done or time.monotonic() - self._drawn > DRAW_EVERY_S

    def _replaced(self, batch: Sequence[Receipt]) -> list[str]:
        """Files of older, shorter versions of these shards that have no successor."""
        older = published_receipts(self.output) if batch else {}
        return [path for receipt in batch if receipt.name in older
                for path in sorted(_paths(older[receipt.name]) - _paths(receipt))]

    def _commit(self, contents: dict[str, Content], message: str, removed: list[str]) -> None:
        """Upon the head that we know, or upon what a person has added there meanwhile."""
        while True:
            try:
                commit = self.repository.commit(contents, message, self._head, removed)
                break
            except HeadMoved as moved:
                self._check_still_alone(moved)
                self._head = moved.head
                removed = list(self.repository.files_at(removed, moved.head))         # the others are gone
        if commit != self._head:
            self.commits.append(commit)
        self._head = commit

    def _check_still_alone(self, moved: HeadMoved) -> None:
        there = self.repository.files_at([MARKER], moved.head)
        marker = marker_from(self.repository.fetch(list(there), moved.head).get(MARKER))
        ours = marker.get("publisher") == self.place.publisher and (
            marker.get("process") == self.process or marker == self._there.marker)
        if marker and not ours:
            raise OtherPublisher(
                f"another folder has published run {marker.get('run', '(finished)')} to {self.repository.name} "
                "meanwhile, so nothing more of this one was; once it is done, the same command goes on from here"
            ) from moved

    def _remove_files(self, receipts: Iterable[Receipt]) -> None:
        files = [file for receipt in receipts for file in receipt.files if (self.output / file.path).exists()]
        whole = [file for file in files if has_size(self.output / file.path, file.bytes)
                 and sha256_of(self.output / file.path) == file.sha256]
        if whole:                                         # the Hub has the others as well
            remember(self.output, whole)
        for file in files:
            with suppress(FileNotFoundError):
                (self.output / file.path).unlink()
        for folder in sorted({(self.output / file.path).parent for file in files}):
            sync_folder(folder)


def _message(batch: Sequence[Receipt]) -> str:
    shards = "1 shard" if len(batch) == 1 else f"{len(batch)} shards"
    return f"{shards} of run {_runs(batch)}" if batch else "Card"


def _runs(batch: Sequence[Receipt]) -> str:
    return ", ".join(dict.fromkeys(receipt.run8 for receipt in batch))


def _paths(receipt: Receipt) -> set[str]:
    return {file.path for file in receipt.files}
