"""A family of the real classes with random weights, small enough to make in a second: pictures of 64 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, DepthAnythingForDepthEstimation, Dinov2Config, Dinov2Model

from toffee_hf.models.toffee_autoencoder import ToffeeAutoencoder
from toffee_hf.models.toffee_axis import ToffeeAxis
from toffee_hf.models.toffee_classifier import ToffeeClassifier
from toffee_hf.models.toffee_domain import ToffeeDomain
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_segmenter import ToffeeSegmenter
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.toy.captions import corpus
from toffee_hf.training.classifier import QUESTIONS
from toffee_hf.training.diffusion import noise_schedule
from toffee_hf.training.perception import depth_config
from toffee_hf.training.text import MAX_TOKENS, train_tokenizer

SIZE_PX, SIDE, LATENTS, FEATURES, TEXT = 64, 8, 4, 32, 32


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE, in_channels=LATENTS, out_channels=LATENTS, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT, attention_head_dim=2, norm_num_groups=8)


def small_autoencoder() -> ToffeeAutoencoder:
    return ToffeeAutoencoder(latent_channels=LATENTS, block_out_channels=(16, 16, 16, 32), encoder_width=16,
                             encoder_blocks=1, decoder_blocks=1, sample_size=SIZE_PX)


def small_dino() -> Dinov2Model:
    return Dinov2Model(Dinov2Config(hidden_size=FEATURES, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2,
                                    patch_size=8, image_size=SIZE_PX))


def small_clip(tokenizer: Any) -> CLIPModel:
    tower = {"hidden_size": TEXT, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**tower, "vocab_size": len(tokenizer), "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**tower, "image_size": SIZE_PX, "patch_size": 16},
                                projection_dim=16))


def small_classifier() -> ToffeeClassifier:
    return ToffeeClassifier(QUESTIONS, widths=(8, 8, 16))


def stirred(model: Any, std: float = 0.05) -> Any:
    """The model with noise on every weight, so that layers which start at zero have a say."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=std)
    return model.eval().requires_grad_(False)


def write_family(folder: Path) -> Path:
    """Save the members of a family to `folder`, as `toffee_hf.family` wants them, and what a toy family has besides."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(corpus(200), folder / "tokenizer")
    unet, dino = small_unet(), small_dino()
    control = ControlNetModel.from_unet(unet, conditioning_channels=3,
                                        conditioning_embedding_out_channels=(8, 8, 16, 16))
    models = {
        "vae": small_autoencoder(), "clip": small_clip(tokenizer), "unet": unet, "controlnet": stirred(control),
        "refiner": stirred(ToffeeRefinerUNet.from_unet(unet, feature_dim=FEATURES, hint_channels=16)),
        "view": stirred(ToffeeViewUNet.from_unet(unet, feature_dim=2 * FEATURES, patches=SIDE * SIDE)), "dino": dino,
        "depth": DepthAnythingForDepthEstimation(depth_config(dino)), "scheduler": noise_schedule(),
        "domain": ToffeeDomain(FEATURES),
        "segmenter": stirred(ToffeeSegmenter(text_dim=16, widths=(16, 16, 16))),
        "classifier": stirred(small_classifier()), "axis": stirred(ToffeeAxis(widths=(8, 8, 8, 8))),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return folder
