import os
import subprocess
import sys
import time

import pytest

from builder import lease
from builder.lease import Lease, Part, is_leased
from builder.processes import host_name, process_mark
from toffee_hf.errors import FolderInUse, InputError

RUN, OTHER = "00000000", "11111111"


@pytest.mark.parametrize(
    ("run", "part", "allowed"),
    [
        (RUN, Part(0, 1), False),
        (OTHER, Part(0, 1), False),
        (RUN, Part(0, 2), False),
        (RUN, Part(1, 2), True),
        (RUN, Part(1, 3), False),
        (OTHER, Part(1, 2), False),
    ],
)
def test_only_other_parts_of_the_same_run_may_join(tmp_path, run, part, allowed):
    with Lease(tmp_path, RUN, Part(0, 2)):
        if allowed:
            with Lease(tmp_path, run, part):
                assert is_leased(tmp_path)
        else:
            with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()} on {host_name()}"):
                Lease(tmp_path, run, part).__enter__()
    assert list(tmp_path.iterdir()) == []


def dead_mark():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark = process_mark(process.pid)
    process.kill()
    process.wait()
    return mark


def test_the_dead_hold_nothing(tmp_path):
    (tmp_path / f".lease-{dead_mark()}-0.json").write_text("{}")
    assert not is_leased(tmp_path)
    with Lease(tmp_path, RUN, Part()):
        assert len(list(tmp_path.iterdir())) == 1


def test_a_pid_in_new_hands_holds_nothing(tmp_path):
    host, pid, start = process_mark().rsplit("-", 2)
    (tmp_path / f".lease-{host}-{pid}-{int(start) - 1}-0.json").write_text("{}")
    assert not is_leased(tmp_path)


def test_another_host_holds_until_it_falls_silent(tmp_path):
    path = tmp_path / ".lease-elsewhere-1-1-0.json"
    path.write_text("{}")
    assert is_leased(tmp_path)
    past = time.time() - 2 * lease._SILENT_S
    os.utime(path, (past, past))
    assert not is_leased(tmp_path)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        Lease(tmp_path / "file", RUN, Part()).__enter__()
