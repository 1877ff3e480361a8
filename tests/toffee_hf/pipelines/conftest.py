"""A tiny editor with random weights, for pictures of 64 pixels: its parts are of the real classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTextModel

from tests.tiny_family import FEATURES, LATENTS, SIDE, SIZE_PX, small_clip, small_dino, small_unet, stirred
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline
from toffee_hf.toy.captions import corpus
from toffee_hf.training.diffusion import noise_schedule
from toffee_hf.training.text import train_tokenizer


def small_kl() -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
                         up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=LATENTS, norm_num_groups=4,
                         sample_size=SIZE_PX)


def photo(seed: int, width: int = SIZE_PX, height: int = SIZE_PX) -> Image.Image:
    """A picture with no two pixels alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def box(width: int = SIZE_PX, height: int = SIZE_PX, part: tuple[float, float, float, float] = (.25, .25, .75, .75)
        ) -> Image.Image:
    """A mask, white in a part (x0, y0, x1, y1 of the sides)."""
    mask = Image.new("L", (width, height))
    x0, y0, x1, y1 = (round(side * n) for side, n in zip(part, (width, height) * 2, strict=True))
    mask.paste(255, (x0, y0, x1, y1))
    return mask


TOLD = {"image": photo(7), "mask_image": box()}


def quiet(made: ToffeePipeline) -> ToffeePipeline:
    made.set_progress_bar_config(disable=True)
    return made


def own(components: dict[str, Any], **changes: Any) -> ToffeePipeline:
    """A pipeline whose parts may be changed."""
    return quiet(ToffeePipeline(**{**{name: copy.deepcopy(part) for name, part in components.items()}, **changes}))


def seeded(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in numbers]


@pytest.fixture(scope="session")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a `ToffeePipeline` is made of. Tests that change a part of it take a copy."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(corpus(200), tmp_path_factory.mktemp("editor") / "tokenizer")
    unet = ToffeeEditorUNet.from_unet(small_unet(), subject_dim=2 * FEATURES, patches=SIDE * SIDE)
    return {"vae": stirred(small_kl()), "text_encoder": CLIPTextModel(small_clip(tokenizer).config.text_config).eval(),
            "tokenizer": tokenizer, "unet": stirred(unet), "encoder": small_dino().eval(),
            "scheduler": noise_schedule()}


@pytest.fixture
def pipe(components: dict[str, Any]) -> ToffeePipeline:
    return quiet(ToffeePipeline(**components))


@pytest.fixture
def draw(pipe: ToffeePipeline) -> Callable[..., Any]:
    """Two steps with seed 0; latents unless told otherwise."""

    def run(on: ToffeePipeline = pipe, **changes: Any) -> Any:
        asked = {"prompt": "a red mug on the beach", "subject_image": photo(1), "num_inference_steps": 2,
                 "generator": seeded(0)[0], "output_type": "latent"}
        return on(**{**asked, **changes}).images

    return run
