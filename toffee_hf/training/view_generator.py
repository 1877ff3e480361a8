"""`toffee train view-generator`: a View Generator from objects with several views, on any text-to-image base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.training.backbone import Backbone, default_dtype
from toffee_hf.training.diffusion import view_loss
from toffee_hf.training.multiview import drawn_pairs, put_in_place, turns
from toffee_hf.training.pictures import Picture, Prepared
from toffee_hf.training.trainer import Captions, TrainConfig, Workshop
from toffee_hf.training.view_examples import TwoViews, examples_of_views


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig(TrainConfig):
    """same_place: the views of an object share their surroundings, as in the toy world."""

    same_place: bool = False


def train_view_on(views: Sequence[Picture], backbone: Backbone, config: ViewConfig, folder: Path,
                  skipped: dict[str, int] | None = None, name: str = "") -> ToffeeViewUNet:
    """Train a View Generator on pictures of which several share a `thing`; the same call again goes on.

    Returns it; `folder`/view holds it. skipped: pictures that were left out before, by reason; name: of the data, for
    the card. Raises InputError, RunError.
    """
    with Workshop("view", folder, backbone, config) as shop:
        data = shop.prepared(views, views=2, name=name)
        model = new_view_generator(backbone, data.size_px)
        rank = shop.accelerator.process_index
        found: ToffeeViewUNet = shop.run(ViewTask(model, data, backbone, config, rank), data, skipped or {})
    return found


def new_view_generator(backbone: Backbone, size_px: int) -> ToffeeViewUNet:
    """A View Generator for pictures of this size that starts from the base's UNet."""
    with default_dtype(backbone.unet.dtype):
        return ToffeeViewUNet.from_unet(backbone.unet, feature_dim=2 * backbone.encoder.config.hidden_size,
                                        patches=backbone.patch_side(size_px) ** 2, prediction_type=backbone.prediction)


class ViewTask:
    """Batches and validation grids of a View Generator in training."""

    def __init__(self, model: ToffeeViewUNet, data: Prepared, backbone: Backbone, config: ViewConfig, rank: int = 0
                 ) -> None:
        self.model, self.data, self.backbone, self.config = model, data, backbone, config
        self.captions, self.alphas = Captions("view", data, backbone, config, rank), backbone.alphas

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        shown, wanted = drawn_pairs(self.data, self.config.batch_size, generator)
        views, truth = self._views(shown, wanted)
        known, clean = self.backbone.encode(torch.cat([views.photo, truth])).chunk(2)
        example = examples_of_views(views, known, clean, self.backbone.encode, self.backbone.encoder, generator)
        text = self.captions(wanted, step)
        inside = F.adaptive_avg_pool2d(views.wanted_mask, clean.shape[-1])
        return view_loss(self.model, example, (text.hidden, text.added), inside, self.alphas, generator)

    def _views(self, shown: Tensor, wanted: Tensor) -> tuple[TwoViews, Tensor]:
        """Pairs of views in the same surroundings, and the wanted pictures (B, 3, H, W)."""
        photo, mask = self.data.images(shown), self.data.masks(shown)
        truth, truth_mask = self.data.images(wanted), self.data.masks(wanted)
        if not self.config.same_place:
            photo, mask = put_in_place(photo, mask, truth, truth_mask)
        return TwoViews(photo, mask, truth_mask, turns(self.data, shown, wanted)), truth

    def grid(self, model: Any, rows: Tensor) -> list[Tensor]:
        """The shown view in place, the new view, the truth."""
        generator = torch.Generator(rows.device).manual_seed(self.config.seed)
        with torch.device(rows.device):
            shown, wanted = drawn_pairs(self.data, len(rows), generator)
            views, truth = self._views(shown, wanted)
        latents = self.backbone.view_pipeline(model)(
            [self.data.prompt(i) for i in wanted.tolist()], views.photo, views.mask, views.turn, num_inference_steps=4,
            generator=generator, output_type="latent").images
        return [views.photo, self.backbone.decode(latents), truth]
