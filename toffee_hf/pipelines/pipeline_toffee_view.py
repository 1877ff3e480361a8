"""The View Generator: another view of an object, from one picture of it. Imports nothing of Toffee.

Shape suffixes: B batch, C latent channels, F features of a patch, P patches, H, W pixels, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
REACH = 3                             # latent cells by which an object may grow beyond its known outline when it turns


def view_region(mask_B1HW: Tensor, side: int) -> Tensor:
    """Where another view may show the object: its outline grown by REACH cells, (B, 1, side, side) of 0 and 1."""
    covered = (F.adaptive_max_pool2d(mask_B1HW, side) > 0.02).to(mask_B1HW)
    return F.max_pool2d(covered, 2 * REACH + 1, 1, REACH)


def view_features(encoder: Any, cutout_B3HW: Tensor) -> Tensor:
    """Shallow and deep patch features side by side, (B, P, 2F): how it looks, and which part it is."""
    mean, std = (cutout_B3HW.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((cutout_B3HW + 1) / 2 - mean) / std
    shallow = encoder.embeddings.patch_embeddings(pixels)
    return torch.cat([shallow, encoder(pixels).last_hidden_state[:, 1:]], -1)


def subject_patches(mask_B1HW: Tensor, side: int) -> Tensor:
    """Which patches show the object, (B, P)."""
    return F.adaptive_avg_pool2d(mask_B1HW, side).flatten(1) > 0.05


class ToffeeViewPipeline(DiffusionPipeline):
    """Draws an object from another side in the surroundings of its picture.

    vae: autoencoder; text_encoder, tokenizer: of the prompt; unet: ToffeeViewUNet; encoder: Dinov2Model; scheduler:
    DDIM of velocity.
    """

    model_cpu_offload_seq = "text_encoder->encoder->unet->vae"

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, encoder: Any, scheduler: DDIMScheduler
                 ) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, encoder=encoder,
                              scheduler=scheduler)
        self.image_processor = VaeImageProcessor(vae_scale_factor=8)

    @torch.no_grad()
    def __call__(self, prompt: str | Sequence[str], image: Tensor, mask: Tensor,
                 turn: Sequence[float] | Tensor | None = None, strength: float = 0.9, num_inference_steps: int = 2,
                 generator: torch.Generator | list[torch.Generator] | None = None, output_type: str = "pil",
                 return_dict: bool = True) -> ImagePipelineOutput | tuple[Any]:
        """New views of B objects.

        image: (B, 3, H, W) in [-1, 1]; mask: (B, 1, H, W) in [0, 1], the object; turn: radians about the vertical axis
        from the shown view to the wanted one, NaN or None to leave it open; strength: how far the known view is noised
        at the start, in (0, 1], else ValueError. output_type: pil, np, pt or latent. Surroundings beyond the object's
        reach stay as they are.
        """
        if not 0 < strength <= 1 or num_inference_steps < 1:
            raise ValueError(f"strength must be in (0, 1], num_inference_steps >= 1: {strength}, {num_inference_steps}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        latents = self.vae.encode(image).latent_dist.mode() * self.vae.config.scaling_factor
        side = latents.shape[-1]
        region = view_region(mask, side)
        turns = torch.full((len(prompts),), torch.nan) if turn is None else torch.as_tensor(turn, dtype=torch.float32)
        features = view_features(self.encoder, image * mask)
        tokens, seen = self.unet.tokens(features, subject_patches(mask, side), turns.to(latents))
        found = self._denoise(latents, region, self._text(prompts), tokens, seen, strength, num_inference_steps,
                              generator)
        images: Any = found
        if output_type != "latent":
            decoded = self.vae.decode(found / self.vae.config.scaling_factor, return_dict=False)[0]
            images = self.image_processor.postprocess(decoded, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _text(self, prompts: list[str]) -> Tensor:
        """Hidden states of the prompts, (B, N, T)."""
        ids = self.tokenizer(prompts, padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True,
                             return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self._execution_device))[0]

    def _denoise(self, known: Tensor, region: Tensor, text: Tensor, tokens: Tensor, seen: Tensor, strength: float,
                 steps: int, generator: Any) -> Tensor:
        """DDIM from the noised known view (Song et al., 2021, Eq. 12); outside the region its latents stay."""
        noise = randn_tensor(known.shape, generator=generator, device=known.device, dtype=known.dtype)
        alphas = self.scheduler.alphas_cumprod.to(known.device).sqrt()
        times = torch.linspace(int(strength * (len(alphas) - 1)), 0, steps + 1)[:-1].long().tolist()
        clean = known
        for t in self.progress_bar(times):
            alpha, sigma = alphas[t], (1 - alphas[t] ** 2).sqrt()
            x = alpha * clean + sigma * noise
            at = torch.full((len(x),), t, device=x.device)
            velocity = self.unet(x, at, text, tokens, seen, known, region)
            clean = known * (1 - region) + (alpha * x - sigma * velocity) * region
            noise = sigma * x + alpha * velocity
        return clean
