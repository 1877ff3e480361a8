"""`toffee build` in a process of its own, for readers that must not load torch themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from builder.lease import is_leased
from toffee_hf.errors import InputError, RunError

_POLL_S = 0.2
_BAD_INPUT = 2
_BOOT = """import sys; sys.path[:] = {path!r}
from builder.processes import die_with_parent; die_with_parent({parent})
from builder.cli import main; sys.exit(main({arguments!r}))"""


class BuildSettings(Protocol):
    """What `toffee build` is asked for; `builder.toffee.ToffeeConfig` is one."""

    recipe: str
    subjects: str
    pairs: int
    seed: int
    output: str
    append: bool
    workers: int | None


def build_missing(settings: BuildSettings) -> None:
    """Build and wait. Raises `InputError` or `RunError` with what the build said."""
    process, said = _start(settings)
    with said:
        try:
            process.wait()
        finally:
            process.kill()
        _raise_if_failed(process, said)


class BackgroundBuild:
    """Starts a build when something awaited is not there, and ends it with the block."""

    def __init__(self, settings: BuildSettings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> BackgroundBuild:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and kind is not None:  # a reader that stops early needs no more shards
            self._process.terminate()
        if self._process is not None:
            self._process.wait()
        if self._said is not None:
            self._said.close()

    def wait_until(self, is_there: Callable[[], bool]) -> None:
        """Return once `is_there()`. Another reader's build counts as ours. Raises as `build_missing`."""
        while not is_there():
            if self._process is None and not is_leased(Path(self.settings.output)):
                self._process, self._said = _start(self.settings)
            elif self._process is not None and self._process.poll() is not None and not is_there():
                self._ended()
            time.sleep(_POLL_S)

    def _ended(self) -> None:
        """Our build is over without what is awaited: that is an error, unless another one holds the folder."""
        assert self._process is not None and self._said is not None
        process, said, self._process, self._said = self._process, self._said, None, None
        with said:
            if process.returncode == _BAD_INPUT and is_leased(Path(self.settings.output)):
                return
            _raise_if_failed(process, said)
        raise RunError("toffee build ended, and a shard is still missing")


def _start(settings: BuildSettings) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    said = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    boot = _BOOT.format(path=sys.path, parent=os.getpid(), arguments=_arguments(settings))
    process = subprocess.Popen(
        [sys.executable, "-c", boot], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
    )
    return process, said


def _arguments(settings: BuildSettings) -> list[str]:
    arguments = ["build", f"--recipe={settings.recipe}", f"--subjects={settings.subjects}"]
    arguments += [f"--pairs={settings.pairs}", f"--seed={settings.seed}", f"--output={settings.output}"]
    if settings.workers is not None:
        arguments.append(f"--workers={settings.workers}")
    return arguments + (["--append"] if settings.append else [])


def _raise_if_failed(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    if process.returncode == 0:
        return
    said.seek(0)
    message = said.read().decode(errors="replace").strip() or f"toffee build ended with status {process.returncode}"
    raise (InputError if process.returncode == _BAD_INPUT else RunError)(message)
