"""What of an output folder is on the Hub: its folder `published/`.

It holds a copy of every receipt that is there, written once its files were verified on the Hub and before any of them
leaves the disk, so that a shard is never made again, nor missed, because its files are gone.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from builder.files import os_errors_are_input, write_atomically
from builder.receipts import Receipt, read_receipts, receipt_path
from toffee_hf.errors import InputError

FOLDER = "published"
_PLACE = "repository.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a folder is published. publisher: eight hex digits that tell this folder from others that publish there."""

    repository: str
    revision: str
    publisher: str


def mirror(output: Path) -> Path:
    """A folder in the form of an output folder, with the receipts that are on the Hub."""
    return output / FOLDER


def read_place(output: Path) -> Place | None:
    """Raises InputError if the file is damaged."""
    path = mirror(output) / _PLACE
    try:
        return Place(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as err:
        raise InputError(f"{path} cannot be read; remove it, and name the repository again with --push-to") from err


@os_errors_are_input("cannot write")
def settle_place(output: Path, repository: str, revision: str) -> Place:
    """The folder's place, chosen by its first publication. Raises InputError if it is another one."""
    place = read_place(output)
    if place is None:
        place = Place(repository, revision, uuid.uuid4().hex[:8])
        write_atomically(mirror(output) / _PLACE, (json.dumps(asdict(place)) + "\n").encode())
    check_place(output, repository, revision)
    return place


def check_place(output: Path, repository: str, revision: str) -> None:
    """Raises InputError if the folder is published elsewhere already."""
    place = read_place(output)
    if place is not None and (place.repository, place.revision) != (repository, revision):
        raise InputError(
            f"{output} is published as {place.repository} (branch {place.revision}); name that again, or remove "
            f"{mirror(output)} if no shard has left the disk"
        )


def published_receipts(output: Path) -> dict[str, Receipt]:
    """Receipts on the Hub by name of shard."""
    return {receipt.name: receipt for receipt in read_receipts(mirror(output))}


def published_files(output: Path) -> dict[str, str]:
    """sha256 by path of every shard file on the Hub."""
    return {file.path: file.sha256 for receipt in read_receipts(mirror(output)) for file in receipt.files}


def is_published(output: Path, receipt: Receipt) -> bool:
    """Whether the Hub holds this very receipt."""
    name = (receipt.run8, receipt.shard)
    try:
        return receipt_path(mirror(output), *name).read_bytes() == receipt_path(output, *name).read_bytes()
    except OSError:
        return False
