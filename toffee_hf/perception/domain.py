"""Does the diffusion model know such a picture? B batch, C latent channels, h, w latent cells, H, W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

STEPS = (300, 500)                    # of 1000: the layout is still visible, the details have to be known


@torch.no_grad()
def familiarity(vae: Any, unet: Any, scheduler: Any, text_BNT: Tensor, x_B3HW: Tensor,
                generator: Sequence[torch.Generator]) -> Tensor:
    """Part of a picture's latents that the denoiser restores from noise under the caption, (B,) in [-1, 1].

    The coefficient of determination 1 - |x̂0 - z|² / |z - mean(z)|², mean of STEPS; 1 is perfect, 0 as good as the mean.
    """
    z = vae.encode(x_B3HW).latent_dist.mode() * vae.config.scaling_factor
    alphas = scheduler.alphas_cumprod.to(z.device)
    spread = (z - z.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    found = torch.zeros(len(z), device=z.device)
    for step in STEPS:
        a, s = alphas[step].sqrt(), (1 - alphas[step]).sqrt()
        noisy = a * z + s * randn_tensor(z.shape, generator=list(generator), device=z.device, dtype=z.dtype)
        velocity = unet(noisy, torch.full((len(z),), step, device=z.device), encoder_hidden_states=text_BNT,
                        return_dict=False)[0]
        found += 1 - (a * noisy - s * velocity - z).square().mean((1, 2, 3)) / spread
    return (found / len(STEPS)).clamp(-1, 1)
