"""From nothing to a page on the Hub: pairs are built, published, loaded and trained on; and the editor, too."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.tiny_family import write_family

LOAD = """
from datasets import load_dataset
for config in ("generation", "editing"):
    rows = load_dataset("org/toffee", config, split="train")
    streamed = load_dataset("org/toffee", config, split="train", streaming=True)
    assert [row["id"] for row in streamed] == rows["id"] and rows[0]["target"].size == (64, 64)
    print(config, len(rows))
"""
DRAW = """
import torch
from diffusers import DiffusionPipeline
from PIL import Image
pipeline = DiffusionPipeline.from_pretrained("org/toffee-editor", revision="v1", trust_remote_code=True)
subject = Image.new("RGB", (64, 64), "red")
drawn = pipeline("a mug", subject, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
print(type(pipeline).__name__, type(pipeline).__module__.partition(".")[0], drawn.size)
"""


@pytest.mark.slow
def test_pairs_and_an_editor_go_to_the_hub_and_come_back(hub, photos, tmp_path):
    environment = hub.environment(HF_HUB_DISABLE_XET="0", PYTHONPATH=str(ROOT))

    def toffee(*arguments):
        done = subprocess.run([sys.executable, "-m", "builder.cli", *map(str, arguments)], cwd=tmp_path, text=True,
                              env={**_environment(), **environment}, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    recipe = tmp_path / "larger.py"
    recipe.write_text("from tests.builder.flat_recipe import FlatSubject, FlatTarget, recipe as flat\n\n\n"
                      "def recipe():\n"
                      "    return flat(least=-1.0, size_px=64, stages=(FlatSubject(64), FlatTarget(64)))\n")
    toffee("build", "--recipe", f"{recipe}:recipe", "--subjects", "photos", "--pairs", 24, "--workers", 1, "--license",
           "cc0-1.0", "--push-to", "org/toffee", "--no-keep-local")
    loaded = hub.python(LOAD, token=None)
    assert loaded.returncode == 0, loaded.stderr
    assert sum(int(line.split()[1]) for line in loaded.stdout.splitlines()) == 24

    family = write_family(tmp_path / "family")
    toffee("train", "editor", "--data", "org/toffee", "--base", family, "--output", "editor", "--steps", 2,
           "--batch-size", 2)
    assert json.loads((tmp_path / "editor" / "training.json").read_text())["data"]["dataset"] == "org/toffee"
    said = toffee("publish", "model", "--model", "editor", "--from", "editor", "--to", "org/toffee-editor",
                  "--license", "apache-2.0")
    assert "tag v1" in said
    card = hub.content("org/toffee-editor", "README.md", "model").decode()
    assert "datasets:\n- org/toffee\n" in card and "model-index:" in card
    drawn = hub.python(DRAW, token=None, PYTHONPATH="")
    assert drawn.stdout.split() == ["ToffeePipeline", "diffusers_modules", "(64,", "64)"], drawn.stderr


def _environment():
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
