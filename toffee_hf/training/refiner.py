"""`toffee train refiner`: a Refiner from single pictures with masks, self-supervised, on any text-to-image base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.errors import InputError
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.pipelines.pipeline_toffee_refiner import warp
from toffee_hf.training.backbone import Backbone, TextCondition, default_dtype
from toffee_hf.training.diffusion import refiner_loss
from toffee_hf.training.pictures import Picture, Prepared
from toffee_hf.training.refiner_examples import RefinerExample, Shown, examples_of
from toffee_hf.training.trainer import Captions, TrainConfig, Workshop

SHOWN_MOVED = ((0.88, 0.15, 0.0), (-0.15, 0.88, 0.0))   # of a validation grid's reference: turned, a little larger


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinerConfig(TrainConfig):
    """redrawn: share of the starts that the base has denoised once from a noised copy, as in FlowFixer (arXiv
    2602.21402); redrawn_from: their time steps."""

    redrawn: float = 0.5
    redrawn_from: tuple[int, int] = (300, 800)
    hint_channels: int = 64

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        low, high = self.redrawn_from
        if not (0 <= self.redrawn <= 1 and 0 < low < high <= 1000):
            raise InputError(f"a Refiner needs redrawn in [0, 1] and redrawn_from rising within 1..1000, got "
                             f"{self.redrawn}, {self.redrawn_from}")


def train_refiner_on(photos: Sequence[Picture], backbone: Backbone, config: RefinerConfig, folder: Path,
                     skipped: dict[str, int] | None = None, name: str = "") -> ToffeeRefinerUNet:
    """Train a Refiner on single pictures; the same call again goes on. Returns it; `folder`/refiner holds it.

    skipped: pictures that were left out before, by reason; name: of the data, for the card. Raises InputError,
    RunError.
    """
    with Workshop("refiner", folder, backbone, config) as shop:
        data = shop.prepared(photos, name=name)
        model = new_refiner(backbone, config)
        rank = shop.accelerator.process_index
        found: ToffeeRefinerUNet = shop.run(RefinerTask(model, data, backbone, config, rank), data, skipped or {})
    return found


def new_refiner(backbone: Backbone, config: RefinerConfig) -> ToffeeRefinerUNet:
    """A Refiner that starts from the base's UNet."""
    with default_dtype(backbone.unet.dtype):
        return ToffeeRefinerUNet.from_unet(backbone.unet, feature_dim=backbone.encoder.config.hidden_size,
                                           hint_channels=config.hint_channels, prediction_type=backbone.prediction)


class RefinerTask:
    """Batches and validation grids of a Refiner in training."""

    def __init__(self, model: ToffeeRefinerUNet, data: Prepared, backbone: Backbone, config: RefinerConfig,
                 rank: int = 0) -> None:
        self.model, self.data, self.backbone, self.config = model, data, backbone, config
        self.captions, self.alphas = Captions("refiner", data, backbone, config, rank), backbone.alphas

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(self.data), (self.config.batch_size,), generator=generator)
        image = self.data.images(index)
        shown, text = Shown(image, image, self.data.masks(index)), self.captions(index, step)
        example, transfer = examples_of(shown, self.backbone.encode(image), self.backbone.encode,
                                        self.backbone.encoder, generator)
        example = self._redrawn(example, transfer, text, generator)
        return refiner_loss(self.model, example, (text.hidden, text.added), self.alphas, generator)

    @torch.no_grad()
    def _redrawn(self, example: RefinerExample, transfer: Tensor, text: TextCondition, generator: torch.Generator
                 ) -> RefinerExample:
        """With the subject of some drafts as the base draws it in one step from the noised picture."""
        clean, config = example.clean, self.config
        chosen = (torch.rand(len(clean), generator=generator) < config.redrawn) & (transfer == 0)
        t = torch.randint(*config.redrawn_from, (len(clean),), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        if not chosen.any():
            return example
        alpha = self.alphas[t].sqrt()[:, None, None, None]
        sigma = (1 - alpha**2).sqrt()
        noisy = alpha * clean + sigma * noise
        found = self.backbone.unet(noisy, t, encoder_hidden_states=text.hidden, added_cond_kwargs=text.added,
                                   return_dict=False)[0].float()
        epsilon = self.backbone.prediction == "epsilon"
        drawn = (noisy - sigma * found) / alpha if epsilon else alpha * noisy - sigma * found
        inside = F.max_pool2d(example.mask, 3, 1, 1)
        draft = torch.where(chosen[:, None, None, None], inside * drawn + (1 - inside) * clean, example.draft)
        return replace(example, draft=draft)

    def grid(self, model: Any, rows: Tensor) -> list[Tensor]:
        """Draft, reference, refined, truth."""
        image, mask = self.data.images(rows), self.data.masks(rows)
        generator = torch.Generator(rows.device).manual_seed(self.config.seed)
        with torch.device(rows.device):
            example, _ = examples_of(Shown(image, image, mask), self.backbone.encode(image), self.backbone.encode,
                                     self.backbone.encoder, generator)
        draft = self.backbone.decode(example.draft)
        moved = image.new_tensor(SHOWN_MOVED).expand(len(image), 2, 3)
        reference, seen = warp(image, moved), warp(mask, moved)
        refined = self.backbone.refiner_pipeline(model)(
            [self.data.prompt(i) for i in rows.tolist()], draft, mask, reference, seen, generator=generator,
            output_type="latent").images
        return [draft, reference * seen, self.backbone.decode(refined), image]
