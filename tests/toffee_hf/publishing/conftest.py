"""One exported editor of random weights, with everything that a repository holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_family import stirred, write_family
from toffee_hf.family import Family
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline
from toffee_hf.publishing.export import export_pipeline

CARD = "---\nlicense: apache-2.0\n---\n\n# A card\n"


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(write_family(tmp_path_factory.mktemp("published") / "family"), "cpu")


@pytest.fixture(scope="session")
def editor(family: Family) -> ToffeePipeline:
    torch.manual_seed(1)
    unet = stirred(ToffeeEditorUNet.from_unet(family.unet, subject_dim=64, patches=64))
    pipeline = ToffeePipeline(family.vae, family.text_encoder, family.tokenizer, unet, family.dino, family.scheduler(),
                              depth_estimator=family.depth)
    pipeline.set_progress_bar_config(disable=True)
    family.vae.to(memory_format=torch.contiguous_format)      # as it loads: the layout in memory is seen in last bits
    return pipeline


@pytest.fixture(scope="session")
def repository(editor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("exported") / "toffee-editor"
    export_pipeline(editor, folder, CARD, "a licence\n", pictures={"examples/drawn.png": Image.new("RGB", (8, 8))})
    return folder
