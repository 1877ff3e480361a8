"""Training of the tiny autoencoder: reconstruction, with the subject weighted up."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.models.toffee_autoencoder import ToffeeAutoencoder
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import Pool

SUBJECT_WEIGHT = 4.0
LATENT_NOISE = 0.05                   # standard deviation added to the unit-variance latents while training


def new_autoencoder(pool: Pool) -> ToffeeAutoencoder:
    """An autoencoder whose linear path holds the principal components of the pool's patches."""
    model = ToffeeAutoencoder()
    model.start_from_components(_patches(pool))
    return model


def train_autoencoder(model: ToffeeAutoencoder, pool: Pool, schedule: Schedule, folder: Path, seed: int
                      ) -> ToffeeAutoencoder:
    """Reconstruct pool pictures, styled and not, from noisy latents."""
    model = model.to(memory_format=torch.channels_last)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        x = pool.pictures("photo" if step % 3 == 0 else "image", index)
        x = x.flip(-1) if step % 2 else x
        mask = pool.planes("mask", index)
        weight = 1 + (SUBJECT_WEIGHT - 1) * (mask.flip(-1) if step % 2 else mask)
        z = model.latents(x.contiguous(memory_format=torch.channels_last))
        y = model.pictures(z + LATENT_NOISE * torch.randn(z.shape, generator=generator))
        return _reconstruction(y, x, weight)

    fit("autoencoder", model, loss, schedule, folder, seed)
    typical = pool.pictures("image", torch.arange(0, len(pool), max(1, len(pool) // 128)))
    model.calibrate(typical, torch.Generator().manual_seed(seed))
    return model


def _patches(pool: Pool) -> Tensor:
    x = pool.pictures("image", torch.arange(0, len(pool), max(1, len(pool) // 256)))
    tiles = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
    return tiles[torch.arange(0, len(tiles), 4)]


def train_decoder(model: ToffeeAutoencoder, pool: Pool, schedule: Schedule, folder: Path, seed: int
                  ) -> ToffeeAutoencoder:
    """Go on with the decoder alone: latents stay as they are, so diffusion models may be trained on them meanwhile."""
    model.requires_grad_(False)
    for part in (model.decoder, model.decode_linear):
        part.requires_grad_(True)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        x, z = pool.pictures("image", index), pool.rows("image_latents", index).float()
        y = model.pictures((z + LATENT_NOISE * torch.randn(z.shape, generator=generator)).contiguous(
            memory_format=torch.channels_last))
        weight = 1 + (SUBJECT_WEIGHT - 1) * pool.planes("mask", index)
        return _reconstruction(y, x, weight)

    fit("decoder", model, loss, schedule, folder, seed)
    return model


def _reconstruction(y_BCHW: Tensor, x_BCHW: Tensor, weight_B1HW: Tensor) -> dict[str, Tensor]:
    """Weighted squared error with a little of the absolute one, and the plain PSNR in dB for pictures in [-1, 1]."""
    error = y_BCHW - x_BCHW
    total = (weight_B1HW * (0.1 * error.abs() + 8 * error.square())).sum() / (3 * weight_B1HW.sum())
    return {"loss": total, "psnr": 10 * torch.log10(4 / F.mse_loss(y_BCHW, x_BCHW).detach())}
