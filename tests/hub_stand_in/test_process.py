"""The stand-in outlives whoever publishes to it, as a process of its own and in the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.hub_stand_in import Hub, slow
from tests.hub_stand_in.hub import ROOT

CLIENT = """
from huggingface_hub import HfApi
HfApi().create_repo("org/toffee", exist_ok=True)
HfApi().upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id="org/toffee")
print(HfApi().list_repo_files("org/toffee"))
"""


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hub_stand_in", "--folder", str(tmp_path)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        told = dict(line.removeprefix("export ").strip().split("=", 1) for line in iter(server.stdout.readline, "\n"))
        client = subprocess.run([sys.executable, "-c", CLIENT], env={**os.environ, **told}, capture_output=True,
                                text=True, timeout=300)
        assert client.stdout.splitlines() == ["['.gitattributes', 'a.txt']"], client.stderr[-2000:]
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0 and not (tmp_path / "hub").exists()
    finally:
        server.kill()


def test_a_killed_upload_leaves_nothing_and_can_be_done_again(hub: Hub) -> None:
    (hub.folder / "a.parquet").write_bytes(bytes(1_000_000))
    upload = CLIENT.replace('b"hello"', '"a.parquet"').replace("a.txt", "a.parquet")
    hub.faults.inject("lfs-put", slow(100_000))
    with hub.start(upload, HF_HUB_DISABLE_XET="1") as process:
        hub.wait_for("lfs-put")
        process.kill()
    assert hub.count("commit") == 0 and not hub.repository("org/toffee", "model").lfs
    done = hub.python(upload, HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert hub.content("org/toffee", "a.parquet", "model") == bytes(1_000_000)
