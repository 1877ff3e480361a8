"""What a repository holds when a folder is to be published there, and making the folder know it.

The repository is the truth: receipts that it has and the folder has not are taken over, so that a run goes on from an
empty disk, and a shard whose commit was the last thing before a kill is not published twice.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS
from builder.files import write_atomically
from builder.published import check_place, is_published, mirror, published_receipts, read_place
from builder.receipts import FOLDER as RECEIPTS
from builder.receipts import Receipt, read_receipt, receipt_path
from builder.report.remembered import recall, remembered_rows
from builder.run_record import NAME as RECORD
from builder.run_record import adopt_runs, record_from
from builder.shard_files import remove_shard
from toffee_hf.errors import InputError
from toffee_hf.publishing.hub import RemoteFile, Repository
from toffee_hf.publishing.patience import patiently

MARKER = "publishing.json"            # who publishes, in the repository itself
DEAD_AFTER_S = 3600.0                 # without a commit, a publisher that has not said for how long none need come
_GIT = ".gitattributes"
_RECALLED = 2                         # files of a config
_RECEIPT = re.compile(rf"{RECEIPTS}/[0-9a-f]{{8}}-\d{{5,}}\.json")
_DATA = re.compile(rf"(?:{'|'.join(CONFIGS)})/(?:train-)?(.*?)(?:\.parquet)?")


@dataclass(frozen=True, slots=True)
class There:
    """A repository at one commit. record: of its runs, None where it holds no files; marker: of who publishes."""

    commit: str = ""
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    record: dict[str, Any] | None = None
    marker: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, receipt: Receipt) -> bool:
        """Whether every file of the shard is there, by its sha256."""
        found = ((self.files.get(file.path), file) for file in receipt.files)
        return all(remote is not None and remote.sha256 == file.sha256 for remote, file in found)


def look(output: Path, repository: Repository) -> There:
    """See what is there, and write nothing.

    Raises InputError for somebody else's files, for a folder that is published elsewhere, and while another folder
    publishes there.
    """
    check_place(output, repository.name, repository.revision)
    commit = repository.head() if repository.exists else ""
    files = repository.files(commit)
    if not files.keys() - {_GIT}:
        return There(commit, files)
    known = repository.fetch([path for path in (RECORD, MARKER) if path in files], commit)
    there = There(commit, files, record_from(known.get(RECORD, b"")), marker_from(known.get(MARKER)))
    _check_ours(repository.name, there)
    _check_alone(output, repository, there.marker)
    return there


def marker_from(data: bytes | None) -> dict[str, Any]:
    """Empty where there is none that can be read."""
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_ours(name: str, there: There) -> None:
    """It is a dataset of ours, without rows that no receipt tells of: they would be loaded, and counted by nobody."""
    if there.record is None:
        strange = sorted(there.files.keys() - {_GIT})[0]
        raise InputError(f"{name} holds {strange} and is no dataset of `toffee build`; give a name that is free")
    for path in sorted(there.files):
        data = _DATA.fullmatch(path)
        if data and f"{RECEIPTS}/{data[1]}.json" not in there.files:
            raise InputError(f"{name} holds {path}, of which no receipt tells; remove it there")


def _check_alone(output: Path, repository: Repository, marker: Mapping[str, Any]) -> None:
    place = read_place(output)
    if marker.get("done", True) or (place and marker.get("publisher") == place.publisher):
        return
    silent = timedelta(seconds=float(marker.get("silent_s", DEAD_AFTER_S)))
    if datetime.now(timezone.utc) - repository.committed() < silent:
        raise InputError(
            f"another folder publishes run {marker.get('run')} to {repository.name} now; wait until it is done, or for "
            f"{silent} after its last commit"
        )


def take_up(output: Path, repository: Repository, there: There) -> None:
    """Make the folder's `published/` say what the Hub holds, and its own receipts too. The caller holds the folder."""
    if there.record is not None:
        adopt_runs(output, there.record)
    _copy_receipts(output, repository, there)
    for name, receipt in published_receipts(output).items():
        if there.holds(receipt):
            _adopt(output, receipt)
        else:  # somebody has removed a file there: the shard is not published
            (mirror(output) / RECEIPTS / f"{name}.json").unlink()
    _recall(output, repository, there.commit)


def _copy_receipts(output: Path, repository: Repository, there: There) -> None:
    remote = {path: file for path, file in there.files.items() if _RECEIPT.fullmatch(path)}
    for path in sorted((mirror(output) / RECEIPTS).glob("*.json")):
        if f"{RECEIPTS}/{path.name}" not in remote:
            path.unlink()
    wanted = [path for path, file in remote.items() if not _equals(file, mirror(output) / path)]
    for name, data in repository.fetch(wanted, there.commit).items():
        write_atomically(mirror(output) / name, data)


def _equals(file: RemoteFile, path: Path) -> bool:
    return path.exists() and file.equals(path)


def _adopt(output: Path, receipt: Receipt) -> None:
    """Take over the receipt of a shard that the folder has not, or has shorter or otherwise."""
    name = (receipt.run8, receipt.shard)
    ours = read_receipt(receipt_path(output, *name))
    if ours is not None and (ours.last_pair > receipt.last_pair or is_published(output, receipt)):
        return
    if ours is not None and ours.files != receipt.files:
        remove_shard(output, *name)
    write_atomically(receipt_path(output, *name), receipt_path(mirror(output), *name).read_bytes())


def _recall(output: Path, repository: Repository, commit: str) -> None:
    """A few rows of what was never on this disk, for the pictures of the card."""
    files = [file for receipt in published_receipts(output).values() for file in receipt.files]
    for config in CONFIGS:
        away = [file.path for file in files if file.config == config and not (output / file.path).exists()]
        if away and not remembered_rows(output, config):
            for path in random.Random(config).sample(away, min(_RECALLED, len(away))):
                read = partial(_recall_from, output, repository, commit, config, path)
                patiently(read, repository.patience, f"cannot read {repository.name}")


def _recall_from(output: Path, repository: Repository, commit: str, config: str, path: str) -> None:
    with repository.open(path, commit) as file:
        recall(output, config, file)
