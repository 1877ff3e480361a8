"""Training a part of a model: low-rank layers in its UNet, its own new layers in full.

A Refiner or View Generator has a UNet inside; the editor is one, and says which layers are its own. It learns from
pairs what its base never did, so its convolutions and feed-forward layers learn too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from toffee_hf.errors import InputError
from toffee_hf.training.loop import writing

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
EVERYWHERE = (*TARGETS, "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj", "linear_1", "linear_2", "proj_in",
              "proj_out", "ff.net.0.proj", "ff.net.2", "conv_out")


def add_lora(model: Any, rank: int) -> Any:
    """Freeze the UNet of `model`, give it low-rank layers unless it has them; these and the model's own layers train.

    Raises InputError if it has layers of another rank.
    """
    from peft import LoraConfig

    unet, own = _parts(model)
    if known := getattr(unet, "peft_config", None):
        has = next(iter(known.values())).r
        if has != rank:
            raise InputError(f"the training to go on from has low-rank layers of rank {has}: give --lora-rank {has}")
        return model
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                                target_modules=list(EVERYWHERE if own else TARGETS)))
    for part in own:
        part.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _parts(model: Any) -> tuple[Any, list[Any]]:
    """The UNet, and those of its layers that are the model's own."""
    return (model.unet, []) if hasattr(model, "unet") else (model, model.own_layers())


def save_trained(model: Any, path: Path, rank: int) -> None:
    """Write what is trained, which is small; `load_trained` puts it onto the same base.

    `model.lora_over`: the folder of the weights that it lies over, where these are not the base's.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    part = path.with_suffix(".part")
    with writing(path.parent):
        try:
            save_file(tensors, part, metadata={"rank": str(rank), "format": "pt",
                                               "over": getattr(model, "lora_over", ""),
                                               "prediction_type": model.config.prediction_type})
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
    unet, _ = _parts(model)
    unet.fuse_lora()
    unet.unload_lora()
    return model
