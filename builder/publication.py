"""The rows of an output folder on the Hub: what is there, what is not yet, and commits that bring it there.

The repository is the truth. Every commit holds whole shards with their receipts, and a card that tells of exactly the
rows that are there with it; a shard counts as published once the Hub names the same sha256 for each of its files.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS
from builder.files import sync_folder, write_atomically
from builder.published import Place, check_place, is_published, mirror, published_receipts, read_place, settle_place
from builder.receipts import FOLDER as RECEIPTS
from builder.receipts import Receipt, ShardFile, has_size, read_receipt, read_receipts, receipt_path
from builder.report import CARD, report_pictures
from builder.report.card import dataset_card
from builder.report.remembered import remember
from builder.report.statistics import published_statistics
from builder.run_record import NAME as RECORD
from builder.run_record import adopt_runs, read_record, record_from
from builder.shard_files import remove_shard
from toffee_hf.errors import HeadMoved, InputError, OtherPublisher, RunError
from toffee_hf.publishing.card_check import check_card
from toffee_hf.publishing.hub import Content, RemoteFile, Repository, sha256_of

MARKER = "publishing.json"            # who publishes, in the repository itself
MOST_SHARDS = 100                     # in one commit
DRAW_EVERY_S = 300.0                  # the pictures of the card; its words and figures are new in every commit
DEAD_AFTER = timedelta(hours=1)       # a publisher that has not committed for so long
_GIT = ".gitattributes"
_RECEIPT = re.compile(rf"{RECEIPTS}/[0-9a-f]{{8}}-\d{{5,}}\.json")
_DATA = re.compile(rf"(?:{'|'.join(CONFIGS)})/(?:train-)?(.*?)(?:\.parquet)?")


@dataclass
class Publication:
    """An output folder and its repository. keep_local: published files stay on the disk."""

    output: Path
    repository: Repository
    keep_local: bool = True
    process: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    commits: list[str] = field(default_factory=list)
    _head: str = ""
    _is_done_there: bool = False
    _drawn: float = -math.inf
    _remote: dict[str, RemoteFile] = field(default_factory=dict)
    _record: dict[str, Any] | None = None
    _place: Place | None = None

    @property
    def told(self) -> str:
        """Address and commit of what is published."""
        return f"{self.repository.url} at {self._head[:12]}, {len(self.commits)} commits by this command"

    def look(self) -> dict[str, Any] | None:
        """See what is there, and write nothing; returns the record of its runs, None for a repository without files.

        Raises InputError for somebody else's files, for a folder that is published elsewhere, and while another
        folder publishes there.
        """
        check_place(self.output, self.repository.name, self.repository.revision)
        self._head = self.repository.head() if self.repository.exists else ""
        self._remote = self.repository.files(self._head)
        if not self._remote.keys() - {_GIT}:
            return None
        known = self.repository.fetch([path for path in (RECORD, MARKER) if path in self._remote], self._head)
        self._record = record_from(known.get(RECORD, b""))
        if self._record is None:
            name = sorted(self._remote.keys() - {_GIT})[0]
            raise InputError(
                f"{self.repository.name} holds {name} and is no dataset of `toffee build`; give a name that is free"
            )
        self._check_known()
        self._check_alone(_marker(known.get(MARKER)))
        return self._record

    def _check_known(self) -> None:
        """Rows that no receipt tells of would be loaded, and counted by nobody."""
        for path in sorted(self._remote):
            data = _DATA.fullmatch(path)
            if data and f"{RECEIPTS}/{data[1]}.json" not in self._remote:
                raise InputError(f"{self.repository.name} holds {path}, of which no receipt tells; remove it there")

    def _check_alone(self, marker: dict[str, Any]) -> None:
        place, self._is_done_there = read_place(self.output), bool(marker.get("done"))
        if marker.get("done", True) or (place and marker.get("publisher") == place.publisher):
            return
        if datetime.now(timezone.utc) - self.repository.committed() < DEAD_AFTER:
            raise InputError(
                f"another folder publishes run {marker.get('run')} to {self.repository.name} now; wait until it is "
                "done, or for an hour after its last commit"
            )

    def take_up(self) -> None:
        """Make the folder's `published/` say what the Hub holds. After `look`, by whoever holds the folder."""
        self._place = settle_place(self.output, self.repository.name, self.repository.revision)
        if self._record is not None:
            adopt_runs(self.output, self._record)
        there = {path: file for path, file in self._remote.items() if _RECEIPT.fullmatch(path)}
        for path in sorted((mirror(self.output) / RECEIPTS).glob("*.json")):
            if f"{RECEIPTS}/{path.name}" not in there:
                path.unlink()
        wanted = [path for path, file in there.items() if not _equals(file, mirror(self.output) / path)]
        for name, data in self.repository.fetch(wanted, self._head).items():
            write_atomically(mirror(self.output) / name, data)
        self._drop_broken()
        self._adopt()

    def _drop_broken(self) -> None:
        """Shards with a file that the Hub holds no more are not published."""
        for name, receipt in published_receipts(self.output).items():
            if not all(self._holds(file) for file in receipt.files):
                (mirror(self.output) / RECEIPTS / f"{name}.json").unlink()

    def _holds(self, file: ShardFile) -> bool:
        there = self._remote.get(file.path)
        return there is not None and there.sha256 == file.sha256

    def _adopt(self) -> None:
        """Receipts of shards that the Hub has and the folder has not, or has shorter or otherwise."""
        for receipt in published_receipts(self.output).values():
            ours = read_receipt(receipt_path(self.output, receipt.run8, receipt.shard))
            if ours is not None and (ours.last_pair > receipt.last_pair or is_published(self.output, receipt)):
                continue
            if ours is not None and ours.files != receipt.files:
                remove_shard(self.output, receipt.run8, receipt.shard)
            data = receipt_path(mirror(self.output), receipt.run8, receipt.shard).read_bytes()
            write_atomically(receipt_path(self.output, receipt.run8, receipt.shard), data)
        if not self.keep_local:
            self._remove_files(published_receipts(self.output).values())

    def waiting(self) -> list[Receipt]:
        """Finished shards that are not published."""
        return [receipt for receipt in read_receipts(self.output) if not is_published(self.output, receipt)]

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
        commit = self._commit(contents, self._message(batch), self._replaced(batch))
        self.repository.verify(contents, commit)
        for path, data in copies.items():
            write_atomically(mirror(self.output) / path, data)
        if not self.keep_local:
            self._remove_files(batch)

    def _told(self, batch: Sequence[Receipt], done: bool) -> dict[str, Content]:
        """Everything but shards and receipts: a card that is true with this commit."""
        record = read_record(self.output) or {}
        statistics = published_statistics(self.output, record, batch)
        marker: dict[str, Any] = {"publisher": self.place.publisher, "done": done}
        if not done:
            marker |= {"process": self.process, "run": ", ".join({receipt.run8: None for receipt in batch})}
        card = dataset_card(statistics, self.repository.name)
        check_card(card, "dataset")
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
        if self._drawn == -math.inf and not batch and self._is_done_there:
            return False
        return done or time.monotonic() - self._drawn > DRAW_EVERY_S

    @property
    def place(self) -> Place:
        assert self._place is not None, "take_up comes first"
        return self._place

    def _commit(self, contents: dict[str, Content], message: str, removed: list[str]) -> str:
        """Upon the head that we know, or upon what a person has added there meanwhile."""
        while True:
            try:
                commit = self.repository.commit(contents, message, self._head, removed)
                break
            except HeadMoved as moved:
                self._check_still_alone(moved)
                self._head = moved.head
        if commit != self._head:
            self.commits.append(commit)
        self._head = commit
        return commit

    def _check_still_alone(self, moved: HeadMoved) -> None:
        there = self.repository.files_at([MARKER], moved.head)
        marker = _marker(self.repository.fetch(list(there), moved.head).get(MARKER))
        ours = marker.get("publisher") == self.place.publisher and marker.get("process", self.process) == self.process
        if marker and not ours:
            raise OtherPublisher(
                f"another folder has published run {marker.get('run', '(finished)')} to {self.repository.name} "
                "meanwhile, so nothing more of this one was; once it is done, the same command goes on from here"
            ) from moved

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

    def _message(self, batch: Sequence[Receipt]) -> str:
        runs = ", ".join(dict.fromkeys(receipt.run8 for receipt in batch))
        shards = "1 shard" if len(batch) == 1 else f"{len(batch)} shards"
        return f"{shards} of run {runs}" if batch else f"Card of {self.repository.name}"

    def _replaced(self, batch: Sequence[Receipt]) -> list[str]:
        """Files of older, shorter versions of these shards that have no successor."""
        older = published_receipts(self.output) if batch else {}
        return [path for receipt in batch if receipt.name in older
                for path in sorted(_paths(older[receipt.name]) - _paths(receipt))]

    def _remove_files(self, receipts: Iterable[Receipt]) -> None:
        files = [file for receipt in receipts for file in receipt.files if (self.output / file.path).exists()]
        if files:
            remember(self.output, files)
        for path in _unlinked(self.output, files):
            sync_folder(path)


def _unlinked(output: Path, files: Sequence[ShardFile]) -> Iterator[Path]:
    for file in files:
        with suppress(FileNotFoundError):
            (output / file.path).unlink()
    yield from sorted({(output / file.path).parent for file in files})


def _paths(receipt: Receipt) -> set[str]:
    return {file.path for file in receipt.files}


def _equals(file: RemoteFile, path: Path) -> bool:
    return path.exists() and file.equals(path)


def _marker(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
