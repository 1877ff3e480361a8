"""Training of the tiny diffusion models on the shared latent pool: base, ControlNet, Refiner and View Generator.

The base is trained first; the other three start from its weights. B batch, C latent channels, h, w latent cells.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.perception.depth import control_picture
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import SHOTS, Pool
from toffee_hf.training.refiner_examples import RefinerExample, refiner_examples
from toffee_hf.training.view_examples import ViewExample, view_examples

DROP_TEXT = 0.12                      # share of examples that learn without their caption, for guidance
UNET: dict[str, Any] = {
    "sample_size": 16, "in_channels": 16, "out_channels": 16, "block_out_channels": (64, 96, 144),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 192, "attention_head_dim": 4, "norm_num_groups": 8,
}


def noise_schedule() -> DDIMScheduler:
    """Cosine schedule down to zero signal, velocity prediction."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False,
                         rescale_betas_zero_snr=True, timestep_spacing="trailing", set_alpha_to_one=True)


class Captions:
    """Captions of pool rows as hidden states of the frozen text encoder."""

    def __init__(self, pool: Pool, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, name: str) -> None:
        self.pool, self.tokenizer, self.encoder, self.name = pool, tokenizer, encoder.eval().requires_grad_(False), name

    @torch.no_grad()
    def __call__(self, index: Tensor, step: int) -> Tensor:
        """Hidden states (B, N, T); DROP_TEXT of them of the empty caption."""
        choice = random.Random(f"{self.name}/captions/{step}")
        words = [self.pool.caption(i, choice) for i in index.tolist()]
        words = ["" if choice.random() < DROP_TEXT else w for w in words]
        ids = self.tokenizer(words, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.encoder(ids).last_hidden_state


def _noised(z: Tensor, t: Tensor, alphas: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, velocity, and signal rate (B,) at steps t (B,)."""
    alpha = alphas[t].sqrt()
    a, s = alpha[:, None, None, None], (1 - alpha**2).clamp_min(0).sqrt()[:, None, None, None]
    noise = torch.randn(z.shape, generator=generator)
    return a * z + s * noise, a * noise - s * z, alpha


def train_base(pool: Pool, captions: Captions, schedule: Schedule, folder: Path, seed: int) -> UNet2DConditionModel:
    """Text to image on every pool picture."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last)
    alphas = noise_schedule().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        z = pool.rows("image_latents", index).float()
        t = torch.randint(1000, (len(z),), generator=generator)
        noisy, velocity, _ = _noised(z, t, alphas, generator)
        found = unet(noisy, t, captions(index, step), return_dict=False)[0]
        return {"loss": F.mse_loss(found, velocity)}

    fit("base", unet, loss, schedule, folder, seed)
    return unet


def train_controlnet(pool: Pool, captions: Captions, unet: UNet2DConditionModel, schedule: Schedule, folder: Path,
                     seed: int) -> ControlNetModel:
    """Depth of the subject as a control, the base frozen."""
    torch.manual_seed(seed)
    unet = unet.eval().requires_grad_(False)
    control = ControlNetModel.from_unet(unet, conditioning_channels=3,
                                        conditioning_embedding_out_channels=(8, 16, 32, 64))
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.05)
    alphas = noise_schedule().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        z = pool.rows("image_latents", index).float()
        picture = control_picture(pool.planes("depth", index), pool.planes("mask", index))
        # the control matters where noise is strong
        t = 999 - (1000 * torch.rand(len(z), generator=generator).square()).long()
        noisy, velocity, _ = _noised(z, t, alphas, generator)
        text = captions(index, step)
        down, middle = control(noisy, t, text, picture, return_dict=False)
        found = unet(noisy, t, text, down_block_additional_residuals=down, mid_block_additional_residual=middle,
                     return_dict=False)[0]
        return {"loss": F.mse_loss(found, velocity)}

    fit("controlnet", control, loss, schedule, folder, seed)
    return control


def train_refiner(pool: Pool, captions: Captions, unet: UNet2DConditionModel, autoencoder: Any, encoder: Dinov2Model,
                  schedule: Schedule, folder: Path, seed: int) -> ToffeeRefinerUNet:
    """Restore a degraded picture from the features of an altered copy of it: single pictures, no pairs."""
    torch.manual_seed(seed)
    model = ToffeeRefinerUNet.from_unet(unet, feature_dim=encoder.config.hidden_size)
    alphas = noise_schedule().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        example: RefinerExample = refiner_examples(pool, index, autoencoder, encoder, generator)
        t = torch.randint(250, 950, (len(index),), generator=generator)
        from_draft = (torch.rand(len(index), generator=generator) < 0.5)[:, None, None, None]
        noisy, _, alpha = _noised(torch.where(from_draft, example.draft, example.clean), t, alphas, generator)
        found = model(noisy, t, captions(index, step), example.draft, example.mask, example.features, example.known,
                      alpha)
        weight = 0.25 + example.mask
        error = (weight * (found - example.clean).square()).sum() / (weight.sum() * found.shape[1])
        return {"loss": error, "inside": ((found - example.clean).square() * example.mask).sum().detach()
                / (example.mask.sum() * found.shape[1])}

    fit("refiner", model, loss, schedule, folder, seed)
    return model


def train_view(pool: Pool, captions: Captions, unet: UNet2DConditionModel, encoder: Dinov2Model, schedule: Schedule,
               folder: Path, seed: int) -> ToffeeViewUNet:
    """Draw one shot of a subject from another shot of it in the same surroundings; three in four are told the turn."""
    torch.manual_seed(seed)
    model = ToffeeViewUNet.from_unet(unet, feature_dim=2 * encoder.config.hidden_size, patches=256)
    alphas = noise_schedule().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        people = torch.randint(pool.subjects, (schedule.batch_size,), generator=generator) * SHOTS
        swap = torch.randint(2, people.shape, generator=generator)
        example: ViewExample = view_examples(pool, people + swap, people + 1 - swap, encoder, generator)
        t = 999 - (1000 * torch.rand(len(people), generator=generator).pow(1.3)).long()
        noisy, velocity, _ = _noised(example.clean, t, alphas, generator)
        tokens, seen = model.tokens(example.features, example.subject, example.turn)
        found = model(noisy, t, captions(people + 1 - swap, step), tokens, seen, example.shown_latents, example.region)
        weight = 0.15 + example.region
        return {"loss": (weight * (found - velocity).square()).sum() / (weight.sum() * found.shape[1])}

    fit("view", model, loss, schedule, folder, seed)
    return model


