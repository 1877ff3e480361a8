"""Toffee's editor: particular subjects in new pictures, or inside a mask of a given picture. Imports nothing of Toffee.

A subject enters three ways: as tokens of its patches, attended to beside the text; as its own latents, laid where it is
to appear; and through the depth of the pose that is wanted. `subject_scale` weighs the first two (λ of the paper).
Shape suffixes: B batch, S subjects of a picture, C latent channels, F features of a patch, P patches, R side of a
subject's picture, H, W pixels, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 4 (ToffeeNet).
"""

from __future__ import annotations

import inspect
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

logger = logging.get_logger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GROUND = (232, 232, 232)              # behind transparent pictures
MARGIN = 0.08                         # of half the frame: how much wider than its subject a mask to edit is, each side
STRETCH = 1.25                        # by which a subject may be made wider or narrower to fill its place
FEATHER = 1 / 40                      # of the picture's shorter side: width of the seam inside the mask
SEAM_PX = 256                         # shorter side at which the seam of larger pictures is worked out
LIKE, LIKE_WITHIN = 0.3, 1 / 20       # difference of blurred pixels in [-1, 1], and reach of the blur in the shorter
DEEP = 1 / 40                         # side, by which a drawing still shows the subject as it was laid; so deep inside
OUTPUTS = ("pil", "np", "pt", "latent")
NO_NOISE, MOST_NOISE = 0.2, 1e4       # over signal: what is left when all is drawn; from where second order is unstable
_WHOLE = int | np.integer
_NUMBER = int | float | np.number


@dataclass(frozen=True, slots=True)
class _Subjects:
    """x (B, S, 3, R, R) in [-1, 1]; mask (B, S, 1, R, R) in [0, 1]; region (B, S, 1, H, W) of 0 and 1, where each may
    appear, or None: anywhere."""

    x: Tensor
    mask: Tensor
    region: Tensor | None


class _Text(NamedTuple):
    """Hidden states (B, N, T) of prompts and negative prompts; pooled (B, D) where the UNet is SDXL's."""

    wanted: Tensor
    unwanted: Tensor | None
    pooled: Tensor | None = None
    unwanted_pooled: Tensor | None = None


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


def placed(place_B4: Tensor, subject_B4: Tensor, width_px: int, height_px: int) -> Tensor:
    """The box (B, 4) that a subject fills in its place: stretched by at most STRETCH, resting on the place's ground.

    place: in a picture of width × height pixels; subject: in a square picture.
    """
    size = place_B4.new_tensor((width_px, height_px))
    room = (place_B4[:, 2:] - place_B4[:, :2]) * size
    scale = room / (subject_B4[:, 2:] - subject_B4[:, :2]).clamp_min(1e-3)
    alike = scale.amax(1, keepdim=True) <= STRETCH * scale.amin(1, keepdim=True)
    filled = torch.where(alike, scale, scale.amin(1, keepdim=True)) * (subject_B4[:, 2:] - subject_B4[:, :2]) / size
    middle, ground = (place_B4[:, 0] + place_B4[:, 2]) / 2, place_B4[:, 3]
    return torch.stack([middle - filled[:, 0] / 2, ground - filled[:, 1], middle + filled[:, 0] / 2, ground], 1)


def laid(x_BCRR: Tensor, output_B4: Tensor, source_B4: Tensor, height_px: int, width_px: int) -> Tensor:
    """What the source box holds, laid into the output box of an otherwise empty picture, (B, C, H, W)."""
    out_half, in_half = (output_B4[:, 2:] - output_B4[:, :2]) / 2, (source_B4[:, 2:] - source_B4[:, :2]) / 2
    scale = in_half / out_half.clamp_min(1e-3)
    shift = (source_B4[:, :2] + source_B4[:, 2:]) / 2 - scale * (output_B4[:, :2] + output_B4[:, 2:]) / 2
    zero = torch.zeros_like(scale[:, 0])
    affine = torch.stack([torch.stack([scale[:, 0], zero, shift[:, 0]], -1),
                          torch.stack([zero, scale[:, 1], shift[:, 1]], -1)], 1).to(x_BCRR)
    grid = F.affine_grid(affine, [len(x_BCRR), x_BCRR.shape[1], height_px, width_px], align_corners=False)
    return F.grid_sample(x_BCRR, grid, align_corners=False)


def surroundings(image_B3HW: Tensor, gone_B1HW: Tensor) -> Tensor:
    """What lies around a hole, drawn into it from coarse to fine, (B, 3, H, W); grey where all is gone."""
    rest = 1 - gone_B1HW
    fill = (image_B3HW * rest).mean((2, 3), keepdim=True) / rest.mean((2, 3), keepdim=True).clamp_min(1e-3)
    for cells in (2, 4, 8, 16, 32):
        share = F.adaptive_avg_pool2d(rest, cells)
        seen = F.adaptive_avg_pool2d(image_B3HW * rest, cells) / share.clamp_min(1e-3)
        fill = F.interpolate(fill, size=(cells, cells), mode="bilinear", align_corners=False).lerp(seen, share)
    return F.interpolate(fill, size=image_B3HW.shape[-2:], mode="bilinear", align_corners=False)


def scaled_depth(depth_B1HW: Tensor) -> Tensor:
    """Depth in [0.3, 1] from the farthest to the nearest that is told, 0 where it is 0, (B, 1, H, W)."""
    told = depth_B1HW > 0.02
    near = torch.where(told, depth_B1HW, depth_B1HW.new_tensor(-1.0)).amax((2, 3), keepdim=True)
    far = torch.where(told, depth_B1HW, depth_B1HW.new_tensor(2.0)).amin((2, 3), keepdim=True)
    return (0.3 + 0.7 * (depth_B1HW - far) / (near - far).clamp_min(1e-3)).clamp(0, 1) * told


def subject_features(encoder: Any, cutout_B3RR: Tensor, patches: int) -> Tensor:
    """Shallow and deep features of `patches` patches side by side, (B, P, 2F): how each looks, and which part it is."""
    size = math.isqrt(patches) * encoder.config.patch_size
    mean, std = (cutout_B3RR.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    if cutout_B3RR.shape[-1] != size:
        cutout_B3RR = F.interpolate(cutout_B3RR, (size, size), mode="bilinear", align_corners=False, antialias=True)
    shallow: list[Tensor] = []        # heard while the encoder runs: offloaded, it is not at hand before and after
    with encoder.embeddings.patch_embeddings.register_forward_hook(lambda *call: shallow.append(call[-1])):
        deep = encoder(((cutout_B3RR + 1) / 2 - mean) / std).last_hidden_state[:, -patches:]
    return torch.cat([*shallow, deep], -1)


def places(mask_B1HW: Tensor, depth_B1HW: Tensor | None, region_B1HW: Tensor | None, subject_mask_B1RR: Tensor
           ) -> Tensor:
    """Where a subject is laid, (B, 4): into its region, the mask to edit, the depth's outline, or where it was."""
    height, width = mask_B1HW.shape[-2:]
    own = mask_box(subject_mask_B1RR)
    square = own.new_tensor((min(1.0, height / width), min(1.0, width / height)))
    place = own * torch.cat([square, square])
    if depth_B1HW is not None:
        cut_out = (depth_B1HW > 0).float().mean((1, 2, 3)) < 0.8
        told = (depth_B1HW > 0).flatten(1).any(1)
        place = torch.where((cut_out & told)[:, None], placed(mask_box(depth_B1HW, 0.0), own, width, height), place)
    to_edit = mask_B1HW if region_B1HW is None else region_B1HW
    inner = mask_box(to_edit) + own.new_tensor((MARGIN, MARGIN, -MARGIN, -MARGIN))
    narrow = (inner[:, 2:] - inner[:, :2]).amin(1) < 2 * MARGIN
    inner = torch.where(narrow[:, None], mask_box(to_edit), inner)
    part = to_edit.mean((1, 2, 3)) < 0.95
    return torch.where(part[:, None], placed(inner, own, width, height), place)


def conditions(encode: Callable[[Tensor], Tensor], source_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor | None,
               subjects: Any, block: int) -> Tensor:
    """What the denoiser sees beside the noisy latents, (B, 2C + 4, h, w); see ToffeeEditorUNet.forward.

    encode: pictures to latents; source: what surrounds the mask; mask: 1 where to draw; depth: see `scaled_depth`, None
    where it is not told, all 0 in a picture of the batch where it is not; subjects: x, mask and region as in _Subjects;
    block: pixels of a latent cell's side.
    """
    height, width = mask_B1HW.shape[-2:]
    gone = (mask_B1HW > 0.5).to(source_B3HW)
    picture = source_B3HW * (1 - gone) + surroundings(source_B3HW, gone) * gone
    laid_B3HW, shown = with_subjects(picture, mask_B1HW, depth_B1HW, subjects)
    depth = torch.zeros_like(mask_B1HW) if depth_B1HW is None else depth_B1HW
    told = depth.flatten(1).any(1).to(depth)[:, None, None, None].expand(-1, 1, height // block, width // block)
    source = encode(picture)
    cells = (F.max_pool2d(gone, block) > 0).to(source)
    return torch.cat([source, cells, F.avg_pool2d(depth, block).to(source), told.to(source), encode(laid_B3HW),
                      F.avg_pool2d(shown, block).to(source)], 1)


def with_subjects(picture_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor | None, subjects: Any
                  ) -> tuple[Tensor, Tensor]:
    """The picture with the subjects laid where they are to appear, and how much of each pixel is theirs, (B, 1, H, W).

    The other arguments are those of `conditions`.
    """
    height, width = mask_B1HW.shape[-2:]
    picture, shown = picture_B3HW, torch.zeros_like(mask_B1HW)
    for s in range(subjects.x.shape[1]):
        x, mask = subjects.x[:, s], subjects.mask[:, s]
        region = None if subjects.region is None else subjects.region[:, s]
        place = places(mask_B1HW, depth_B1HW, region, mask)
        layer = laid(torch.cat([x * mask, mask], 1), place, mask_box(mask), height, width)
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
        shown = torch.maximum(shown, layer[:, 3:])
    return picture, shown


def surfaced(drawn_B3HW: Tensor, laid_B3HW: Tensor, shown_B1HW: Tensor, part: float) -> Tensor:
    """What was drawn, in [-1, 1], with a part of the laid subjects' own pixels where they still look alike once both
    are blurred: deep inside what they show, and less the more style, light, colour or pose differ."""
    side = min(drawn_B3HW.shape[-2:])
    drawn = drawn_B3HW.float()
    own, seen = laid_B3HW.to(drawn), shown_B1HW.to(drawn)
    deep = (2 * _near(seen, max(1, round(DEEP * side))) - 1).clamp(0, 1) * seen
    reach = max(1, round(LIKE_WITHIN * side))
    apart = _near((drawn - own) * seen, reach) / _near(seen, reach).clamp_min(1e-3)
    alike = torch.exp(-apart.square().mean(1, keepdim=True) / LIKE**2)
    return drawn.lerp(own, part * alike * deep).to(drawn_B3HW)


def _near(x: Tensor, reach: int) -> Tensor:
    """Mean over the pixels within reach of each side; beyond the frame it goes on as at its edge."""
    rows = F.avg_pool2d(F.pad(x, [reach] * 4, mode="replicate"), (2 * reach + 1, 1), 1)
    return F.avg_pool2d(rows, (1, 2 * reach + 1), 1)


class ToffeePipeline(DiffusionPipeline, TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin):
    """Draws given subjects as a prompt says, in a new picture or inside a mask of a picture.

    vae: autoencoder; text_encoder, tokenizer: of the prompt, with SDXL two of each; unet: ToffeeEditorUNet; encoder:
    Dinov2Model; scheduler: any of diffusers' for the base's noise schedule; depth_estimator: a Depth Anything, for
    `pose_image`, or None.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->encoder->depth_estimator->unet->vae"
    _optional_components = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "depth_estimator"]
    _callback_tensor_inputs = ["latents", "prompt_embeds", "add_text_embeds", "add_time_ids"]

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, encoder: Any, scheduler: Any,
                 depth_estimator: Any = None, text_encoder_2: Any = None, tokenizer_2: Any = None) -> None:
        super().__init__()
        if scheduler is not None and "clip_sample" not in scheduler.config:     # else DDIM made of it by from_config
            scheduler.register_to_config(clip_sample=False)                     # would cut latents off
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, encoder=encoder,
                              scheduler=scheduler, depth_estimator=depth_estimator, text_encoder_2=text_encoder_2,
                              tokenizer_2=tokenizer_2)
        channels = getattr(vae.config, "block_out_channels", None) if vae is not None else None
        self.vae_scale_factor = 2 ** (len(channels) - 1) if channels else 8
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @property
    def guidance_scale(self) -> float:
        """How far the prompt is exaggerated; 1: not at all."""
        return self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """How far the guided prediction is brought back to the spread of the unguided one."""
        return self._guidance_rescale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether negative prompts count."""
        return self._guidance_scale > 1

    @property
    def _is_sdxl(self) -> bool:
        """Whether the UNet is told a pooled state beside the text."""
        return bool(self.unet.config.addition_embed_type == "text_time")

    @property
    def num_timesteps(self) -> int:
        """Steps of the running call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to stop."""
        return self._interrupt

    @property
    def default_size_px(self) -> int:
        """Side of the square pictures that the UNet was trained on."""
        return int(self.unet.config.sample_size * self.vae_scale_factor)

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

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: Any, **options: Any) -> Any:
        """As in the stock class, from safetensors only. Raises ValueError for a LoRA of SDXL's second text encoder."""
        source = pretrained_model_name_or_path_or_dict
        found = super().lora_state_dict(source, **_no_pickle(source, options))
        if any(name.startswith("text_encoder_2.") for name in (found[0] if isinstance(found, tuple) else found)):
            raise ValueError("this LoRA is of text_encoder_2 too, which the editor does not adapt: leave its "
                             "text_encoder_2 weights out")
        return found

    def load_textual_inversion(self, pretrained_model_name_or_path: Any, *arguments: Any, **options: Any) -> None:
        """As in the stock class, from safetensors only."""
        source = pretrained_model_name_or_path
        super().load_textual_inversion(source, *arguments, **_no_pickle(source, options))

    @torch.no_grad()
    def __call__(
        self, prompt: str | list[str] | None = None, subject_image: Any = None, subject_mask: Any = None,
        image: Any = None, mask_image: Any = None, depth_image: Any = None, pose_image: Any = None,
        subject_regions: Any = None, subject_scale: float = 1.0, height: int | None = None, width: int | None = None,
        num_inference_steps: int = 20, guidance_scale: float = 2.0, negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1, eta: float = 0.0, guidance_rescale: float = 0.7, surface: float = 0.5,
        generator: torch.Generator | list[torch.Generator] | None = None, latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None, negative_pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil", return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Pictures of subjects.

        prompt: one or several, with the subject's class word. subject_image: one picture for all prompts; a list of one
        for each prompt; or, for several subjects in a picture, a list of lists (for one prompt, a list). subject_mask:
        in the same form, white where the subject is; without it transparency counts, else the whole picture is the
        subject. image, mask_image: a picture to edit and, white, where; every other pixel stays, and so does the size.
        depth_image: near is white, black is untold: the pose to follow; pose_image: a picture whose depth is estimated
        instead. subject_regions: for several subjects, a mask each. subject_scale: λ, at least 0, weighs subjects
        against the text. height, width: to draw in; by default in the edited picture's shape, or the UNet's own.
        guidance_scale: how far the prompt is exaggerated; up to 1 not at all, in half the time; guidance_rescale: how
        far the spread that this adds is taken back, in [0, 1]. surface: part of a drawn subject, in [0, 1], that gives
        way to its own, sharper pixels where it is drawn much as they are, times subject_scale up to 1; 0 for a model
        that draws fine details itself. latents: (B, C, h, w), noise to start from. output_type: pil, np, pt or latent;
        latents are those of the whole picture, without the pixels of `image` and of surfaces. Pictures are PIL, arrays
        (H, W, 3) or tensors (3, H, W) or batches of these, in [0, 1] unless 8 bit.
        Raises ValueError, in one sentence, for anything that does not fit together.
        """
        self._check(subject_image, image, mask_image, depth_image, pose_image, output_type)
        self._check_numbers(subject_scale, guidance_scale, guidance_rescale, num_inference_steps, num_images_per_prompt,
                            eta, surface, height, width)
        tensor_inputs = self._callback_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self._guidance_scale, self._guidance_rescale, self._interrupt = guidance_scale, guidance_rescale, False
        count, each = self._count(prompt, prompt_embeds), num_images_per_prompt
        device, dtype = self._execution_device, self.unet.dtype

        given = None if image is None else self._to_edit(image, mask_image, count)
        height, width = self._size(height, width, given)
        source, mask = (x.to(device) for x in self._canvas(given, count, height, width))
        subjects = self._subjects(subject_image, subject_mask, subject_regions, count, height, width)
        subjects = _Subjects(subjects.x.to(device), subjects.mask.to(device),
                             None if subjects.region is None else subjects.region.to(device))
        depth = self._depth(depth_image, pose_image, count, height, width)

        text = _Text(*self.encode_prompt(
            prompt, num_images_per_prompt=each, do_classifier_free_guidance=self.do_classifier_free_guidance,
            negative_prompt=negative_prompt, prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds,
            pooled_prompt_embeds=pooled_prompt_embeds, negative_pooled_prompt_embeds=negative_pooled_prompt_embeds))
        with self._enough_range():
            space = conditions(self._encode, source, mask, depth, subjects, self.vae_scale_factor)
        space[:, -1:] = (space[:, -1:] * subject_scale).clamp(max=1)
        told = {**self.told(subjects, space.shape[-2:], subject_scale), "space": space}
        told = {name: x.to(dtype).repeat_interleave(each, 0) for name, x in told.items()}
        latents = self.prepare_latents(count * each, height, width, dtype, device, generator, latents)
        latents = self._denoise(latents, text, told, num_inference_steps, eta, generator, (height, width),
                                callback_on_step_end, tensor_inputs)
        images: Any = latents
        if output_type != "latent":
            own = with_subjects(source, mask, depth, subjects)
            images = self._pictures(latents, own, surface * min(1.0, subject_scale), given, each)
            images = self.image_processor.postprocess(images, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    # --- what is asked --------------------------------------------------------------------------------------------

    def _check(self, subject: Any, image: Any, mask: Any, depth: Any, pose: Any, output_type: str) -> None:
        told = self.scheduler.config
        predicts, drawn_for = self.unet.config.prediction_type, told.get("prediction_type")
        for wrong, sentence in (
            (subject is None, "subject_image is missing: give at least one picture of the subject"),
            ((image is None) != (mask is None), "image and mask_image go together: the mask is white where to draw"),
            (depth is not None and pose is not None, "give either depth_image or pose_image"),
            (pose is not None and self.depth_estimator is None,
             "pose_image needs a depth_estimator, which this pipeline lacks: give depth_image"),
            (output_type not in OUTPUTS, f"output_type must be one of {', '.join(OUTPUTS)}, got {output_type!r}"),
            (not hasattr(self.scheduler, "alphas_cumprod") or predicts != drawn_for,
             f"the UNet predicts {predicts} of a diffusion, which {type(self.scheduler).__name__} is not set up for: "
             f"make Euler, DPM++ or DDIM by from_config(pipe.scheduler.config, prediction_type={predicts!r})"),
            (told.get("use_flow_sigmas"), "use_flow_sigmas is for flow models: make the scheduler with "
             "use_flow_sigmas=False"),
            (told.get("timestep_type") == "continuous", "the UNet was trained on whole steps: make the scheduler with "
             "timestep_type='discrete'"),
            (told.get("clip_sample"), "clip_sample cuts latents off: make the scheduler with clip_sample=False"),
        ):
            if wrong:
                raise ValueError(sentence)

    def _check_numbers(self, scale: Any, guidance: Any, rescale: Any, steps: Any, each: Any, eta: Any, surface: Any,
                       height: Any, width: Any) -> None:
        multiple = self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        sides = [side for side in (height, width) if side is not None]
        for right, sentence in (
            (isinstance(scale, _NUMBER) and 0 <= scale <= 2, f"subject_scale must be in [0, 2], got {scale!r}"),
            (isinstance(guidance, _NUMBER) and math.isfinite(guidance),
             f"guidance_scale must be a number, got {guidance}"),
            (isinstance(rescale, _NUMBER) and 0 <= rescale <= 1,
             f"guidance_rescale must be in [0, 1], got {rescale!r:.80}"),
            (isinstance(eta, _NUMBER) and 0 <= eta <= 1, f"eta must be in [0, 1], got {eta!r:.80}"),
            (isinstance(surface, _NUMBER) and 0 <= surface <= 1, f"surface must be in [0, 1], got {surface!r:.80}"),
            (isinstance(steps, _WHOLE) and steps > 0, f"num_inference_steps must be at least 1, got {steps}"),
            (isinstance(each, _WHOLE) and each > 0, f"num_images_per_prompt must be at least 1, got {each}"),
            (all(isinstance(side, _WHOLE) and side > 0 and side % multiple == 0 for side in sides),
             f"height and width must be multiples of {multiple}, got {height}, {width}"),
        ):
            if not right:
                raise ValueError(sentence)

    def _callback_inputs(self, callback: Any, named: Sequence[str]) -> Sequence[str]:
        """What a callback is shown: what it names itself, or what is named for it."""
        if callback is not None and not callable(callback):
            raise ValueError(f"callback_on_step_end must be a function or None, got {callback!r:.80}")
        inputs: Sequence[str] = getattr(callback, "tensor_inputs", named)
        if not set(inputs) <= set(self._callback_tensor_inputs):
            raise ValueError(f"callback_on_step_end_tensor_inputs must be out of {self._callback_tensor_inputs}, got "
                             f"{inputs}")
        return inputs

    def _count(self, prompt: Any, embeds: Any) -> int:
        """How many prompts there are."""
        if (prompt is None) == (embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        width = self.unet.config.cross_attention_dim
        if embeds is not None and not (isinstance(embeds, Tensor) and embeds.ndim == 3 and embeds.shape[2] == width):
            raise ValueError(f"prompt_embeds must be a tensor of hidden states (B, N, {width}), got "
                             f"{tuple(np.shape(embeds))}")
        return len(embeds) if embeds is not None else len(_texts(prompt, "prompt"))

    def _to_edit(self, image: Any, mask_image: Any, count: int) -> tuple[Tensor, Tensor]:
        """The picture to edit (B, 3, H, W) in [-1, 1] and its mask (B, 1, H, W) of 0 and 1, in its own size."""
        source, mask = _pixels(image, "image")[0], _planes(mask_image, "mask_image")
        if source.shape[-2:] != mask.shape[-2:]:
            raise ValueError(f"mask_image is {mask.shape[-1]}x{mask.shape[-2]} and image {source.shape[-1]}x"
                             f"{source.shape[-2]}: give them the same size")
        mask = (mask > 0.5).float()
        if not mask.flatten(1).any(1).all():
            raise ValueError("mask_image is black all over: paint white (1, or 255 in 8 bit) where to draw")
        return _for_all(source * 2 - 1, count, "image"), _for_all(mask, count, "mask_image")

    def _size(self, height: int | None, width: int | None, given: tuple[Tensor, Tensor] | None) -> tuple[int, int]:
        """The size to work in: as asked, or that of the edited picture at about the UNet's own area."""
        side = self.default_size_px
        if given is None or (height and width):
            return height or side, width or side
        multiple = self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        aspect = math.sqrt(given[0].shape[-2] / given[0].shape[-1])
        fitting = [max(multiple, round(side * x / multiple) * multiple) for x in (aspect, 1 / aspect)]
        return height or fitting[0], width or fitting[1]

    def _canvas(self, given: tuple[Tensor, Tensor] | None, count: int, height: int, width: int
                ) -> tuple[Tensor, Tensor]:
        """Surroundings and mask in the size to work in; all to be drawn where nothing is given."""
        if given is None:
            return torch.zeros(count, 3, height, width), torch.ones(count, 1, height, width)
        if given[0].shape[-2:] == (height, width):
            return given
        source = F.interpolate(given[0], (height, width), mode="bilinear", align_corners=False, antialias=True)
        return source.clamp(-1, 1), F.adaptive_max_pool2d(given[1], (height, width))

    def _subjects(self, images: Any, masks: Any, regions: Any, count: int, height: int, width: int) -> _Subjects:
        """The subjects of each picture, squared."""
        pictures = _nested(images, count, "subject_image")
        outlines = [[None] * len(row) for row in pictures] if masks is None else _nested(masks, count, "subject_mask")
        if [len(row) for row in outlines] != [len(row) for row in pictures]:
            raise ValueError("subject_mask must have the form of subject_image: one mask for each picture")
        if len({len(row) for row in pictures}) != 1 or not pictures[0]:
            raise ValueError("every prompt needs the same number of subjects, at least one")
        pairs = [[_square(picture, outline, self.default_size_px) for picture, outline in zip(row, line, strict=True)]
                 for row, line in zip(pictures, outlines, strict=True)]
        x = torch.stack([torch.stack([pair[0] for pair in row]) for row in pairs])
        mask = torch.stack([torch.stack([pair[1] for pair in row]) for row in pairs])
        if regions is None:
            return _Subjects(x, mask, None)
        rows = _nested(regions, count, "subject_regions")
        if any(len(row) != x.shape[1] for row in rows):
            raise ValueError(f"subject_regions needs a mask for each of the {x.shape[1]} subjects")
        region = torch.stack([torch.stack([
            F.adaptive_max_pool2d((_planes(plane, "subject_regions") > 0.5).float(), (height, width))[0]
            for plane in row]) for row in rows])
        if not region.flatten(2).any(2).all():
            raise ValueError("a mask of subject_regions is black all over: paint white where its subject may appear")
        return _Subjects(x, mask, region)

    def _depth(self, depth_image: Any, pose_image: Any, count: int, height: int, width: int) -> Tensor | None:
        """The depth to follow, scaled, or None."""
        device = self._execution_device
        if depth_image is None and pose_image is None:
            return None
        if depth_image is not None:
            depth = _planes(depth_image, "depth_image")
        else:
            side = self.depth_estimator.config.backbone_config.image_size       # that it learnt at
            pose = F.interpolate(_pixels(pose_image, "pose_image")[0], (side, side), mode="bilinear", antialias=True)
            mean, std = (pose.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
            pixels = ((pose - mean) / std).to(device, self.depth_estimator.dtype)
            depth = self.depth_estimator(pixel_values=pixels).predicted_depth.unsqueeze(1).float()
            depth = depth / depth.amax((2, 3), keepdim=True).clamp_min(1e-3)
        depth = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
        return scaled_depth(_for_all(depth, count, "pose_image" if depth_image is None else "depth_image")).to(device)

    # --- what the models are told ---------------------------------------------------------------------------------

    def _encode(self, x_B3HW: Tensor) -> Tensor:
        latents = self.vae.encode(x_B3HW.to(self.vae.dtype)).latent_dist.mode()
        return latents.to(x_B3HW.dtype) * self.vae.config.scaling_factor

    @contextmanager
    def _enough_range(self) -> Iterator[None]:
        """The autoencoder in float32 if it is one that overflows in float16, as SDXL's does."""
        narrow = self.vae.dtype == torch.float16 and self.vae.config.get("force_upcast", False)
        if narrow:
            self.vae.float()
        try:
            yield
        finally:
            if narrow:
                self.vae.half()

    def told(self, subjects: _Subjects, cells: Sequence[int], scale: float) -> dict[str, Tensor]:
        """Patch features of the subjects, which of them show it, and the weights of each subject at each cell."""
        count, many = subjects.x.shape[:2]
        patches = self.unet.config.patches
        cutouts = (subjects.x * subjects.mask).flatten(0, 1).to(self.encoder.dtype)
        features = subject_features(self.encoder, cutouts, patches)
        shown = F.adaptive_avg_pool2d(subjects.mask.flatten(0, 1), math.isqrt(patches)).flatten(1) > 0.05
        weights = torch.ones(count, many, *cells, device=features.device)
        if subjects.region is not None:
            weights = (F.adaptive_max_pool2d(subjects.region.flatten(0, 1), tuple(cells)) > 0).float()
            weights = weights.unflatten(0, (count, many))[:, :, 0]
        return {"subjects": features.unflatten(0, (count, many)), "subject_patches": shown.unflatten(0, (count, many)),
                "weights": weights * scale / (many if subjects.region is None else 1)}

    def encode_prompt(self, prompt: str | list[str] | None, *, device: torch.device | str | None = None,
                      num_images_per_prompt: int = 1, do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None, prompt_embeds: Tensor | None = None,
                      negative_prompt_embeds: Tensor | None = None, pooled_prompt_embeds: Tensor | None = None,
                      negative_pooled_prompt_embeds: Tensor | None = None
                      ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Hidden states of prompts and, with guidance, of negative prompts, then SDXL's pooled states of both, each as
        often as pictures are asked for, on `device` or where the pipeline runs; what is given is not encoded again."""
        wanted, pooled = prompt_embeds, pooled_prompt_embeds
        unwanted, unwanted_pooled = negative_prompt_embeds, negative_pooled_prompt_embeds
        if wanted is None:
            wanted, pooled = self._hidden(_texts(prompt, "prompt"))
        if unwanted is None and do_classifier_free_guidance:
            words = _texts(negative_prompt or "", "negative_prompt")
            words = words * len(wanted) if len(words) == 1 else words
            if len(words) != len(wanted):
                raise ValueError(f"there are {len(words)} of negative_prompt for {len(wanted)} prompts: give one for "
                                 "all or one for each")
            unwanted, unwanted_pooled = self._hidden(words)
        if unwanted is not None and (not isinstance(unwanted, Tensor) or unwanted.shape != wanted.shape):
            raise ValueError(f"negative_prompt_embeds must be of the shape of prompt_embeds, {tuple(wanted.shape)}, "
                             f"got {tuple(np.shape(unwanted))}")
        if self._is_sdxl and (pooled is None or (unwanted is None) != (unwanted_pooled is None)):
            raise ValueError("prompt_embeds of an SDXL editor need pooled_prompt_embeds, and negative ones their own")
        place, dtype = device or self._execution_device, self.unet.dtype
        return tuple(None if x is None  # type: ignore[return-value]
                     else x.to(place, dtype).repeat_interleave(num_images_per_prompt, 0)
                     for x in (wanted, unwanted, pooled, unwanted_pooled))

    def _hidden(self, prompts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, N, T) of the text encoder, or of SDXL's two beside each other with the pooled state."""
        if self.text_encoder is None and self.text_encoder_2 is None:
            raise ValueError("this pipeline has no text encoder: give prompt_embeds, and negative_prompt_embeds where "
                             "guidance_scale is above 1")
        outputs = []
        for tokenizer, encoder in ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)):
            if encoder is None:
                continue
            words = [self.maybe_convert_prompt(text, tokenizer) for text in prompts]
            ids = tokenizer(words, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                            return_tensors="pt").input_ids
            longest = max(len(row) for row in tokenizer(words).input_ids)
            if longest > tokenizer.model_max_length:
                logger.warning(f"a prompt has {longest} tokens; what follows the first {tokenizer.model_max_length} is "
                               "left out")
            ids = ids.to(self._execution_device)
            outputs.append(encoder(ids, output_hidden_states=self.text_encoder_2 is not None))
        if len(outputs) == 1:
            return outputs[0][0], None
        return torch.cat([output.hidden_states[-2] for output in outputs], -1), outputs[1][0]

    def prepare_latents(self, count: int, height: int, width: int, dtype: Any, device: Any, generator: Any,
                        latents: Tensor | None) -> Tensor:
        """Noise (B, C, h, w), drawn or given, at the scheduler's initial scale."""
        shape = (count, self.unet.config.out_channels, height // self.vae_scale_factor, width // self.vae_scale_factor)
        generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
        if not all(isinstance(one, torch.Generator) for one in generators):
            raise ValueError(f"generator must be a torch.Generator or a list of them, got {generator!r:.80}")
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"there are {len(generator)} generators for {count} pictures")
        if latents is None:
            return randn_tensor(shape, generator=generator, device=torch.device(device), dtype=dtype)
        if not isinstance(latents, Tensor) or latents.shape != shape:
            raise ValueError(f"latents must be a tensor of shape {shape}, got {tuple(np.shape(latents))}")
        return latents.to(device, dtype)

    # --- drawing --------------------------------------------------------------------------------------------------

    def _denoise(self, latents: Tensor, text: _Text, told: dict[str, Tensor], steps: int, eta: float, generator: Any,
                 size: tuple[int, int], callback: Callable[..., dict[str, Any]] | None,
                 callback_inputs: Sequence[str]) -> Tensor:
        """Any scheduler's loop with guidance towards the prompt (Ho and Salimans, 2022, Eq. 6); the subject is in both
        halves, so that only `subject_scale` weighs it."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        if hasattr(self.scheduler, "set_begin_index"):    # else it looks its place up by the time, which may repeat
            self.scheduler.set_begin_index(0)
        kind, noise = type(self.scheduler).__name__, getattr(self.scheduler, "sigmas", torch.zeros(1))
        if noise[-1] > NO_NOISE:
            raise ValueError(f"{kind} stops at a noise of {float(noise[-1]):.2g}: make it with use_karras_sigmas=False "
                             "and use_exponential_sigmas=False, or make Euler, DPM++ or DDIM")
        if getattr(self.scheduler, "order", 1) > 1 and noise[0] > MOST_NOISE:
            raise ValueError(f"{kind} goes astray from a noise of {float(noise[0]):.2g}: make Euler, DPM++ or DDIM by "
                             "from_config(pipe.scheduler.config)")
        latents = latents * self.scheduler.init_noise_sigma
        extra = {"eta": eta, "generator": generator}
        extra = {k: v for k, v in extra.items() if k in inspect.signature(self.scheduler.step).parameters}
        self._num_timesteps = len(self.scheduler.timesteps)
        known = self._worded(text, size)
        with self.progress_bar(total=self._num_timesteps) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                noisy = self.scheduler.scale_model_input(latents, t)
                predicted = self._predicted(noisy, t, known, told)
                latents = self.scheduler.step(predicted, t, latents, **extra, return_dict=False)[0]
                if callback is not None:
                    known["latents"] = latents
                    known |= callback(self, i, t, {name: known[name] for name in callback_inputs}) or {}
                    latents = known["latents"]
                bar.update()
        return latents

    def _pictures(self, latents: Tensor, own: tuple[Tensor, Tensor] | None, part: float,
                  given: tuple[Tensor, Tensor] | None, each: int) -> Tensor:
        """Pictures of latents, with a part of the subjects' own pixels, or all of it inside the mask of a given one.

        own: of `with_subjects`, or None: nothing of them; given: of `_to_edit`; both one for `each` of the latents.
        """
        with self._enough_range():
            decoded: Tensor = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype),
                                              return_dict=False)[0]
        if own is not None and part > 0:
            laid_B3HW, shown = (x.repeat_interleave(each, 0) for x in own)
            decoded = surfaced(decoded, laid_B3HW, shown, part)
        if given is None:
            return decoded
        return torch.stack([_joined(drawn, *(x[i // each].to(drawn.device) for x in given))
                            for i, drawn in enumerate(decoded)])

    def _worded(self, text: _Text, size: tuple[int, int]) -> dict[str, Any]:
        """What the UNet is told of the text, by the names that stock pipelines show to callbacks: with guidance that of
        the negative prompts lies before that of the prompts."""
        hidden, pooled = text.wanted, text.pooled
        if self.do_classifier_free_guidance and text.unwanted is not None:
            hidden = torch.cat([text.unwanted, hidden])
            pooled = None if pooled is None else torch.cat([text.unwanted_pooled, pooled])  # type: ignore[list-item]
        ids = None if pooled is None else hidden.new_tensor([[*size, 0, 0, *size]] * len(hidden))
        return {"prompt_embeds": hidden, "add_text_embeds": pooled, "add_time_ids": ids}

    def _predicted(self, noisy: Tensor, t: Tensor, known: dict[str, Any], told: dict[str, Tensor]) -> Tensor:
        """What the UNet predicts at one step; guided unless a callback has taken guidance or the negative half away."""
        guided = self.do_classifier_free_guidance and len(known["prompt_embeds"]) == 2 * len(noisy)
        if guided:
            noisy = torch.cat([noisy, noisy])
            told = {name: torch.cat([x, x]) for name, x in told.items()}
        hidden, pooled, ids = (x if x is None else x[-len(noisy) :] for x in (
            known["prompt_embeds"], known["add_text_embeds"], known["add_time_ids"]))
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": ids}
        predicted = self.unet(noisy, t, hidden, **told, alpha=self._alpha(t).expand(len(noisy)).to(noisy.device),
                              added_cond_kwargs=added, return_dict=False)[0]
        if not guided:
            return predicted
        without, with_text = predicted.chunk(2)
        exaggerated = without + self.guidance_scale * (with_text - without)
        channels = predicted.shape[1]
        drawn = told["space"][: len(with_text), channels : channels + 1]
        return torch.lerp(exaggerated, _as_spread(exaggerated, with_text, drawn), self.guidance_rescale)

    def _alpha(self, t: Tensor) -> Tensor:
        """Signal rate of the noise schedule at a time that may lie between two of its steps, (1,)."""
        table = self.scheduler.alphas_cumprod.sqrt()
        at = float(t)
        below = min(max(int(at), 0), len(table) - 1)
        return torch.lerp(table[below], table[min(below + 1, len(table) - 1)], at - below)[None]


def _as_spread(x_BChw: Tensor, like_BChw: Tensor, drawn_B1hw: Tensor) -> Tensor:
    """x with the standard deviation of `like` over the cells that are drawn; the others as they are (Lin et al., 2024,
    Eq. 15). Float16 would overflow: a picture of 1024 pixels has more cells than it can count."""
    x, like, drawn = x_BChw.float(), like_BChw.float(), drawn_B1hw.float()
    cells = drawn.sum((1, 2, 3), keepdim=True).clamp_min(1) * x.shape[1]

    def spread(of: Tensor) -> Tensor:
        mean = (of * drawn).sum((1, 2, 3), keepdim=True) / cells
        return (((of - mean).square() * drawn).sum((1, 2, 3), keepdim=True) / cells).sqrt()

    return torch.lerp(x, x * spread(like) / spread(x).clamp_min(1e-4), drawn).to(x_BChw.dtype)


def _no_pickle(source: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options by which a loader of diffusers reads safetensors and nothing else: it takes a file of any other name for
    a pickle."""
    paths = (str(one) for one in (source if isinstance(source, list) else [source])
             if isinstance(one, str | os.PathLike) and os.path.isfile(one))
    for name in (*paths, options.get("weight_name")):
        if name is not None and not str(name).endswith(".safetensors"):
            raise ValueError(f"{name} would be read as a pickle, which can run anything: give a .safetensors file")
    return {**options, "use_safetensors": True}


# --- pictures of any kind -----------------------------------------------------------------------------------------


def _texts(words: Any, name: str) -> list[str]:
    """One text or several as a list."""
    texts = [words] if isinstance(words, str) else words
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a text or a list of at least one, got {words!r:.80}")
    return list(texts)


def _values(x: Any, channels: Sequence[int], name: str) -> Tensor:
    """What an array or a tensor holds, in [0, 1], channels before rows."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "bfiu":
        x = torch.from_numpy(np.ascontiguousarray(x))
        x = x.movedim(-1, -3) if x.ndim >= 3 and x.shape[-1] in channels else x
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a PIL picture, or an array or a tensor of numbers, got {type(x).__name__}")
    values = x.cpu().to(torch.float32, memory_format=torch.contiguous_format)
    values = values.div_(255) if x.dtype == torch.uint8 else values
    if not values.numel() or not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{name} must be in [0, 1], or 8 bit")
    return values


def _stacked(parts: list[Tensor], name: str) -> Tensor:
    if len({part.shape[-2:] for part in parts}) != 1:
        raise ValueError(f"{name} must be pictures of one size, at least one")
    return torch.cat(parts)


def _pixels(image: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """Pictures (B, 3, H, W) in [0, 1], on GROUND where transparent, and the opacity (B, 1, H, W) unless of a list."""
    if isinstance(image, list | tuple):
        return _stacked([_pixels(one, name)[0] for one in image], name), None
    if isinstance(image, PIL.Image.Image) and image.mode[0] in "IF":        # which convert() would cut off at 255
        image = _planes(image, name).expand(-1, 3, -1, -1)
    elif isinstance(image, PIL.Image.Image):
        image = np.array(PIL.ImageOps.exif_transpose(image).convert("RGBA" if image.has_transparency_data else "RGB"))
    x = _values(image, (3, 4), name)
    x = x[None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (3, 4):
        raise ValueError(f"{name} must be of shape (3, H, W) or (B, 3, H, W), or (H, W, 3) as an array, got "
                         f"{tuple(np.shape(image))}")
    if x.shape[1] == 3:
        return x, None
    ground = x.new_tensor(GROUND)[:, None, None] / 255
    return ground.lerp(x[:, :3], x[:, 3:]), x[:, 3:]


def _planes(mask: Any, name: str) -> Tensor:
    """Masks or depth maps (B, 1, H, W) in [0, 1]."""
    if isinstance(mask, list | tuple):
        return _stacked([_planes(one, name) for one in mask], name)
    if isinstance(mask, PIL.Image.Image):
        mask = PIL.ImageOps.exif_transpose(mask)
        if mask.mode.startswith("I"):
            mask = np.array(mask, dtype=np.float32) / 65535
        else:
            mask = np.array(mask if mask.mode == "F" else mask.convert("L"))
    x = _values(mask, (1, 3), name)
    if x.ndim == 3 and np.shape(mask)[0] == 3 and not torch.equal(x[1:], x[:-1]):
        raise ValueError(f"{name} has three planes that differ: give masks of three pictures as (B, 1, H, W)")
    if x.ndim != 4:
        x = x[:, None] if x.ndim == 3 and x.shape[0] not in (1, 3) else x[(None,) * (4 - x.ndim)]
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"{name} must be of one plane, (H, W) or (B, 1, H, W), got {tuple(np.shape(mask))}")
    return x.mean(1, keepdim=True)


def _for_all(x: Tensor, count: int, name: str) -> Tensor:
    """One for every prompt."""
    if len(x) not in (1, count):
        raise ValueError(f"there are {len(x)} of {name} for {count} prompts: give one for all or one for each")
    return x.expand(count, *x.shape[1:])


def _nested(images: Any, count: int, name: str) -> list[list[Any]]:
    """The pictures of each prompt."""
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, list | tuple):
        rows = [[images]]
    elif any(isinstance(row, list | tuple) for row in images):
        if not all(isinstance(row, list | tuple) for row in images):
            raise ValueError(f"{name} mixes pictures and lists of pictures: give one list for each prompt")
        rows = [list(row) for row in images]
    else:
        rows = [list(images)] if count == 1 else [[one] for one in images]
    if len(rows) not in (1, count):
        raise ValueError(f"there are {len(rows)} of {name} for {count} prompts: give one for all or one for each")
    return rows * (count // len(rows))


def _square(image: Any, outline: Any, size_px: int) -> tuple[Tensor, Tensor]:
    """A subject's picture (3, R, R) in [-1, 1] and mask (1, R, R), of a square that holds the whole subject."""
    x, opacity = _pixels(image, "subject_image")
    mask = _planes(outline, "subject_mask") if outline is not None else opacity
    mask = torch.ones_like(x[:, :1]) if mask is None else (mask > 0.5).float()
    if not len(x) == len(mask) == 1:
        raise ValueError(f"a subject has one picture and one mask, got {len(x)} of subject_image and {len(mask)} of "
                         "subject_mask: give a list of one for each prompt")
    if mask.shape != x[:, :1].shape:
        raise ValueError(f"subject_mask is {mask.shape[-1]}x{mask.shape[-2]} and its picture {x.shape[-1]}x"
                         f"{x.shape[-2]}: give them the same size")
    if not mask.any() or torch.equal(x.amax((0, 2, 3)), x.amin((0, 2, 3))):
        raise ValueError("there is nothing to see in subject_image: its mask is empty or it has one colour only")
    height, width = x.shape[-2:]
    x0, y0, x1, y1 = ((mask_box(mask)[0] + 1) / 2 * mask.new_tensor((width, height, width, height))).tolist()
    side = max(min(height, width), round(x1 - x0), round(y1 - y0))
    missing = max(0, side - width), max(0, side - height)
    left, top = (min(max(round((a + b + gap - side) / 2), 0), n + gap - side)
                 for a, b, n, gap in ((x0, x1, width, missing[0]), (y0, y1, height, missing[1])))
    around = [n for gap in missing for n in (gap // 2, gap - gap // 2)]
    x, mask = (F.interpolate(F.pad(part, around)[..., top : top + side, left : left + side], (size_px, size_px),
                             mode="bilinear", align_corners=False, antialias=True)[0] for part in (x, mask))
    if mask.max() <= 0.5:
        raise ValueError(f"the subject is too small to be seen in subject_image at {size_px} px: crop the picture")
    return x.clamp(0, 1) * 2 - 1, mask.clamp(0, 1)


def _joined(drawn_3hw: Tensor, source_3HW: Tensor, mask_1HW: Tensor) -> Tensor:
    """What was drawn inside the mask, joined by a soft seam to the source, whose other pixels stay exactly as they are.

    All in [-1, 1] but the mask, of 0 and 1. Parts of the mask that are thinner than the seam are drawn in full.
    """
    size = source_3HW.shape[-2:]
    drawn = drawn_3hw[None].float()
    if drawn.shape[-2:] != size:
        drawn = F.interpolate(drawn, size, mode="bicubic", align_corners=False)
    shrink = min(1.0, SEAM_PX / min(size))
    cells = F.adaptive_avg_pool2d(mask_1HW[None], (round(size[0] * shrink), round(size[1] * shrink)))
    reach = max(1, round(FEATHER * min(cells.shape[-2:])))
    near = _near(cells, reach)
    most = F.max_pool2d(F.pad(near, [reach] * 4, mode="replicate"), 2 * reach + 1, 1)
    soft = (2 * near / most.clamp_min(1e-6) - 1).clamp(0, 1)
    soft = F.interpolate(soft, size, mode="bilinear", align_corners=False)[0] * mask_1HW
    return torch.where(mask_1HW > 0, source_3HW.lerp(drawn[0].clamp(-1, 1), soft), source_3HW)
