"""One run at a time per output folder: an advisory file per process, except parts of the same run."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from builder.files import write_atomically
from builder.processes import is_dead, is_here, process_mark
from toffee_hf.errors import FolderInUse, InputError

_PREFIX = ".lease-"
_BEAT_S = 60.0
_SILENT_S = 600.0  # a process on another host that has not touched its lease for so long is taken for dead


@dataclass(frozen=True, slots=True)
class Part:
    """Part `index` (from 0) of `count`: the shards whose number is index modulo count."""

    index: int = 0
    count: int = 1

    def holds(self, shard: int) -> bool:
        return shard % self.count == self.index


class Lease:
    """Holds `output` for one part of one run while the block runs. Raises `FolderInUse`, or
    `InputError` if nothing can be written there; the folder must exist."""

    def __init__(self, output: Path, run8: str, part: Part) -> None:
        self.output, self.run8, self.part = output, run8, part
        self.path = output / f"{_PREFIX}{process_mark()}-{uuid.uuid4().hex[:8]}.json"
        self._ended = threading.Event()

    def __enter__(self) -> Lease:
        # First written, then compared: of two that start together at least one sees the other.
        try:
            write_atomically(self.path, json.dumps({"run8": self.run8, **asdict(self.part)}).encode())
        except OSError as err:
            raise InputError(f"--output {self.output} cannot be written: {err.strerror}; give another folder") from err
        holder = next((path for path in _leases(self.output) if path != self.path and self._excludes(path)), None)
        if holder is not None:
            self.path.unlink(missing_ok=True)
            raise FolderInUse(
                f"{self.output} is in use by process {_owner(holder)}; wait for it, or give another --output"
            )
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            try:
                os.utime(self.path)
            except OSError:
                return

    def _excludes(self, path: Path) -> bool:
        """Whether the lease at `path` is live and not of another part of the same run."""
        if _is_stale(path):
            with suppress(OSError):  # another user's
                path.unlink(missing_ok=True)
            return False
        try:
            other = json.loads(path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        same_cut = other.get("run8") == self.run8 and other.get("count") == self.part.count
        return not same_cut or other.get("index") == self.part.index


def is_leased(output: Path) -> bool:
    """Whether a live process works in the folder."""
    return any(not _is_stale(path) for path in _leases(output))


def _leases(output: Path) -> list[Path]:
    return sorted(output.glob(f"{_PREFIX}*.json"))


def _mark(path: Path) -> str:
    return path.name[len(_PREFIX) :].rpartition("-")[0]


def _owner(path: Path) -> str:
    host, pid, _ = _mark(path).rsplit("-", 2)
    return f"{pid} on {host}"


def _is_stale(path: Path) -> bool:
    mark = _mark(path)
    if mark.count("-") < 2 or is_dead(mark):
        return True
    if is_here(mark):
        return False
    try:
        return time.time() - path.stat().st_mtime > _SILENT_S
    except OSError:
        return True
