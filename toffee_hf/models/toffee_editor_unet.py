"""The editor's denoiser: a text-to-image UNet that also sees subjects, a picture to edit, and a depth map.

Imports nothing else of Toffee. It is a UNet2DConditionModel with a wider first convolution and, beside each
cross-attention to the text, one to the tokens of the subjects, so LoRA, schedulers and quantisation work as on the
stock class. It predicts what its base predicts.
Shape suffixes: B batch, C latent channels, F features of a patch, P patches, S subjects, N text tokens, T text
features, h, w latent cells, Q queries, D width of an attention layer.
Source of the idea: Toffee, arXiv 2406.09305, section 4 (ToffeeNet); attention beside the text's: IP-Adapter, arXiv
2308.06721, section 3.2.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin, UNet2DConditionModel  # noqa: F401  (pipelines find by that name how it is loaded)
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

BELIEF = 5.0                          # of the gate before it has learnt anything, as a logit: the hint counts by .99
PLANES = 4                            # beside source and hint: mask, depth, where depth is told, where the hint is


def _as_one(init: Callable[..., None]) -> Callable[..., None]:
    """Show the stock UNet's arguments and `init`'s own as one signature: diffusers reads configurations from it."""
    stock = inspect.signature(UNet2DConditionModel.__init__).parameters.values()
    own = [p for p in inspect.signature(init).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    init.__signature__ = inspect.Signature([*stock, *own])  # type: ignore[attr-defined]
    return init


class _SubjectAttention(nn.Module):
    """Cross-attention to the text, and beside it one to the subjects' tokens, zero at first."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        inner, width, features = attention.inner_dim, attention.query_dim, attention.cross_attention_dim
        self.subject_k = nn.Linear(features, inner, bias=False)
        self.subject_v = nn.Linear(features, inner, bias=False)
        self.subject_out = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.subject_out.weight)
        self.of_text = AttnProcessor2_0()

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Any = None,
                 attention_mask: Tensor | None = None, temb: Tensor | None = None) -> Tensor:
        """(B, Q, D) of the same; encoder_hidden_states: text (B, N, T), subjects (B, S, P, T), weights (B, S, h, w)."""
        text, subjects, weights = encoder_hidden_states
        found: Tensor = self.of_text(attn, hidden_states, text, attention_mask, temb)
        queries = self._heads(attn.to_q(hidden_states), attn)
        share = _at_queries(weights, hidden_states.shape[1]).to(hidden_states)
        for s in range(subjects.shape[1]):
            k, v = (self._heads(layer(subjects[:, s]), attn) for layer in (self.subject_k, self.subject_v))
            seen = F.scaled_dot_product_attention(queries, k, v).transpose(1, 2).flatten(2)
            found = found + share[:, s, :, None] * self.subject_out(seen)
        return found

    @staticmethod
    def _heads(x: Tensor, attn: Attention) -> Tensor:
        return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _at_queries(weights_BShw: Tensor, queries: int) -> Tensor:
    """The weights at a layer's cells, (B, S, Q)."""
    h, w = weights_BShw.shape[-2:]
    block = max(1, round(math.sqrt(h * w / queries)))
    return F.adaptive_avg_pool2d(weights_BShw, (math.ceil(h / block), math.ceil(w / block))).flatten(2)


class ToffeeEditorUNet(UNet2DConditionModel):
    """UNet2DConditionModel whose `in_channels` hold the noisy latents and the conditions.

    subject_dim: features of one patch of a subject; patches: of its picture; prediction_type: `v_prediction` or
    `epsilon`, of the base.
    """

    @register_to_config
    @_as_one
    def __init__(self, *arguments: Any, subject_dim: int = 384, patches: int = 256,
                 prediction_type: str = "v_prediction", **unet: Any) -> None:
        super().__init__(*arguments, **unet)
        if prediction_type not in ("v_prediction", "epsilon"):
            raise ValueError(f"prediction_type must be v_prediction or epsilon, got {prediction_type!r}")
        text_dim, channels = self.config.cross_attention_dim, self.config.out_channels
        self.project = nn.Sequential(nn.Linear(subject_dim, text_dim), nn.LayerNorm(text_dim))
        self.place = nn.Parameter(torch.randn(patches, text_dim) * 0.02)
        self.gate = nn.Conv2d(2 * channels + PLANES, channels, 3, padding=1)
        self.gate_learns = True
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)
        self.set_attn_processor({
            name: _SubjectAttention(self.get_submodule(name.removesuffix(".processor"))) if ".attn2." in name else known
            for name, known in self.attn_processors.items()})

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, subject_dim: int, patches: int,
                  prediction_type: str = "v_prediction") -> ToffeeEditorUNet:
        """Start from a text-to-image UNet: attention to subjects and conditions at the input are zero, and the hint is
        believed."""
        config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        channels = unet.config.in_channels
        if channels != unet.config.out_channels:
            raise ValueError(f"the base must be a text-to-image UNet, got {channels} channels in and "
                             f"{unet.config.out_channels} out")
        model = cls(**{**config, "in_channels": 3 * channels + PLANES}, subject_dim=subject_dim, patches=patches,
                    prediction_type=prediction_type)
        weights = unet.state_dict()
        wide = torch.zeros_like(model.conv_in.weight)
        wide[:, :channels] = weights["conv_in.weight"]
        model.load_state_dict(weights | {"conv_in.weight": wide}, strict=False)
        for name, processor in model.attn_processors.items():
            if isinstance(processor, _SubjectAttention):
                attention = model.get_submodule(name.removesuffix(".processor"))
                processor.subject_k.load_state_dict(attention.to_k.state_dict())
                processor.subject_v.load_state_dict(attention.to_v.state_dict())
        return model

    def own_layers(self) -> list[nn.Module | nn.Parameter]:
        """What the base has not, or has narrower: trained in full where the rest is trained by LoRA."""
        beside = [p for p in self.attn_processors.values() if isinstance(p, _SubjectAttention)]
        return [self.conv_in, self.project, self.place, self.gate, *beside]

    def get_aug_embed(self, emb: Tensor, encoder_hidden_states: Any, added_cond_kwargs: dict[str, Any]) -> Any:
        """As in the stock class, of the text alone."""
        return super().get_aug_embed(emb, encoder_hidden_states[0], added_cond_kwargs)

    def set_attention_slice(self, slice_size: Any = "auto") -> None:
        """Nothing to do: attention is memory efficient as it is, and the stock class would put others in its place."""

    def fuse_qkv_projections(self) -> None:
        """Nothing to do, as above."""

    def unfuse_qkv_projections(self) -> None:
        """Nothing to do, as above."""

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, subjects: Tensor,
                subject_patches: Tensor, weights: Tensor, space: Tensor, alpha: Tensor,
                added_cond_kwargs: dict[str, Tensor] | None = None, return_dict: bool = True, **stock: Any) -> Any:
        """What the base predicts, (B, C, h, w), as UNet2DConditionOutput or a tuple.

        sample: noisy latents (B, C, h, w), noisy = alpha · clean + sqrt(1 - alpha²) · noise, alpha (B,);
        encoder_hidden_states: (B, N, T); subjects: patch features (B, S, P, F); subject_patches: which of them show the
        subject, (B, S, P); weights: of each subject at each cell, (B, S, h, w), at least 0; space (B, 2C + 4, h, w):
        latents of the surroundings (C), 1 where the picture is to be drawn, depth, 1 where depth is told, latents of
        the subjects laid into the picture (C), and how much they count there, [0, 1].
        """
        tokens = (self.project(subjects) + self.place) * subject_patches[..., None].to(sample)
        channels = self.config.out_channels
        source, mask, depth, told, hint, shown = space.split([channels, 1, 1, 1, channels, 1], 1)
        x = torch.cat([sample, source, mask, depth, told, hint * shown, shown], 1)
        drawn = super().forward(x, timestep, (encoder_hidden_states, tokens, weights),
                                added_cond_kwargs=added_cond_kwargs, return_dict=False, **stock)[0]
        alpha = alpha[:, None, None, None].float()  # half precision cannot tell rates near 1 apart
        sigma = (1 - alpha.square()).clamp_min(1e-4).sqrt()
        belief = self.gate(space) if self.gate_learns else self.gate(space).detach()
        lean = (belief + BELIEF).sigmoid() * shown * sigma
        if self.config.prediction_type == "epsilon":
            drawn = drawn - lean * (alpha * hint - sample + sigma * drawn)
            kept = (sample - alpha * source) / sigma
        else:
            drawn = drawn - lean * (hint - alpha * sample + sigma * drawn)
            kept = (alpha * sample - source) / sigma
        predicted = (mask * drawn + (1 - mask) * kept).to(sample.dtype)
        return UNet2DConditionOutput(sample=predicted) if return_dict else (predicted,)
