"""The Refiner's denoiser: a text-to-image UNet that also sees a draft and a grid of the subject's patch features.

Imports nothing else of Toffee. It predicts the clean latents. The grid is one feature vector a latent cell, taken from
the reference and laid out as the draft needs it; it enters beside the noisy latents and, by a linear path, the result.
Shape suffixes: B batch, C latent channels, F features of a patch, N text tokens, T text features, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 3 (DINO patch embeddings restore the subject's details).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ToffeeRefinerUNet(ModelMixin, ConfigMixin):
    """UNet2DConditionModel whose first convolution is widened by the draft, the mask and the feature grid.

    unet_config: configuration of the text-to-image UNet, `in_channels` being the latents' channels.
    feature_dim: features of one patch of the grid.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, unet_config: dict[str, Any], feature_dim: int = 192, hint_channels: int = 64) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel.from_config(unet_config)
        latent_channels = self.unet.config.in_channels
        width = self.unet.conv_in.out_channels
        self.hint = nn.Conv2d(feature_dim, hint_channels, 3, padding=1)
        self.conditioning = nn.Conv2d(latent_channels + 2 + hint_channels, width, 3, padding=1)
        self.to_latents = nn.Conv2d(hint_channels, latent_channels, 3, padding=1)
        for parameter in (*self.conditioning.parameters(), *self.to_latents.parameters()):
            nn.init.zeros_(parameter)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, feature_dim: int, hint_channels: int = 64) -> ToffeeRefinerUNet:
        """Start from a text-to-image UNet; at first the result is that UNet's own."""
        config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        model = cls(unet_config=config, feature_dim=feature_dim, hint_channels=hint_channels)
        model.unet.load_state_dict(unet.state_dict())
        return model

    def forward(self, noisy_BChw: Tensor, timestep_B: Tensor, text_BNT: Tensor, draft_BChw: Tensor, mask_B1hw: Tensor,
                features_BFhw: Tensor, known_B1hw: Tensor, alpha_B: Tensor) -> Tensor:
        """Clean latents (B, C, h, w).

        mask: subject of the draft, [0, 1]; features: patch features, 0 where unknown; known: where they are known;
        alpha: signal rate of the noise schedule at `timestep`, noisy = alpha · clean + sqrt(1 - alpha²) · noise.
        """
        hint = self.hint(features_BFhw) * known_B1hw
        condition = self.conditioning(torch.cat([draft_BChw, mask_B1hw, known_B1hw, hint], 1))
        velocity = self._unet(noisy_BChw, timestep_B, text_BNT, condition)
        alpha = alpha_B[:, None, None, None]
        return alpha * noisy_BChw - (1 - alpha**2).clamp_min(0).sqrt() * velocity + self.to_latents(hint) * mask_B1hw

    def _unet(self, noisy: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        """The UNet with `condition` added behind its first convolution."""
        handle = self.unet.conv_in.register_forward_hook(lambda module, inputs, output: output + condition)
        try:
            return self.unet(noisy, timestep, encoder_hidden_states=text, return_dict=False)[0]
        finally:
            handle.remove()
