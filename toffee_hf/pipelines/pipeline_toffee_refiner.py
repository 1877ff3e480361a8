"""The Refiner: gives a draft, which obeys the prompt, the details of one particular subject. Imports nothing of Toffee.

For each patch of the draft's subject the best matching patches of the reference are found by deep features and place;
their shallow features (appearance) and latents form a grid that conditions the denoising of the noised draft. Outside
the subject the draft is kept.
Shape suffixes: B batch, C latent channels, F features of a patch, P patches, H, W pixels, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 3.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

Transfer = Literal["full", "pattern", "palette"]
TRANSFERS: tuple[Transfer, ...] = ("full", "pattern", "palette")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMINANCE = (0.299, 0.587, 0.114)
INSIDE = 0.9                          # of a mask, where a pixel is the subject's alone
BLUR_PX = 12                          # of the palette transfer, in a picture of 128 pixels
GRAIN_PX = 3                          # reach of the blur that finer structure is told from, in a picture of 128 pixels
LOOKS = ((1.0, 0.0, 0.0), (1.1, -0.5, -0.5), (1.0, 0.5, 0.5), (1.1, 0.0, 0.0))      # see `looked_at`
_NUMBER = int | float | np.number


def mask_box(mask_B1HW: Tensor, threshold: float = 0.5) -> Tensor:
    """Tight boxes (B, 4) as x0, y0, x1, y1 in [-1, 1] around a mask; the whole frame where the mask is empty."""
    inside = mask_B1HW[:, 0] > threshold
    return torch.cat([_ends(inside.any(1)), _ends(inside.any(2))], -1)[:, [0, 2, 1, 3]]


def _ends(occupied_BN: Tensor) -> Tensor:
    """First and last occupied cell of each line as edges in [-1, 1], (B, 2)."""
    n = occupied_BN.shape[-1]
    first = occupied_BN.float().argmax(-1)
    last = n - occupied_BN.flip(-1).float().argmax(-1)
    edges = torch.stack([first, last], -1).float() / n * 2 - 1
    return torch.where(occupied_BN.any(-1, keepdim=True), edges, edges.new_tensor((-1.0, 1.0)))


def box_to_box(output_B4: Tensor, source_B4: Tensor) -> Tensor:
    """The affine map (B, 2, 3) under which `warp` fills the output box with what the source box holds."""
    out_centre, out_half = (output_B4[:, :2] + output_B4[:, 2:]) / 2, (output_B4[:, 2:] - output_B4[:, :2]) / 2
    in_centre, in_half = (source_B4[:, :2] + source_B4[:, 2:]) / 2, (source_B4[:, 2:] - source_B4[:, :2]) / 2
    scale = in_half / out_half.clamp_min(1e-3)
    shift = in_centre - scale * out_centre
    zero = torch.zeros_like(scale[:, 0])
    return torch.stack([torch.stack([scale[:, 0], zero, shift[:, 0]], -1),
                        torch.stack([zero, scale[:, 1], shift[:, 1]], -1)], 1)


def warp(x_BCHW: Tensor, affine_B23: Tensor) -> Tensor:
    """Sample x where `affine` sends the output's coordinates; zero outside."""
    grid = F.affine_grid(affine_B23.float(), list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW.float(), grid, align_corners=False).to(x_BCHW)


def blurred(x: Tensor, reach: int) -> Tensor:
    """Three box blurs of 2 · (reach // 3) + 1 pixels: nearly a Gaussian."""
    r = max(1, reach // 3)
    for _ in range(3):
        x = F.avg_pool2d(F.pad(x, (r, r, r, r), mode="replicate"), 2 * r + 1, 1)
    return x


def _parts(value: float | Sequence[float], count: int, name: str) -> Tensor:
    """Parts in [0, 1], (B, 1, 1, 1), of one for all or one each; ValueError if they are not."""
    each = [value] * count if isinstance(value, _NUMBER) else list(value)
    if len(each) != count or not all(isinstance(part, _NUMBER) and 0 <= part <= 1 for part in each):
        raise ValueError(f"{name} must be in [0, 1], one for all or one for each of {count}, got {value}")
    return torch.tensor(each, dtype=torch.float32)[:, None, None, None]


def limited(reference_B3HW: Tensor, seen_B1HW: Tensor, transfer_B: Tensor) -> Tensor:
    """What of the reference its transfer allows: all of it, its luminance, or its blurred colours.

    transfer: (B,) indices into TRANSFERS.
    """
    reach = BLUR_PX * reference_B3HW.shape[-1] // 128
    grey = (reference_B3HW * reference_B3HW.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    paint = blurred(reference_B3HW * seen_B1HW, reach) / blurred(seen_B1HW, reach).clamp_min(1e-3)
    kind = transfer_B[:, None, None, None]
    return torch.where(kind == 1, grey.expand_as(reference_B3HW), torch.where(kind == 2, paint, reference_B3HW))


def encoder_pixels(x_B3HW: Tensor) -> Tensor:
    """Pictures in [-1, 1] with ImageNet's mean and deviation."""
    mean, std = (torch.cat([x_B3HW.new_full((1, 1, 1), v) for v in values]) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((x_B3HW + 1) / 2 - mean) / std


def fitted(encoder: Any, x_B3HW: Tensor, side: int) -> Tensor:
    """Pictures at the nearest smaller size at which each of the encoder's patches covers whole latent cells.

    side: of the latents. A picture whose patches are its latent cells stays as it is.
    """
    most = max(1, x_B3HW.shape[-1] // encoder.config.patch_size)
    size = max(n for n in range(1, most + 1) if side % n == 0) * encoder.config.patch_size
    if size == x_B3HW.shape[-1]:
        return x_B3HW
    return F.interpolate(x_B3HW, (size, size), mode="bilinear", align_corners=False, antialias=True)


def appearance(encoder: Any, x_B3HW: Tensor) -> Tensor:
    """Linear patch embeddings without positions, (B, F, h, w): how each patch looks, magnitude kept."""
    return encoder.embeddings.patch_embeddings.projection(encoder_pixels(x_B3HW))


def parts(encoder: Any, x_B3HW: Tensor) -> Tensor:
    """L2-normalised features of the last layer, (B, P, F): which part each patch shows."""
    tokens = encoder(encoder_pixels(x_B3HW)).last_hidden_state
    return F.normalize(tokens[:, 1:].float(), dim=-1)


def matched(draft_BPF: Tensor, reference_BPF: Tensor, seen_BP: Tensor, side: int, *, top_k: int, temperature: float,
            threshold: float, nearness: float) -> tuple[Tensor, Tensor]:
    """For each draft patch, weights over the reference's patches (B, P, P) and whether a match was found (B, P).

    Affinity is the cosine plus `nearness` · exp(-d² / 2) with d the distance in patches; softmax over the best `top_k`
    at `temperature`. Patches whose best match has a cosine under `threshold` are not found.
    """
    cosine = draft_BPF @ reference_BPF.transpose(1, 2)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    place = torch.stack([y, x], -1).flatten(0, 1).to(cosine)
    affinity = cosine + nearness * torch.exp(-torch.cdist(place, place).square() / 2)
    affinity = affinity.masked_fill(~seen_BP[:, None, :], -1e4)
    best, where = affinity.topk(top_k, dim=-1)
    weights = torch.zeros_like(affinity).scatter(-1, where, (best / temperature).softmax(-1))
    reached = cosine.masked_fill(~seen_BP[:, None, :], -1e4).gather(-1, where[..., :1]).squeeze(-1)
    return weights, (reached >= threshold) & seen_BP.any(-1, keepdim=True)


def _moved(grid_BFhw: Tensor, weights_BPQ: Tensor) -> Tensor:
    """Each cell of a grid replaced by the weighted cells that match it, (B, F, h, w)."""
    cells = grid_BFhw.flatten(2).transpose(1, 2)
    return (weights_BPQ.to(cells) @ cells).transpose(1, 2).unflatten(2, tuple(grid_BFhw.shape[-2:]))


def laid(mask_B1HW: Tensor, reference_B3HW: Tensor, reference_mask_B1HW: Tensor, placed: bool = False
         ) -> tuple[Tensor, Tensor]:
    """The reference's subject where the draft's is, by the boxes of their masks, (B, 3, H, W), and its mask there;
    as they are where the reference is `placed` already."""
    if placed:
        return reference_B3HW * reference_mask_B1HW, reference_mask_B1HW
    lay = box_to_box(mask_box(mask_B1HW), mask_box(reference_mask_B1HW))
    return warp(reference_B3HW * reference_mask_B1HW, lay), warp(reference_mask_B1HW, lay)


def inner(covered_B1HW: Tensor) -> Tensor:
    """How far inside a region each pixel lies, from 0 at its border to 1 a few pixels from it, (B, 1, H, W)."""
    reach = max(1, covered_B1HW.shape[-1] // 64)
    core = -F.max_pool2d(-covered_B1HW, 2 * reach + 1, 1, reach)
    return F.avg_pool2d(core, 2 * reach + 1, 1, reach) * covered_B1HW


@torch.no_grad()
def text_condition(models: Sequence[tuple[Any, Any]], prompts: Sequence[str], size_px: int
                   ) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Hidden states (B, N, T) of one text encoder, or those of SDXL's two with pooled embeddings and time ids.

    models: (tokenizer, text encoder) each; size_px: of the square picture, which SDXL is told.
    """
    outputs = []
    for tokenizer, encoder in models:
        ids = tokenizer(list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                        return_tensors="pt").input_ids
        outputs.append(encoder(ids.to(encoder.device), output_hidden_states=len(models) > 1))
    if len(models) == 1:
        return outputs[0][0], None
    hidden = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    sizes = torch.tensor([[size_px, size_px, 0, 0, size_px, size_px]] * len(hidden), device=hidden.device)
    return hidden, {"text_embeds": outputs[1][0], "time_ids": sizes.to(hidden)}


def looked_at(x_BCHW: Tensor, look: Sequence[float], side: int) -> Tensor:
    """Pictures or masks as a look shows them: so many times as large, about a point that lies so many latent cells
    right of and below the middle. They are reflected at their borders; side: of the latents."""
    larger, *shift = look
    return _resampled(x_BCHW, 1 / larger, [2 * cells / side for cells in shift], "reflection")


def looked_back(x_BCHW: Tensor, look: Sequence[float], side: int) -> tuple[Tensor, Tensor]:
    """What a look shows, (B, C, H, W), where it belongs, and which pixels it shows, (B, 1, H, W); see `looked_at`."""
    larger, *shift = look
    back = [-2 * cells * larger / side for cells in shift]
    return (_resampled(x_BCHW, larger, back, "reflection"),
            _resampled(torch.ones_like(x_BCHW[:, :1]), larger, back, "zeros"))


def mean_look(drawn: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean of what `looked_back` gave, each picture where its look shows it, (B, C, H, W)."""
    pictures, shown = (torch.stack(part) for part in zip(*drawn, strict=True))
    return (pictures * shown).sum(0) / shown.sum(0)


def _resampled(x_BCHW: Tensor, step: float, centre: Sequence[float], beyond: str) -> Tensor:
    """What lies at centre + step · (x, y), cubic in pictures and linear in masks; beyond the border as told."""
    if step == 1 and not any(centre):
        return x_BCHW
    x = x_BCHW.float()                # places in a large picture are finer than half precision tells
    affine = x.new_tensor([[step, 0, centre[0]], [0, step, centre[1]]]).expand(len(x), 2, 3)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    mode = "bilinear" if x.shape[1] == 1 else "bicubic"
    return F.grid_sample(x, grid, mode=mode, padding_mode=beyond, align_corners=False).to(x_BCHW)


class ToffeeRefinerPipeline(DiffusionPipeline):
    """Restores a subject's details in drafts.

    vae: autoencoder; text_encoder, tokenizer: of the prompt, with SDXL two of each; unet: ToffeeRefinerUNet; encoder:
    Dinov2Model; scheduler: any of diffusers' for the base's noise schedule.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->encoder->unet->vae"
    _optional_components = ["text_encoder_2", "tokenizer_2"]

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, encoder: Any, scheduler: Any,
                 text_encoder_2: Any = None, tokenizer_2: Any = None) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, encoder=encoder,
                              scheduler=scheduler, text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2)
        self.image_processor = VaeImageProcessor(vae_scale_factor=8)

    def save_config(self, save_directory: Any, *arguments: Any, **options: Any) -> None:
        """As in the stock class; code that came with what was loaded goes with it again, and the index names it."""
        super().save_config(save_directory, *arguments, **options)
        path, brought = Path(save_directory, self.config_name), {}
        for name, part in {"_class_name": self, **self.components}.items():
            if type(part).__module__.startswith("diffusers_modules."):
                code = Path(inspect.getfile(type(part)))
                shutil.copyfile(code, path.parent / ("" if part is self else name) / code.name)
                brought[name] = [code.stem, type(part).__name__]
        if brought:
            index = json.loads(path.read_text(encoding="utf-8")) | brought
            path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def reference_grid(self, draft_B3HW: Tensor, mask_B1HW: Tensor, reference_B3HW: Tensor, reference_mask_B1HW: Tensor,
                       transfer_B: Tensor, *, top_k: int, temperature: float, threshold: float, nearness: float,
                       cutout: bool = True, placed: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """The reference as the draft needs it: appearance (B, F, h, w), latents (B, C, h, w), known (B, 1, h, w)."""
        reference, seen = laid(mask_B1HW, reference_B3HW, reference_mask_B1HW, placed)
        given = limited(reference, seen, transfer_B) * seen
        latents = self._latents(draft_B3HW * (1 - seen) + given)
        match = draft_B3HW * mask_B1HW, reference
        if not cutout:
            lay = box_to_box(mask_box(mask_B1HW), mask_box(reference_mask_B1HW))
            match = draft_B3HW, reference_B3HW if placed else warp(reference_B3HW, lay)
        small_draft, small_reference, small_given = (
            fitted(self.encoder, x, latents.shape[-1]) for x in (*match, given))
        shallow = appearance(self.encoder, small_given)
        side, block = shallow.shape[-1], latents.shape[-1] // shallow.shape[-1]
        seen_grid = F.adaptive_avg_pool2d(seen, side)
        weights, found = matched(parts(self.encoder, small_draft), parts(self.encoder, small_reference),
                                 seen_grid.flatten(1) > 0.05, side, top_k=top_k, temperature=temperature,
                                 threshold=threshold, nearness=nearness)
        inside = F.adaptive_avg_pool2d(mask_B1HW, side) > 0.05
        known = (found.unflatten(1, (side, side)).unsqueeze(1) & inside).to(shallow)
        features = _moved(shallow, weights) * known
        moved = F.pixel_shuffle(_moved(F.pixel_unshuffle(latents, block), weights) * known, block)
        features, known = (F.interpolate(grid, scale_factor=block, mode="nearest") for grid in (features, known))
        return features, moved, known

    def _latents(self, x_B3HW: Tensor) -> Tensor:
        return self.vae.encode(x_B3HW).latent_dist.mode() * self.vae.config.scaling_factor

    @torch.no_grad()
    def __call__(self, prompt: str | Sequence[str], draft: Tensor, draft_mask: Tensor, reference: Tensor,
                 reference_mask: Tensor, transfer: Transfer | Sequence[Transfer] = "full", strength: float = 0.6,
                 num_inference_steps: int = 4, top_k: int = 4, temperature: float = 0.05, threshold: float = -1.0,
                 nearness: float = 1.0, cutout: bool = True, placed: bool = False,
                 surface: float | Sequence[float] = 0.0, grain: float | Sequence[float] = 0.0, looks: int = 1,
                 generator: torch.Generator | list[torch.Generator] | None = None,
                 draft_latents: Tensor | None = None, output_type: str = "pil", return_dict: bool = True
                 ) -> ImagePipelineOutput | tuple[Any]:
        """Refine B drafts.

        draft, reference: (B, 3, H, W) in [-1, 1]; draft_mask, reference_mask: (B, 1, H, W) in [0, 1]; transfer: what
        the subject gives, one for all or one each; strength: how far the draft is noised, in (0, 1]; threshold: cosine
        in [-1, 1] under which a patch keeps what the draft has; cutout: match subjects cut out, or whole pictures;
        placed: the reference lies where the draft shows it, instead of being laid there by the boxes of the masks;
        surface: part of the refined subject, in [0, 1], that gives way to the reference's own, sharper pixels where it
        is laid, one for all or one each: for photographs in the draft's pose; grain: part of the
        draft's finest structure, in [0, 1], that is laid over the refined subject, one for all or one each: for
        strokes, dots and blocks of a style; looks: 1 to len(LOOKS), at pictures that are moved by half a latent cell
        or a tenth larger, whose mean is what is refined (cycle spinning, Coifman and Donoho, 1995): errors that come
        of where the cells and patches lie fall out, for as many times the work; draft_latents: (B, C, h, w), saves
        encoding for the first look; output_type: pil, np, pt, or latent, which has nothing of surface and grain and
        takes one look. Raises ValueError for a strength, a number of steps, a surface, a grain, looks or a transfer
        that is not among these.
        """
        if not 0 < strength <= 1 or num_inference_steps < 1:
            raise ValueError("strength must be in (0, 1] and num_inference_steps >= 1, "
                             f"got {strength}, {num_inference_steps}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        surfaces, grains = _parts(surface, len(prompts), "surface"), _parts(grain, len(prompts), "grain")
        transfers = [transfer] * len(prompts) if isinstance(transfer, str) else list(transfer)
        if not 1 <= looks <= (1 if output_type == "latent" else len(LOOKS)):
            raise ValueError(f"looks must be in [1, {len(LOOKS)}], and 1 where latents are wanted: {looks}")
        kinds = torch.tensor([TRANSFERS.index(name) for name in transfers], device=self._execution_device)
        text, refined = self._text(prompts, draft.shape[-1]), []
        side = draft.shape[-1] // self.image_processor.config.vae_scale_factor
        shown = reference, reference_mask
        for i, look in enumerate(LOOKS[:looks]):
            if i == 1 and not placed:             # by the boxes of whole masks, which a look may cut off
                lay = box_to_box(mask_box(draft_mask), mask_box(reference_mask))
                shown = warp(reference, lay), warp(reference_mask, lay)
            x, mask, given, given_mask = (looked_at(whole, look, side) for whole in (draft, draft_mask, *shown))
            grid = self.reference_grid(x, mask, given, given_mask, kinds, top_k=top_k, temperature=temperature,
                                       threshold=threshold, nearness=nearness, cutout=cutout, placed=placed or i > 0)
            latents = self._latents(x) if draft_latents is None or i > 0 else draft_latents
            small = F.adaptive_avg_pool2d(mask, latents.shape[-1])
            keep = 1 - F.max_pool2d(small, 3, 1, 1).clamp(0, 1)
            found = self._denoise(latents, keep, text, small, grid, strength, num_inference_steps, generator)
            if output_type != "latent":
                decoded = self.vae.decode(found.to(x) / self.vae.config.scaling_factor, return_dict=False)[0]
                refined.append(looked_back(decoded, look, side))
        images: Any = found
        if refined:
            mean = mean_look(refined)
            subject, seen = laid(draft_mask, reference, reference_mask, placed)
            deep = inner(((seen > INSIDE) & (draft_mask > INSIDE)).to(mean))
            mean = mean.lerp(subject.to(mean), surfaces.to(mean) * deep)
            fine = draft - blurred(draft, GRAIN_PX * draft.shape[-1] // 128)
            mean = mean + grains.to(mean) * (fine * draft_mask).to(mean)
            images = self.image_processor.postprocess(mean, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _text(self, prompts: list[str], size_px: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Hidden states of the prompts, (B, N, T), and what SDXL is told besides."""
        models = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        return text_condition([pair for pair in models if pair[1] is not None], prompts, size_px)

    def _denoise(self, draft: Tensor, keep: Tensor, text: tuple[Tensor, dict[str, Tensor] | None], mask: Tensor,
                 grid: tuple[Tensor, Tensor, Tensor], strength: float, steps: int, generator: Any) -> Tensor:
        """DDIM (Song et al., 2021, Eq. 12) from noised draft to clean latents; where `keep` is 1, the draft stays."""
        noise = randn_tensor(draft.shape, generator=generator, device=draft.device, dtype=draft.dtype)
        alphas = self.scheduler.alphas_cumprod.to(draft.device)
        last = int(strength * (len(alphas) - 1))
        times = torch.linspace(last, 0, steps + 1)[:-1].long().tolist()
        alpha = alphas[times[0]].sqrt()
        x = alpha * draft + (1 - alpha**2).sqrt() * noise
        clean = draft
        for i, t in enumerate(self.progress_bar(times)):
            alpha = alphas[t].sqrt()
            at = torch.full((len(x),), t, device=x.device)
            clean = self.unet(x, at, text[0], draft, mask, *grid, alpha.expand(len(x)), text[1])
            clean = keep * draft + (1 - keep) * clean
            if i + 1 < len(times):
                noise = (x - alpha * clean) / (1 - alpha**2).sqrt()
                alpha = alphas[times[i + 1]].sqrt()
                x = alpha * clean + (1 - alpha**2).sqrt() * noise
        return clean
