"""What the method replaces: DreamBooth with LoRA, tuned on one subject's picture and asked like any other way.

B batch, C latent channels. Source: Ruiz et al., 2022 (DreamBooth), with LoRA on the attention layers as in diffusers'
training example, at twice its rank and rate (4, 5e-4) and without its gradient clipping. The draft's ControlNet stays,
so that only the tuning differs from the method.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.evaluation.figures import psnr_inside
from toffee_hf.evaluation.heldout import Pictures
from toffee_hf.evaluation.ways import drafts
from toffee_hf.family import Family

TOKEN = "sks"                         # stands for the subject, before its class word
CLOSE_ENOUGH_DB = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """How a subject is tuned: steps in all, checkpoints between, and what the optimizer is told."""

    steps: int = 400
    every: int = 50
    batch_size: int = 4
    rank: int = 8
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class Tuned:
    """The first checkpoint within CLOSE_ENOUGH_DB of the best: its pictures (B, 3, H, W), steps, seconds of one thread.

    after_best: steps that were still taken after the best one; 0 says that more might have been better.
    """

    x: Tensor
    steps: int
    tuning_s: float
    sampling_s: float
    after_best: int = 0


def dreambooth(family: Family, reference: Pictures, posed: Pictures, prompts: list[str], truth: Pictures,
               tuning: Tuning, seed: int = 0) -> Tuned:
    """Tune on the one picture of `reference`, draw the B prompts at every checkpoint, and stop as the truth advises."""
    found: list[tuple[float, Tuned]] = []
    words = [prompt.replace(reference.names[0], f"{TOKEN} {reference.names[0]}", 1) for prompt in prompts]
    for steps, spent_s, unet in _checkpoints(family, reference, tuning, seed):
        started = time.process_time()
        x = _with_unet(family, unet, posed, words, truth.styles)
        near = psnr_inside(x, truth.x, truth.mask).mean().item()
        found.append((near, Tuned(x, steps, spent_s, time.process_time() - started)))
    best, last = max(found, key=lambda one: one[0]), found[-1][1]
    chosen = next(tuned for near, tuned in found if near >= best[0] - CLOSE_ENOUGH_DB)
    return replace(chosen, after_best=last.steps - best[1].steps)


def _checkpoints(family: Family, reference: Pictures, tuning: Tuning, seed: int) -> Iterator[tuple[int, float, Any]]:
    """Steps, seconds of tuning so far, and the UNet, every `tuning.every` steps."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    unet = copy.deepcopy(family.unet)
    unet.add_adapter(LoraConfig(r=tuning.rank, lora_alpha=tuning.rank, init_lora_weights="gaussian",
                                target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=tuning.learning_rate)
    alphas = family.scheduler().alphas_cumprod
    generator, spent_s = torch.Generator().manual_seed(seed), 0.0
    with torch.no_grad():
        latents = family.vae.latents(reference.x[:1]).expand(tuning.batch_size, -1, -1, -1)
        text = family.hidden_states([f"a photo of {TOKEN} {reference.names[0]}"]).expand(tuning.batch_size, -1, -1)
    for step in range(1, tuning.steps + 1):
        started = time.process_time()
        with torch.enable_grad():
            loss = _velocity_loss(unet, latents, text, alphas, generator)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        spent_s += time.process_time() - started
        if step % tuning.every == 0:
            yield step, spent_s, unet.eval()


def _velocity_loss(unet: Any, z_BCHW: Tensor, text: Tensor, alphas: Tensor, generator: torch.Generator) -> Tensor:
    t = torch.randint(len(alphas), (len(z_BCHW),), generator=generator)
    noise = torch.randn(z_BCHW.shape, generator=generator)
    alpha = alphas[t].sqrt()[:, None, None, None]
    sigma = (1 - alpha**2).clamp_min(0).sqrt()
    found = unet(alpha * z_BCHW + sigma * noise, t, text, return_dict=False)[0]
    return F.mse_loss(found, alpha * noise - sigma * z_BCHW)


@torch.no_grad()
def _with_unet(family: Family, unet: Any, posed: Pictures, prompts: list[str], styles: list[str]) -> Tensor:
    """The draft pipeline's pictures with another UNet in it."""
    pipeline, original = family.draft_pipeline, family.unet
    pipeline.unet = unet
    try:
        return drafts(family, posed, prompts, styles).x
    finally:
        pipeline.unet = original
