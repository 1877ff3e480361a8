import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from builder.files import sweep_temporary_files, write_atomically
from builder.processes import process_mark
from tests.builder.test_lease import dead_mark
from toffee_hf.errors import DiskFull

FULL = """import resource, sys
from pathlib import Path
from builder.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path(sys.argv[1]) / "big", bytes(5000))"""

PARENT = """import os, subprocess, sys, time
boot = f"from builder.processes import die_with_parent; die_with_parent({os.getpid()}); import time; time.sleep(60)"
print(subprocess.Popen([sys.executable, "-c", boot]).pid, flush=True)
time.sleep(60)"""


def test_a_file_is_whole_and_alone(tmp_path):
    write_atomically(tmp_path / "deep" / "file", b"first")
    write_atomically(tmp_path / "deep" / "file", b"second")
    assert [path.read_bytes() for path in (tmp_path / "deep").iterdir()] == [b"second"]


def test_a_real_limit_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert DiskFull.__name__ in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mark", "goes"), [("dead", True), ("ours", False), ("elsewhere-12-1", False)])
def test_only_files_of_the_dead_of_this_host_are_swept(tmp_path, mark, goes):
    mark = {"dead": dead_mark, "ours": process_mark}.get(mark, lambda: mark)()
    path = tmp_path / f".tmp-{mark}-{uuid.uuid4().hex}"
    path.touch()
    (tmp_path / ".tmp-odd").touch()
    assert sweep_temporary_files(tmp_path) == ([path] if goes else [])


def test_children_die_with_their_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
