"""Names what a toy picture shows: its scene, its style and the class of its subject. Imports nothing else of Toffee.

A yardstick of evaluation, trained on true renders only; no stage of a recipe and no rule asks it.
Shape suffixes: B batch, C channels, H, W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.norm(self.first(F.silu(x)))))


class ToffeeClassifier(ModelMixin, ConfigMixin):
    """Pictures (B, 3, H, W) in [-1, 1] to one logit vector a question; H and W must be multiples of 16.

    questions: how many answers each question has, by the question's name and in the answers' order.
    """

    @register_to_config
    def __init__(self, questions: dict[str, list[str]], widths: tuple[int, int, int] = (40, 72, 112)) -> None:
        super().__init__()
        a, b, c = widths
        self.levels = nn.ModuleList([
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, a, 3, stride=2, padding=1), _Residual(a)),
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), _Residual(b), _Residual(b)),
            nn.Sequential(nn.Conv2d(b, c, 3, stride=2, padding=1), _Residual(c), _Residual(c))])
        self.heads = nn.ModuleDict({name: nn.Linear(2 * (a + b + c), len(answers))
                                    for name, answers in questions.items()})

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        """Logits (B, answers) for each question."""
        found, pooled = pixels_BCHW, []
        for level in self.levels:
            found = level(found)
            seen = F.silu(found)
            pooled += [seen.mean((2, 3)), seen.amax((2, 3))]
        return {name: head(torch.cat(pooled, -1)) for name, head in self.heads.items()}

    @torch.no_grad()
    def answers(self, pixels_BCHW: Tensor) -> dict[str, list[str]]:
        """The likeliest answer to each question, B of them."""
        names = self.config.questions
        return {name: [names[name][i] for i in logits.argmax(-1).tolist()]
                for name, logits in self(pixels_BCHW).items()}
