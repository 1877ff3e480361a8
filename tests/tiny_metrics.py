"""DreamBench in small, and its metric models: the real classes with random weights, saved as the real ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    ViTConfig,
    ViTModel,
)

from toffee_hf.family import TINY

SUBJECTS = {"mug1": "mug", "cat2": "cat", "bear_plushie": "stuffed animal"}
SIZE_PX = 32


def write_dreambench(folder: Path, photos: int = 2) -> Path:
    """Three subjects in the public layout, with photographs of 48 × 40 pixels."""
    words = ["Classes", "", "subject_name,class", *(f"{name},{word}" for name, word in SUBJECTS.items()), "", "Prompts"]
    for title, kind in (("Object Prompts", "on a shelf"), ("Live Subject Prompts", "in a hat")):
        asked = [f"'a {{0}} {{1}} {kind} {i}'.format(unique_token, class_token)" for i in range(25)]
        words += ["", title, "", "prompt_list = [", ",\n".join(asked), "]"]
    (folder / "dataset").mkdir(parents=True)
    (folder / "dataset" / "prompts_and_classes.txt").write_text("\n".join(words))
    for place, name in enumerate(SUBJECTS):
        for number in range(photos):
            picture(10 * place + number).save(_made(folder / "dataset" / name) / f"{number:02d}.jpg")
    return folder


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Blocks of random colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def write_ready(folder: Path, subjects: list[str], prompts: list[int], count: int, suffix: str = "png") -> Path:
    """Ready pictures, each different."""
    for s, subject in enumerate(subjects):
        for index in prompts:
            for number in range(count):
                made = picture(1000 * s + 10 * index + number)
                made.save(_made(folder / subject / f"{index:02d}") / f"{number}.{suffix}")
    return folder


def write_metrics(folder: Path) -> dict[str, str]:
    """Folders of `dino`, `clip` and `segmenter`, by these names."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TINY / "tokenizer")
    tower = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**tower, "vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length,
            **{f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}}
    vision = {**tower, "image_size": SIZE_PX, "patch_size": 16}
    models = {
        "dino": ViTModel(ViTConfig(**tower, image_size=SIZE_PX, patch_size=8), add_pooling_layer=False),
        "clip": CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)),
        "segmenter": CLIPSegForImageSegmentation(CLIPSegConfig(
            text_config=text, vision_config=vision, projection_dim=16, reduce_dim=8, extract_layers=[0, 1],
            decoder_num_attention_heads=2, decoder_intermediate_size=16))}
    for name, model in models.items():
        model.save_pretrained(folder / name)
    for name in ("clip", "segmenter"):
        tokenizer.save_pretrained(folder / name)
    return {name: str(folder / name) for name in models}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
