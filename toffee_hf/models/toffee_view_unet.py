"""The View Generator's denoiser: a text-to-image UNet that sees one view of an object and draws another.

Imports nothing else of Toffee. It predicts the clean latents. The known view enters as patch tokens beside the text
and as latents at the input, with the region that may change; the camera, where it is given, as one more token. Where
depth says how the object turns, the latents of its turned picture enter too, and a gate mixes them into the
result wherever they can be taken as they are.
Shape suffixes: B batch, C latent channels, F features of a patch, P patches, N text tokens, T text features, h, w
cells.
Source of the idea: Toffee, arXiv 2406.09305, section 3 (View Generator, trained on multi-view images).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

CAMERA_FREQUENCIES = 4


def camera_features(turn_B: Tensor) -> Tensor:
    """Sines and cosines of the relative turn about the vertical axis in radians: (B, 2 · CAMERA_FREQUENCIES)."""
    angles = turn_B[:, None] * torch.arange(1, CAMERA_FREQUENCIES + 1, device=turn_B.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


class ToffeeViewUNet(ModelMixin, ConfigMixin):
    """UNet2DConditionModel with patch and camera tokens in its cross-attention and the known view at its input."""

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, unet_config: dict[str, Any], feature_dim: int = 384, patches: int = 256,
                 prediction_type: str = "v_prediction") -> None:
        super().__init__()
        if prediction_type not in ("v_prediction", "epsilon"):
            raise ValueError(f"prediction_type must be v_prediction or epsilon, got {prediction_type!r}")
        self.unet = UNet2DConditionModel.from_config(unet_config)
        latent_channels, text_dim = self.unet.config.in_channels, self.unet.config.cross_attention_dim
        self.project = nn.Sequential(nn.Linear(feature_dim, text_dim), nn.LayerNorm(text_dim))
        self.place = nn.Parameter(torch.randn(patches, text_dim) * 0.02)
        self.camera = nn.Sequential(nn.Linear(2 * CAMERA_FREQUENCIES, text_dim), nn.SiLU(),
                                    nn.Linear(text_dim, text_dim))
        self.no_camera = nn.Parameter(torch.zeros(text_dim))
        time_dim = self.unet.time_embedding.linear_2.out_features
        self.turn = nn.Linear(text_dim, time_dim)
        self.known = nn.Conv2d(2 * latent_channels + 2, self.unet.conv_in.out_channels, 3, padding=1)
        self.gate = nn.Conv2d(2 * latent_channels + 2, latent_channels, 3, padding=1)
        for layer in (self.known, self.gate, self.turn):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, feature_dim: int, patches: int,
                  prediction_type: str = "v_prediction") -> ToffeeViewUNet:
        """Start from a text-to-image UNet, which predicts `v_prediction` or `epsilon`."""
        config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        model = cls(unet_config=config, feature_dim=feature_dim, patches=patches, prediction_type=prediction_type)
        model.unet.load_state_dict(unet.state_dict())
        return model

    def tokens(self, features_BPF: Tensor, subject_BP: Tensor, turn_B: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens and a camera token (B, P + 1, T), and which of them to attend to (B, P + 1).

        subject: patches that show the object; turn: radians from the known view to the wanted one, NaN where unknown.
        """
        known = ~turn_B.isnan()
        camera = torch.where(known[:, None], self.camera(camera_features(turn_B.nan_to_num())), self.no_camera)
        patches = self.project(features_BPF) + self.place
        seen = torch.cat([subject_BP > 0, torch.ones_like(known)[:, None]], 1)
        return torch.cat([patches, camera[:, None]], 1), seen

    def forward(self, noisy_BChw: Tensor, timestep_B: Tensor, text_BNT: Tensor, tokens_BPT: Tensor, seen_BP: Tensor,
                known_BChw: Tensor, region_B1hw: Tensor, turned_BChw: Tensor, covered_B1hw: Tensor, alpha_B: Tensor,
                added: dict[str, Tensor] | None = None) -> Tensor:
        """Clean latents (B, C, h, w).

        known: latents of the known view; region: 1 where the new view may differ from it; turned: latents of the known
        view with its object turned by its depth; covered: part of each cell that this object fills, [0, 1]; alpha:
        signal rate of the noise schedule at `timestep`, noisy = alpha · clean + sqrt(1 - alpha²) · noise; added:
        `text_embeds` and `time_ids` of an SDXL UNet.
        """
        space = torch.cat([known_BChw, region_B1hw, turned_BChw, covered_B1hw], 1)
        condition = self.known(space)
        turn = self.turn(tokens_BPT[:, -1])
        context = torch.cat([text_BNT, tokens_BPT], 1)
        attend = torch.cat([torch.ones_like(text_BNT[..., 0], dtype=torch.bool), seen_BP], 1)
        hooks = [self.unet.conv_in.register_forward_hook(lambda module, inputs, output: output + condition),
                 self.unet.time_embedding.register_forward_hook(lambda module, inputs, output: output + turn)]
        try:
            predicted = self.unet(noisy_BChw, timestep_B, encoder_hidden_states=context,
                                  encoder_attention_mask=attend, added_cond_kwargs=added, return_dict=False)[0]
        finally:
            for hook in hooks:
                hook.remove()
        drawn = self._clean(noisy_BChw, predicted, alpha_B[:, None, None, None])
        return drawn + self.gate(space).sigmoid() * covered_B1hw * (turned_BChw - drawn)

    def _clean(self, noisy: Tensor, predicted: Tensor, alpha: Tensor) -> Tensor:
        """Clean latents of what the UNet predicts."""
        sigma = (1 - alpha**2).clamp_min(0).sqrt()
        if self.config.prediction_type == "epsilon":
            return (noisy - sigma * predicted) / alpha.clamp_min(1e-3)
        return alpha * noisy - sigma * predicted
