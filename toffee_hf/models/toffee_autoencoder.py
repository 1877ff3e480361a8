"""A small autoencoder of factor 8 with the interface of diffusers' `AutoencoderKL`. Imports nothing else of Toffee.

It goes to low resolution at once (pixel unshuffle by 4), so that a CPU can train it; a linear path from patches to
latents and back runs beside the convolutions and can be started from principal components.
Shape suffixes: B batch, C channels, H, W pixels, h = H/8, w = W/8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class ToffeeAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (B, 3, H, W) in [-1, 1] to latents (B, latent_channels, H/8, W/8), and back.

    H and W must be multiples of 8. Latents are whitened by `mean` and `std`, measured by `calibrate`, so
    `scaling_factor` is 1.
    """

    @register_to_config
    def __init__(self, in_channels: int = 3, out_channels: int = 3, latent_channels: int = 16,
                 block_out_channels: tuple[int, ...] = (32, 64, 80, 192), encoder_width: int = 128,
                 encoder_blocks: int = 3, decoder_blocks: int = 3, scaling_factor: float = 1.0,
                 shift_factor: float = 0.0, sample_size: int = 128) -> None:
        super().__init__()
        shallow, stem, middle, deep = block_out_channels
        self.encode_linear = nn.Conv2d(3, latent_channels, 8, stride=8)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, stem, 3, padding=1), _Residual(stem),
            nn.PixelUnshuffle(2), nn.Conv2d(4 * stem, encoder_width, 1),
            *(_Residual(encoder_width) for _ in range(encoder_blocks)),
            nn.SiLU(), nn.Conv2d(encoder_width, latent_channels, 3, padding=1))
        self.register_buffer("mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("std", torch.ones(latent_channels, 1, 1))
        self.decode_linear = nn.ConvTranspose2d(latent_channels, 3, 8, stride=8)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, deep, 3, padding=1), *(_Residual(deep) for _ in range(decoder_blocks)),
            nn.SiLU(), nn.Conv2d(deep, 4 * middle, 1), nn.PixelShuffle(2),
            _Residual(middle), _Residual(middle), nn.SiLU(), nn.Conv2d(middle, 4 * shallow, 1), nn.PixelShuffle(2),
            _Residual(shallow), nn.SiLU(), nn.Conv2d(shallow, 12, 3, padding=1), nn.PixelShuffle(2))

    def start_from_components(self, patches: Tensor) -> None:
        """Set the linear path to the principal components of `patches` (N, 3, 8, 8) in [-1, 1]."""
        flat = patches.flatten(1)
        mean = flat.mean(0)
        basis = torch.linalg.svd(flat - mean, full_matrices=False)[2][: self.config.latent_channels]
        spread = ((flat - mean) @ basis.T).std(0)
        with torch.no_grad():
            self.encode_linear.weight.copy_((basis / spread[:, None]).view_as(self.encode_linear.weight))
            _bias(self.encode_linear).copy_(-(basis / spread[:, None]) @ mean)
            self.decode_linear.weight.copy_((basis * spread[:, None]).view_as(self.decode_linear.weight))
            _bias(self.decode_linear).copy_(mean.view(3, -1).mean(1))
            for layer in (self.encoder[-1], self.decoder[-2]):
                assert isinstance(layer, nn.Conv2d)
                layer.weight.mul_(0.1)
                _bias(layer).zero_()

    @torch.no_grad()
    def calibrate(self, x_BCHW: Tensor, generator: torch.Generator, exponent: float = 0.4) -> None:
        """Scale the latents by what they mean to the eye; reconstructions stay as they are.

        Channel c gets mean 0 and deviation k ∝ e^exponent, mean square 1, with e the squared change of the picture
        per squared deviation of the channel. At 0 all channels are equal (whitened), at 0.5 latent distance is pixel
        distance: a diffusion model then settles first what is seen most, and errs where it is seen least.
        """
        raw = self.latents(x_BCHW) * self.std + self.mean
        self.mean.copy_(raw.mean((0, 2, 3))[:, None, None])
        deviation = raw.std((0, 2, 3))
        self.std.copy_(deviation[:, None, None])
        z = self.latents(x_BCHW)
        picture = self.pictures(z)
        effect = torch.empty_like(deviation)
        for c in range(len(deviation)):
            moved = z.clone()
            moved[:, c] += 0.3 * torch.randn(z[:, c].shape, generator=generator)
            effect[c] = (self.pictures(moved) - picture).square().mean()
        scale = effect**exponent
        self.std.div_((scale / scale.square().mean().sqrt())[:, None, None])

    def latents(self, x_BCHW: Tensor) -> Tensor:
        """Latents (B, latent_channels, h, w), of mean square 1 once calibrated."""
        return (self.encode_linear(x_BCHW) + self.encoder(x_BCHW) - self.mean) / self.std

    def pictures(self, z_BChw: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), about [-1, 1]."""
        raw = z_BChw * self.std + self.mean
        return self.decode_linear(raw) + self.decoder(raw)

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """The latents as a distribution without spread, as pipelines expect it."""
        mean = self.latents(x)
        posterior = DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, -30.0)], 1), deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
               ) -> DecoderOutput | tuple[Tensor]:
        """Pictures of latents; `generator` is accepted for the interface and not needed."""
        sample = self.pictures(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Encode and decode."""
        return self.decode(self.latents(sample), return_dict)
