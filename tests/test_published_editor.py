"""From nothing to a page on the Hub: pairs are built, published, loaded and trained on; and the editor, too."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.tiny_family import write_family

RECIPE = """
import numpy as np
from tests.builder.flat_recipe import FlatSubject, FlatTarget, recipe as flat


class Grainy(FlatTarget):                  # a model sees nothing in one colour
    def run(self, batch):
        batch, grain = FlatTarget.run(self, batch), np.random.default_rng(0).integers(0, 99, (3, 64, 64), np.uint8)
        return batch.with_columns(**{name: [x // 2 + grain for x in batch[name]] for name in ("source", "target")})


def recipe():
    return flat(least=-1.0, size_px=64, stages=(FlatSubject(64), Grainy(64)))
"""
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
subject = Image.effect_noise((64, 64), 99).convert("RGB")
drawn = pipeline("a mug", subject, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
print(type(pipeline).__name__, type(pipeline).__module__.partition(".")[0], drawn.size)
"""


@pytest.mark.slow
def test_pairs_and_an_editor_go_to_the_hub_and_come_back(hub, tmp_path):
    environment = hub.environment(HF_HUB_DISABLE_XET="0", PYTHONPATH=str(ROOT))

    def toffee(*arguments):
        done = subprocess.run([sys.executable, "-m", "builder.cli", *map(str, arguments)], cwd=tmp_path, text=True,
                              env={**_environment(), **environment}, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "grainy.py").write_text(RECIPE)
    chance = random.Random(0)
    for number in range(6):
        (tmp_path / "photos" / "mug").mkdir(parents=True, exist_ok=True)
        picture = Image.frombytes("RGB", (64, 64), chance.randbytes(3 * 64 * 64))
        picture.save(tmp_path / "photos" / "mug" / f"{number}.png")
    toffee("build", "--recipe", "grainy.py:recipe", "--subjects", "photos", "--pairs", 24, "--workers", 1, "--license",
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
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
