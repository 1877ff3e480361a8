"""Files that are either whole or not there: a unique temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.processes import is_dead, process_mark
from toffee_hf.errors import DiskFull, InputError

_TEMPORARY = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` in one step; its folder is made. Raises `DiskFull`, after which nothing of it is left."""
    with disk_full_is_ours(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{_TEMPORARY}{process_mark()}-{uuid.uuid4().hex}"
        try:
            _write(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporary_files(folder: Path) -> list[Path]:
    """Remove temporary files in `folder` whose process was on this host and is dead; returns what was removed."""
    swept = []
    for path in sorted(folder.glob(f"{_TEMPORARY}*")):
        mark = path.name[len(_TEMPORARY) :].rpartition("-")[0]
        if mark.count("-") >= 2 and is_dead(mark):
            path.unlink(missing_ok=True)
            swept.append(path)
    return swept


@contextmanager
def os_errors_are_input(trouble: str) -> Iterator[None]:
    """Turn an `OSError` into `InputError`, "<trouble>: <file>: <why>", or `DiskFull`. Also a decorator."""
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise DiskFull(f"no space left for {err.filename} ({err.strerror})") from err
        raise InputError(f"{trouble}: {_shortened(err.filename)}: {err.strerror or err}") from err


def _shortened(name: object) -> str:
    text = str(name)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


@contextmanager
def disk_full_is_ours(path: Path) -> Iterator[None]:
    """Turn "no space left" into `DiskFull`."""
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise DiskFull(f"no space left for {path.parent} ({err.strerror})") from err
        raise
