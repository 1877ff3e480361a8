"""The Refiner's denoiser: a text-to-image UNet that also sees a draft and a grid of the subject's patch features.

Imports nothing else of Toffee. It predicts the clean latents. The grid holds, for each latent cell, patch features of
the reference and its own latents there, laid out as the draft needs them; it enters beside the noisy latents, and a
gate mixes the latents into the result wherever they can be taken as they are.
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
    """UNet2DConditionModel whose first convolution is widened by the draft, the mask and the reference's grid.

    unet_config: configuration of the text-to-image UNet, `in_channels` being the latents' channels.
    feature_dim: features of one patch of the grid. prediction_type: what that UNet predicts, `v_prediction` or
    `epsilon`.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, unet_config: dict[str, Any], feature_dim: int = 192, hint_channels: int = 64,
                 prediction_type: str = "v_prediction") -> None:
        super().__init__()
        if prediction_type not in ("v_prediction", "epsilon"):
            raise ValueError(f"prediction_type must be v_prediction or epsilon, got {prediction_type!r}")
        self.unet = UNet2DConditionModel.from_config(unet_config)
        latent_channels = self.unet.config.in_channels
        width = self.unet.conv_in.out_channels
        self.hint = nn.Conv2d(feature_dim, hint_channels, 3, padding=1)
        self.conditioning = nn.Conv2d(2 * latent_channels + 2 + hint_channels, width, 3, padding=1)
        self.to_latents = nn.Conv2d(hint_channels + latent_channels, latent_channels, 3, padding=1)
        self.gate = nn.Conv2d(2 * latent_channels + 2 + hint_channels, latent_channels, 3, padding=1)
        for layer in (self.conditioning, self.to_latents, self.gate):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, feature_dim: int, hint_channels: int = 64,
                  prediction_type: str = "v_prediction") -> ToffeeRefinerUNet:
        """Start from a text-to-image UNet; at first the result is halfway between that UNet's and the reference."""
        config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        model = cls(unet_config=config, feature_dim=feature_dim, hint_channels=hint_channels,
                    prediction_type=prediction_type)
        model.unet.load_state_dict(unet.state_dict())
        return model

    def forward(self, noisy_BChw: Tensor, timestep_B: Tensor, text_BNT: Tensor, draft_BChw: Tensor, mask_B1hw: Tensor,
                features_BFhw: Tensor, reference_BChw: Tensor, known_B1hw: Tensor, alpha_B: Tensor,
                added: dict[str, Tensor] | None = None) -> Tensor:
        """Clean latents (B, C, h, w).

        mask: subject of the draft, [0, 1]; features, reference: patch features and latents of the reference, 0 where
        unknown; known: where they are known; alpha: signal rate of the noise schedule at `timestep`,
        noisy = alpha · clean + sqrt(1 - alpha²) · noise; added: `text_embeds` and `time_ids` of an SDXL UNet.
        """
        hint = self.hint(features_BFhw) * known_B1hw
        seen = torch.cat([draft_BChw, mask_B1hw, known_B1hw, hint, reference_BChw], 1)
        predicted = self._unet(noisy_BChw, timestep_B, text_BNT, self.conditioning(seen), added)
        linear = self.to_latents(torch.cat([hint, reference_BChw], 1)) * mask_B1hw
        drawn = self._clean(noisy_BChw, predicted, alpha_B[:, None, None, None]) + linear
        return drawn + self.gate(seen).sigmoid() * mask_B1hw * known_B1hw * (reference_BChw - drawn)

    def _clean(self, noisy: Tensor, predicted: Tensor, alpha: Tensor) -> Tensor:
        """Clean latents of what the UNet predicts."""
        sigma = (1 - alpha**2).clamp_min(0).sqrt()
        if self.config.prediction_type == "epsilon":
            return (noisy - sigma * predicted) / alpha.clamp_min(1e-3)
        return alpha * noisy - sigma * predicted

    def _unet(self, noisy: Tensor, timestep: Tensor, text: Tensor, condition: Tensor, added: dict[str, Tensor] | None
              ) -> Tensor:
        """The UNet with `condition` added behind its first convolution."""
        handle = self.unet.conv_in.register_forward_hook(lambda module, inputs, output: output + condition)
        try:
            return self.unet(noisy, timestep, encoder_hidden_states=text, added_cond_kwargs=added,
                             return_dict=False)[0]
        finally:
            handle.remove()
