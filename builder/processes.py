"""Who is alive: marks that name a process, and children that die with their parent."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def host_name() -> str:
    """This machine, in characters that a file name takes."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname()) or "host"


def process_mark(pid: int | None = None) -> str:
    """`<host>-<pid>-<start>`: start tells a process from a later one with the same pid."""
    pid = os.getpid() if pid is None else pid
    return f"{host_name()}-{pid}-{_start_time(pid)}"


def is_here(mark: str) -> bool:
    """Whether the mark is of this host, so that we can tell if its process lives."""
    return mark.rsplit("-", 2)[0] == host_name()


def is_dead(mark: str) -> bool:
    """Whether the mark is of this host and its process has ended."""
    if not is_here(mark):
        return False
    _, pid, start = mark.rsplit("-", 2)
    return not pid.isdigit() or not _runs(int(pid)) or _start_time(int(pid)) != start


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) not in ("Z", "X")  # a killed child that nobody waited for


def _stat_fields(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat_fields(pid) or [""])[0]


def _start_time(pid: int) -> str:
    """Clock ticks since boot, from /proc; 0 where there is none."""
    found = _stat_fields(pid)
    return found[19] if len(found) > 19 else "0"


def die_with_parent(parent: int) -> None:
    """End this process when process `parent` ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
