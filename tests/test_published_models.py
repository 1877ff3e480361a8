"""A published model in a clean environment: diffusers, transformers, torch as pinned, and nothing of this package."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.test_packaging import ROOT, call, pinned

NEEDED = ("diffusers", "transformers", "accelerate", "pillow", "numpy", "safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["refiner", "view"])
def test_the_code_of_a_card_gives_its_pictures_in_a_clean_environment(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    call([sys.executable, "-m", "builder.cli", "publish", "model", "--model", model, "--to", folder], cwd=ROOT)
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    call([*install, f"torch=={pinned()['torch']}"])
    call([*install, *NEEDED])
    assert subprocess.run([python, "-c", "import toffee_hf"], cwd=tmp_path, capture_output=True).returncode == 1

    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    call([python, "-c", code], cwd=folder)
    name = {"refiner": "refined", "view": "view"}[model]
    assert (folder / f"{name}.png").read_bytes() == (folder / "examples" / f"{name}.png").read_bytes()
