"""What a family knows: statistics of the patch encoder over its training pictures.

Imports nothing else of Toffee. B batch, D features.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

RIDGE = 1e-4                          # added to the covariance, as a part of its mean variance


class ToffeeDomain(ModelMixin, ConfigMixin):
    """Tells how far a picture's class token lies from those of the pictures that the family was trained on.

    Also holds `patch_means` (2, D), the features of an average subject's patch in the encoder's first and last layer.
    """

    @register_to_config
    def __init__(self, features: int = 192) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))
        self.register_buffer("patch_means", torch.zeros(2, features))

    @classmethod
    def fitted(cls, tokens_BD: Tensor) -> ToffeeDomain:
        """The Gaussian of class tokens; B should be several times D."""
        model = cls(tokens_BD.shape[1])
        covariance = torch.cov(tokens_BD.double().T)
        covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
        values, vectors = torch.linalg.eigh(covariance)
        model.mean.copy_(tokens_BD.mean(0))
        model.whitening.copy_(vectors / values.sqrt())
        return model

    def forward(self, tokens_BD: Tensor) -> Tensor:
        """1 - half the mean squared Mahalanobis distance per feature, in [-1, 1], (B,): about 0.5 if known."""
        whitened = (tokens_BD - self.mean) @ self.whitening
        return (1 - whitened.square().mean(-1) / 2).clamp(-1, 1)
