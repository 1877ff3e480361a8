"""What a plan says, and what it costs."""

import os
import re
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

# The peak since exec; what `wait4` tells includes the parent's memory at the fork.
MEASURED = """import sys
from builder.cli import main
status = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_million_pairs_are_planned_at_once_and_in_little_memory(flat, photos, tmp_path):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "plan", "--recipe", flat("recipe"), "--subjects", str(photos),
         "--pairs", "10000000", "--workers", "8"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10
    assert int(re.search(r"VmHWM:\s*(\d+) kB", done.stdout)[1]) < 300 * 1024
    for figure in ("10,000,000", "2,500,000 of 4 pairs", "20.0 GB", "2.78 of work, 0.35 with 8 workers"):
        assert figure in done.stdout
    assert list(tmp_path.iterdir()) == [photos]


def test_receipts_replace_the_recipes_figures(flat, photos, toffee):
    arguments = ["--recipe", flat("recipe"), "--subjects", photos, "--pairs", 8]
    assert "the recipe's figures" in toffee("plan", *arguments).stdout
    assert toffee("build", *arguments).returncode == 0
    said = toffee("plan", *arguments[:-1], 16).stdout
    assert "2 receipts of this run" in said
    assert "16 (8 done)" in said
