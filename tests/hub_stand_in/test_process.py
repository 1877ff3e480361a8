"""The stand-in as a process of its own, which outlives whoever publishes to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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
                                text=True, timeout=60)
        assert client.stdout.splitlines() == ["['.gitattributes', 'a.txt']"], client.stderr[-2000:]
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0 and not (tmp_path / "hub").exists()
    finally:
        server.kill()
