"""A repository of a model as a folder: whole or not there, a list of files that can be uploaded, never a pickle."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toffee_hf.errors import DiskFull, InputError, ToffeeError

TEXT = (".json", ".md", ".py", ".txt")
PICTURES = (".png", ".jpg", ".webp")
WEIGHTS = ".safetensors"
NAMED = ("LICENSE", ".gitattributes")
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")     # torch.save writes a zip of one
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """path: in the repository, with /; size: in bytes; source: where its bytes are."""

    path: str
    size: int
    source: Path


def files_of(folder: Path) -> list[RepositoryFile]:
    """Every file of a repository, sorted by path: what an upload takes.

    Raises InputError for a link, and for anything that is not text, picture, licence or safetensors.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(f"{name} is not a plain file; a repository holds nothing else")
        if path.is_file():
            _check_kind(path, name)
            found.append(RepositoryFile(name, path.stat().st_size, path))
    return found


def _check_kind(path: Path, name: str) -> None:
    if path.suffix not in (*TEXT, *PICTURES, WEIGHTS) and path.name not in NAMED:
        raise InputError(f"{name} is no kind of file that a model's repository holds; weights must be {WEIGHTS}")
    with path.open("rb") as file:
        if file.read(4).startswith(PICKLES):
            raise InputError(f"{name} holds a pickle, which can run anything when it is loaded")


@contextmanager
def new_repository(target: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end of the block, or is removed if the block fails.

    Until then it has another name, so that a killed process leaves no half repository. replace: see `refuse_occupied`.
    Raises InputError if `target` is occupied, DiskFull when no space is left.
    """
    from safetensors import SafetensorError

    refuse_occupied(target, replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    except OSError as err:
        raise _ours(target, err) from err
    try:
        yield part
        files_of(part)
        _settle(part)
        refuse_occupied(target, replace)
        if target.exists() and any(target.iterdir()):
            target.replace(part.with_name(f"{part.name}.old"))
        part.replace(target)
        shutil.rmtree(part.with_name(f"{part.name}.old"), ignore_errors=True)
    except (OSError, SafetensorError) as err:
        raise _ours(target, err) from err
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_occupied(target: Path, replace: bool = False) -> None:
    """Raises InputError unless a repository can be written there: nothing is there, an empty folder, or with `replace`
    a repository that this package wrote."""
    if not target.name:
        raise InputError(f"{target} cannot hold a repository; give a new folder")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target} is not a folder; give a new one")
    if target.exists() and any(target.iterdir()) and not (replace and is_ours(target)):
        raise InputError(f"{target} is not empty" + (" and no model of ours" if replace else "") +
                         "; give a new folder, or remove what is there")


def is_ours(folder: Path) -> bool:
    """Whether a folder holds what this package exports, and nothing else."""
    try:
        files_of(folder)
        name = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    except (InputError, OSError, ValueError, KeyError):
        return False
    return isinstance(name, list) and len(name) == 2 and str(name[1]).startswith("Toffee")


def _settle(folder: Path) -> None:
    """Bytes on the disk, and the permissions that new files and folders have here."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ours(target: Path, err: Exception) -> ToffeeError:
    if getattr(err, "errno", None) in _FULL or any(f"os error {code})" in str(err) for code in _FULL):
        return DiskFull(f"no space left for {target}; nothing was written: make room, and give the same command again")
    return InputError(f"{target} cannot be written: {getattr(err, 'strerror', None) or err}")
