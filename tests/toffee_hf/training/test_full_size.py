"""Stable Diffusion 2.1 and SDXL at full size with random weights: one training and one sampling step of each model.

One at a time, batch 1, at reduced resolution; about 16 GiB of memory and some minutes each. On a GPU where
there is one.
"""

import gc

import pytest
import torch

from tests.toffee_hf.training.real_data import pictures
from toffee_hf.training.backbone import random_backbone
from toffee_hf.training.lora import add_lora
from toffee_hf.training.pictures import prepare
from toffee_hf.training.refiner import RefinerConfig, RefinerTask, new_refiner
from toffee_hf.training.view_generator import ViewConfig, ViewTask, new_view_generator

pytestmark = pytest.mark.slow
SIZE_PX = 128
MILLIONS = {"sd21": 865.9, "sdxl": 2567.5}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _room():
    """Each model goes before the next one comes."""
    gc.collect()
    yield
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def task_of(kind, name, tmp_path):
    """A task with the full model in training: SD 2.1 whole with checkpointing, SDXL by LoRA on bf16 weights."""
    dtype = torch.bfloat16 if name == "sdxl" else torch.float32
    backbone = random_backbone(name, dtype).to(DEVICE)
    data = prepare(pictures(), tmp_path / "p", SIZE_PX, backbone, views=2)
    torch.manual_seed(0)
    if kind == "refiner":
        config = RefinerConfig(batch_size=1, redrawn=float(name == "sdxl"), size_px=SIZE_PX)
        model, task = new_refiner(backbone, config), RefinerTask
    else:
        config = ViewConfig(batch_size=1, size_px=SIZE_PX)
        model, task = new_view_generator(backbone, SIZE_PX), ViewTask
    assert sum(p.numel() for p in model.unet.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.1)
    if name == "sdxl":
        add_lora(model, 4)
    else:
        backbone.unet.to("meta")                          # only its start is needed, and room is short
    model.enable_gradient_checkpointing()
    return task(model.to(DEVICE).train(), data, backbone, config)


@pytest.mark.parametrize("name", ["sd21", "sdxl"])
@pytest.mark.parametrize("kind", ["refiner", "view"])
def test_one_training_step_and_one_sampling_step(tmp_path, kind, name):
    task = task_of(kind, name, tmp_path)
    trained = [p for p in task.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained[-4:]]
    optimizer = torch.optim.SGD(trained, lr=1e-2)         # Adam's moments would double the memory
    with DEVICE, torch.autocast(DEVICE.type, torch.bfloat16, enabled=name == "sdxl"):
        terms = task.loss(0, torch.Generator(DEVICE).manual_seed(0))
    terms["loss"].backward()
    optimizer.step()
    assert torch.isfinite(terms["loss"])
    assert any(not torch.equal(a, b) for a, b in zip(before, trained[-4:], strict=True))
    optimizer.zero_grad(set_to_none=True)
    backbone, rows = task.backbone, torch.tensor([0], device=DEVICE)
    image, mask = task.data.images(rows), task.data.masks(rows)
    with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=name == "sdxl"):
        task.model.eval()
        if kind == "refiner":
            found = backbone.refiner_pipeline(task.model)(["a photo of a mug"], image, mask, image, mask,
                                                          num_inference_steps=1, output_type="latent").images
        else:
            found = backbone.view_pipeline(task.model)(["a photo of a mug"], image, mask, [0.4], num_inference_steps=1,
                                                       output_type="latent").images
        pixels = backbone.decode(found)
    assert pixels.shape == (1, 3, SIZE_PX, SIZE_PX) and torch.isfinite(pixels).all()
