"""Training a part of a Refiner or View Generator: low-rank layers in its UNet, its own new layers in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from toffee_hf.errors import InputError
from toffee_hf.training.loop import writing

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def add_lora(model: Any, rank: int) -> Any:
    """Freeze the UNet inside `model`, and give its attention low-rank layers; these and the layers around it train.

    Raises InputError where peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as err:
        raise InputError("--lora-rank needs peft: pip install 'toffee-hf[train]'") from err
    model.unet.requires_grad_(False)
    model.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                                      target_modules=list(TARGETS)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def save_trained(model: Any, path: Path, rank: int) -> None:
    """Write what is trained, which is small; `load_trained` puts it onto the same base."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    part = path.with_suffix(".part")
    with writing(path.parent):
        try:
            save_file(tensors, part, metadata={"rank": str(rank), "format": "pt"})
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def load_trained(model: Any, path: Path) -> Any:
    """A model made by `from_unet` of the same base, with what `save_trained` wrote.

    Raises InputError if the file is of another model.
    """
    with safe_open(path, "pt") as opened:
        rank = int(opened.metadata()["rank"])
    tensors = load_file(path)
    model = add_lora(model, rank)
    mine = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in mine.items()}:
        raise InputError(f"{path} was trained on another model")
    with torch.no_grad():
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)
    return model.eval()


def merged(model: Any) -> Any:
    """The model with its low-rank layers added into its UNet's weights: one of the plain class again."""
    model.unet.fuse_lora()
    model.unet.unload_lora()
    return model
