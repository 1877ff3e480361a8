"""Toffee's editor: particular subjects in new pictures, or inside a mask of a given picture. Imports nothing of Toffee.

A subject enters three ways: as tokens of its patches, attended to beside the text; as its own latents, laid where it is
to appear; and through the depth of the pose that is wanted. `subject_scale` weighs the first two (λ of the paper).
Shape suffixes: B batch, S subjects of a picture, C latent channels, F features of a patch, P patches, R side of a
subject's picture, H, W pixels, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 4 (ToffeeNet).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
FEATHER = 1 / 40                      # of the picture's side: width of the seam inside the mask


@dataclass(frozen=True, slots=True)
class _Subjects:
    """x (B, S, 3, R, R) in [-1, 1]; mask (B, S, 1, R, R) in [0, 1]; region (B, S, 1, H, W) of 0 and 1, where each may
    appear, or None: anywhere."""

    x: Tensor
    mask: Tensor
    region: Tensor | None


@dataclass(frozen=True, slots=True)
class _Text:
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
    pixels = ((cutout_B3RR + 1) / 2 - mean) / std
    deep = encoder(pixels).last_hidden_state[:, 1:]
    return torch.cat([encoder.embeddings.patch_embeddings(pixels), deep], -1)


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
    source, shown = encode(picture), torch.zeros_like(mask_B1HW)
    for s in range(subjects.x.shape[1]):
        x, mask = subjects.x[:, s], subjects.mask[:, s]
        region = None if subjects.region is None else subjects.region[:, s]
        own = mask_box(mask)
        place = places(mask_B1HW, depth_B1HW, region, mask)
        layer = laid(torch.cat([x * mask, mask], 1), place, own, height, width)
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
        shown = torch.maximum(shown, layer[:, 3:])
    depth = torch.zeros_like(mask_B1HW) if depth_B1HW is None else depth_B1HW
    told = depth.flatten(1).any(1).to(depth)[:, None, None, None].expand(-1, 1, height // block, width // block)
    cells = (F.max_pool2d(gone, block) > 0).to(source)
    return torch.cat([source, cells, F.avg_pool2d(depth, block).to(source), told.to(source), encode(picture),
                      F.avg_pool2d(shown, block).to(source)], 1)


class ToffeePipeline(DiffusionPipeline, TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin):
    """Draws given subjects as a prompt says, in a new picture or inside a mask of a picture.

    vae: autoencoder; text_encoder, tokenizer: of the prompt, with SDXL two of each; unet: ToffeeEditorUNet; encoder:
    Dinov2Model; scheduler: any of diffusers' for the base's noise schedule; depth_estimator: a Depth Anything, for
    `pose_image`, or None.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->encoder->depth_estimator->unet->vae"
    _optional_components = ["text_encoder_2", "tokenizer_2", "depth_estimator"]
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, encoder: Any, scheduler: Any,
                 depth_estimator: Any = None, text_encoder_2: Any = None, tokenizer_2: Any = None) -> None:
        super().__init__()
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
    def do_classifier_free_guidance(self) -> bool:
        """Whether negative prompts count."""
        return self._guidance_scale > 1

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

    @torch.no_grad()
    def __call__(
        self, prompt: str | list[str] | None = None, subject_image: Any = None, subject_mask: Any = None,
        image: Any = None, mask_image: Any = None, depth_image: Any = None, pose_image: Any = None,
        subject_regions: Any = None, subject_scale: float = 1.0, height: int | None = None, width: int | None = None,
        num_inference_steps: int = 20, guidance_scale: float = 2.0, negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1, eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None, latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None, negative_pooled_prompt_embeds: Tensor | None = None,
        output_type: str = "pil", return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Pictures of subjects.

        prompt: one or several, with the subject's class word. subject_image: one picture for all prompts; a list of
        one for each prompt; or, for several subjects in a picture, a list of lists (for one prompt, a list).
        subject_mask: in the same form, white where the subject is; without it transparency counts, else the whole
        picture. image, mask_image: a picture to edit and, white, where; every other pixel stays. depth_image: near is
        white, black is untold: the pose to follow; pose_image: a picture whose depth is estimated instead.
        subject_regions: for several subjects, a mask each. subject_scale: λ, at least 0, weighs subjects against the
        text. height, width: by default the edited picture's, or the UNet's own. latents: (B, C, h, w), noise to start
        from. output_type: pil, np, pt or latent; latents are those of the whole picture, without the pixels of `image`.
        Pictures are PIL, arrays (H, W, 3) or tensors (3, H, W) or batches of these, in [0, 1] unless 8 bit.
        Raises ValueError, in one sentence, for anything that does not fit together.
        """
        self._check(prompt, prompt_embeds, pooled_prompt_embeds, subject_image, image, mask_image, subject_scale,
                    num_inference_steps, height, width, depth_image, pose_image, callback_on_step_end_tensor_inputs)
        self._guidance_scale, self._interrupt = guidance_scale, False
        count = 1 if isinstance(prompt, str) else len(prompt) if prompt is not None else len(prompt_embeds)
        device, dtype = self._execution_device, self.unet.dtype

        given = None if image is None else self._to_edit(image, mask_image, count)
        height, width = self._size(height, width, given)
        source, mask = self._canvas(given, count, height, width)
        subjects = self._subjects(subject_image, subject_mask, subject_regions, count, height, width)
        depth = self._depth(depth_image, pose_image, count, height, width, device)

        text = self.encode_prompt(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds,
                                  pooled_prompt_embeds, negative_pooled_prompt_embeds)
        source, mask = source.to(device, dtype), mask.to(device, dtype)
        subjects = _Subjects(subjects.x.to(device, dtype), subjects.mask.to(device, dtype),
                             None if subjects.region is None else subjects.region.to(device, dtype))
        space = conditions(self._encode, source, mask, None if depth is None else depth.to(device, dtype), subjects,
                           self.vae_scale_factor)
        space[:, -1:] = (space[:, -1:] * subject_scale).clamp(max=1)
        told = self._told(subjects, space.shape[-2:], subject_scale)

        def each(x: Tensor | None) -> Any:
            return None if x is None else x.repeat_interleave(num_images_per_prompt, 0)

        text = _Text(*(each(x) for x in (text.wanted, text.unwanted, text.pooled, text.unwanted_pooled)))
        told = {name: each(x) for name, x in (*told.items(), ("space", space))}
        latents = self.prepare_latents(count * num_images_per_prompt, height, width, dtype, device, generator, latents)
        latents = self._denoise(latents, text, told, num_inference_steps, eta, generator,
                                (height, width), callback_on_step_end, callback_on_step_end_tensor_inputs)
        images: Any = latents
        if output_type != "latent":
            decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
            images = self._finished(decoded, given, num_images_per_prompt)
            images = self.image_processor.postprocess(images, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    # --- what is asked --------------------------------------------------------------------------------------------

    def _check(self, prompt: Any, embeds: Any, pooled: Any, subject: Any, image: Any, mask: Any, scale: float,
               steps: int, height: int | None, width: int | None, depth: Any, pose: Any, callback_inputs: Sequence[str]
               ) -> None:
        multiple = self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        for wrong, sentence in (
            ((prompt is None) == (embeds is None), "give either prompt or prompt_embeds"),
            (prompt is not None and not isinstance(prompt, str | list), f"prompt must be text or a list of texts, got "
             f"{type(prompt).__name__}"),
            (embeds is not None and self.text_encoder_2 is not None and pooled is None,
             "prompt_embeds of an SDXL editor need pooled_prompt_embeds"),
            (subject is None, "subject_image is missing: give at least one picture of the subject"),
            ((image is None) != (mask is None), "image and mask_image go together: the mask is white where to draw"),
            (not 0 <= scale <= 2, f"subject_scale must be in [0, 2], got {scale}"),
            (steps < 1, f"num_inference_steps must be at least 1, got {steps}"),
            (depth is not None and pose is not None, "give either depth_image or pose_image"),
            (pose is not None and self.depth_estimator is None,
             "pose_image needs a depth_estimator, which this pipeline lacks: give depth_image"),
            (any(side is not None and (side < multiple or side % multiple) for side in (height, width)),
             f"height and width must be multiples of {multiple}, got {height}, {width}"),
            (any(name not in self._callback_tensor_inputs for name in callback_inputs),
             f"callback_on_step_end_tensor_inputs must be out of {self._callback_tensor_inputs}, "
             f"got {callback_inputs}"),
        ):
            if wrong:
                raise ValueError(sentence)

    def _to_edit(self, image: Any, mask_image: Any, count: int) -> tuple[Tensor, Tensor]:
        """The picture to edit (B, 3, H, W) in [-1, 1] and its mask (B, 1, H, W) of 0 and 1, in its own size."""
        source, mask = _pixels(image, "image")[0], _planes(mask_image, "mask_image")
        if source.shape[-2:] != mask.shape[-2:]:
            raise ValueError(f"mask_image is {mask.shape[-1]}x{mask.shape[-2]} and image {source.shape[-1]}x"
                             f"{source.shape[-2]}: give them the same size")
        mask = (mask > 0.5).float()
        if not mask.flatten(1).any(1).all():
            raise ValueError("mask_image is black all over: paint white where to draw")
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
        mask = F.adaptive_max_pool2d(given[1], (height, width)) if given[1].shape[-1] >= width else F.interpolate(
            given[1], (height, width))
        return source.clamp(-1, 1), mask

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
        planes = torch.stack([torch.stack([F.interpolate(_planes(region, "subject_regions"), (height, width))[0]
                                           for region in row]) for row in rows])
        return _Subjects(x, mask, (planes > 0.5).float())

    def _depth(self, depth_image: Any, pose_image: Any, count: int, height: int, width: int, device: Any
               ) -> Tensor | None:
        """The depth to follow, scaled, or None."""
        if depth_image is None and pose_image is None:
            return None
        if depth_image is not None:
            depth = _planes(depth_image, "depth_image")
        else:
            pose = F.interpolate(_pixels(pose_image, "pose_image")[0], (height, width), mode="bilinear", antialias=True)
            mean, std = (pose.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
            pixels = ((pose - mean) / std).to(device, self.depth_estimator.dtype)
            depth = self.depth_estimator(pixel_values=pixels).predicted_depth.unsqueeze(1).float().cpu()
            depth = depth / depth.amax((2, 3), keepdim=True).clamp_min(1e-3)
        depth = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
        return scaled_depth(_for_all(depth, count, "depth_image"))

    # --- what the models are told ---------------------------------------------------------------------------------

    def _encode(self, x_B3HW: Tensor) -> Tensor:
        return self.vae.encode(x_B3HW).latent_dist.mode() * self.vae.config.scaling_factor

    def _told(self, subjects: _Subjects, cells: Sequence[int], scale: float) -> dict[str, Tensor]:
        """Patch features of the subjects, which of them show it, and the weights of each subject at each cell."""
        count, many = subjects.x.shape[:2]
        patches = self.unet.config.patches
        features = subject_features(self.encoder, (subjects.x * subjects.mask).flatten(0, 1), patches)
        shown = F.adaptive_avg_pool2d(subjects.mask.flatten(0, 1), math.isqrt(patches)).flatten(1) > 0.05
        weights = torch.ones(count, many, *cells, device=features.device)
        if subjects.region is not None:
            weights = (F.adaptive_max_pool2d(subjects.region.flatten(0, 1), tuple(cells)) > 0).float()
            weights = weights.unflatten(0, (count, many))[:, :, 0]
        return {"subjects": features.unflatten(0, (count, many)).to(subjects.x),
                "subject_patches": shown.unflatten(0, (count, many)),
                "weights": (weights * scale / max(1, many if subjects.region is None else 1)).to(subjects.x)}

    def encode_prompt(self, prompt: str | list[str] | None, negative_prompt: str | list[str] | None = None,
                      prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None,
                      pooled_prompt_embeds: Tensor | None = None, negative_pooled_prompt_embeds: Tensor | None = None
                      ) -> _Text:
        """Hidden states of prompts and, with guidance, of negative prompts; what is given is taken as it is."""
        pooled, unwanted, unwanted_pooled = pooled_prompt_embeds, negative_prompt_embeds, negative_pooled_prompt_embeds
        wanted = prompt_embeds
        if wanted is None:
            wanted, pooled = self._hidden([prompt] if isinstance(prompt, str) else list(prompt or ()))
        if unwanted is None and self.do_classifier_free_guidance:
            words = negative_prompt if isinstance(negative_prompt, list) else [negative_prompt or ""] * len(wanted)
            if len(words) != len(wanted):
                raise ValueError(f"there are {len(words)} negative prompts for {len(wanted)} prompts")
            unwanted, unwanted_pooled = self._hidden(words)
        device, dtype = self._execution_device, self.unet.dtype
        return _Text(*(None if x is None else x.to(device, dtype)  # type: ignore[arg-type]
                       for x in (wanted, unwanted, pooled, unwanted_pooled)))

    def _hidden(self, prompts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, N, T) of the text encoder, or of SDXL's two beside each other with the pooled state."""
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
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(f"there are {len(generator)} generators for {count} pictures")
        if latents is None:
            return randn_tensor(shape, generator=generator, device=torch.device(device), dtype=dtype)
        if latents.shape != shape:
            raise ValueError(f"latents must be of shape {shape}, got {tuple(latents.shape)}")
        return latents.to(device, dtype)

    # --- drawing --------------------------------------------------------------------------------------------------

    def _denoise(self, latents: Tensor, text: _Text, told: dict[str, Tensor], steps: int, eta: float, generator: Any,
                 size: tuple[int, int], callback: Callable[..., dict[str, Any]] | None,
                 callback_inputs: Sequence[str]) -> Tensor:
        """Any scheduler's loop with guidance towards the prompt (Ho and Salimans, 2022, Eq. 6); the subject is in both
        halves, so that only `subject_scale` weighs it."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        latents = latents * self.scheduler.init_noise_sigma
        extra = {"eta": eta, "generator": generator}
        extra = {k: v for k, v in extra.items() if k in inspect.signature(self.scheduler.step).parameters}
        self._num_timesteps = len(self.scheduler.timesteps)
        with self.progress_bar(total=self._num_timesteps) as bar:
            for i, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                noisy = self.scheduler.scale_model_input(latents, t)
                predicted = self._predicted(noisy, t, text, told, size)
                latents = self.scheduler.step(predicted, t, latents, **extra, return_dict=False)[0]
                if callback is not None:
                    known = {"latents": latents, "prompt_embeds": text.wanted, "negative_prompt_embeds": text.unwanted}
                    known |= callback(self, i, t, {name: known[name] for name in callback_inputs})
                    latents = known["latents"]
                    text = _Text(known["prompt_embeds"], known["negative_prompt_embeds"], text.pooled,
                                 text.unwanted_pooled)
                bar.update()
        return latents

    def _predicted(self, noisy: Tensor, t: Tensor, text: _Text, told: dict[str, Tensor], size: tuple[int, int]
                   ) -> Tensor:
        """What the UNet predicts at one step, guided."""
        guided = self.do_classifier_free_guidance and text.unwanted is not None
        hidden = torch.cat([text.unwanted, text.wanted]) if guided else text.wanted
        pooled = torch.cat([text.unwanted_pooled, text.pooled]) if guided and text.pooled is not None else text.pooled
        if guided:
            noisy = torch.cat([noisy, noisy])
            told = {name: torch.cat([x, x]) for name, x in told.items()}
        added = None
        if pooled is not None:
            ids = torch.tensor([[*size, 0, 0, *size]] * len(noisy), device=noisy.device, dtype=noisy.dtype)
            added = {"text_embeds": pooled, "time_ids": ids}
        predicted = self.unet(noisy, t, hidden, **told, alpha=self._alpha(t).expand(len(noisy)).to(noisy),
                              added_cond_kwargs=added, return_dict=False)[0]
        if not guided:
            return predicted
        without, with_text = predicted.chunk(2)
        return without + self.guidance_scale * (with_text - without)

    def _alpha(self, t: Tensor) -> Tensor:
        """Signal rate of the noise schedule at a time that may lie between two of its steps, (1,)."""
        table = self.scheduler.alphas_cumprod.sqrt()
        at = float(t)
        below = min(max(int(at), 0), len(table) - 1)
        return torch.lerp(table[below], table[min(below + 1, len(table) - 1)], at - below)[None]

    def _finished(self, decoded: Tensor, given: tuple[Tensor, Tensor] | None, each: int) -> Tensor:
        """The pictures (B, 3, H, W) in [-1, 1]; of an edited one every pixel outside the mask is its own."""
        if given is None:
            return decoded
        source, mask = (x.repeat_interleave(each, 0).to(decoded.device, torch.float32) for x in given)
        drawn = decoded.float().clamp(-1, 1)
        if drawn.shape[-2:] != source.shape[-2:]:
            drawn = F.interpolate(drawn, source.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)
        reach = max(1, round(FEATHER * min(source.shape[-2:])))
        inner = -F.max_pool2d(F.pad(-mask, [reach] * 4, mode="replicate"), 2 * reach + 1, 1)
        soft = F.avg_pool2d(F.pad(inner, [reach] * 4, mode="replicate"), 2 * reach + 1, 1) * mask
        return torch.where(mask > 0, source + (drawn - source) * soft.clamp(0, 1), source)


# --- pictures of any kind -----------------------------------------------------------------------------------------


def _pixels(image: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """Pictures (B, 3, H, W) in [0, 1], and their opacity (B, 1, H, W) where they have any."""
    if isinstance(image, list | tuple):
        parts = [_pixels(one, name) for one in image]
        if len({part[0].shape[-2:] for part in parts}) != 1:
            raise ValueError(f"the pictures of {name} must be of one size")
        opacity = [part[1] for part in parts if part[1] is not None]
        return torch.cat([part[0] for part in parts]), torch.cat(opacity) if len(opacity) == len(parts) else None
    if isinstance(image, PIL.Image.Image):
        return _of_pil(image)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.movedim(-1, -3) if image.ndim >= 3 and image.shape[-1] in (3, 4) else image
    if not isinstance(image, Tensor):
        raise ValueError(f"{name} must be a PIL picture, an array or a tensor, got {type(image).__name__}")
    x = image if image.ndim == 4 else image[None]
    if x.ndim != 4 or x.shape[1] not in (3, 4):
        raise ValueError(f"{name} must be of shape (3, H, W) or (B, 3, H, W), or (H, W, 3) as an array, got "
                         f"{tuple(image.shape)}")
    x = x.float() / (255 if image.dtype == torch.uint8 else 1)
    if not torch.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise ValueError(f"{name} must be in [0, 1], or 8 bit")
    return x[:, :3], x[:, 3:] if x.shape[1] == 4 else None


def _of_pil(image: PIL.Image.Image) -> tuple[Tensor, Tensor | None]:
    image = PIL.ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255, None
    image = image.convert("RGBA")
    ground = PIL.Image.new("RGBA", image.size, (*GROUND, 255))
    x, _ = _of_pil(PIL.Image.alpha_composite(ground, image).convert("RGB"))
    return x, torch.from_numpy(np.array(image.getchannel("A")))[None, None].float() / 255


def _planes(mask: Any, name: str) -> Tensor:
    """Masks or depth maps (B, 1, H, W) in [0, 1]."""
    if isinstance(mask, list | tuple):
        return torch.cat([_planes(one, name) for one in mask])
    if isinstance(mask, PIL.Image.Image):
        deep = mask.mode.startswith("I")
        values = torch.from_numpy(np.array(mask if deep else mask.convert("L"), dtype=np.float32))
        return values[None, None] / (65535 if deep else 255)
    if isinstance(mask, np.ndarray):
        mask = torch.from_numpy(np.ascontiguousarray(mask))
        mask = mask.movedim(-1, -3) if mask.ndim >= 3 and mask.shape[-1] in (1, 3) else mask
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4):
        raise ValueError(f"{name} must be a PIL picture, an array or a tensor of one plane")
    x = mask[(None,) * (4 - mask.ndim)] if mask.ndim != 3 or mask.shape[0] in (1, 3) else mask[:, None]
    x = x.float().mean(1, keepdim=True) / (255 if mask.dtype == torch.uint8 else 1)
    if not torch.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise ValueError(f"{name} must be in [0, 1], or 8 bit")
    return x


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
        return [[images]] * count
    if any(isinstance(row, list | tuple) for row in images):
        if len(images) != count or not all(isinstance(row, list | tuple) for row in images):
            raise ValueError(f"{name} as a list of lists needs one list for each of the {count} prompts")
        return [list(row) for row in images]
    if count == 1:
        return [list(images)]
    if len(images) != count:
        raise ValueError(f"there are {len(images)} of {name} for {count} prompts: give one for all or one for each")
    return [[one] for one in images]


def _square(image: Any, outline: Any, size_px: int) -> tuple[Tensor, Tensor]:
    """A subject's picture (3, R, R) in [-1, 1] and mask (1, R, R), cropped to a square around the subject."""
    x, opacity = _pixels(image, "subject_image")
    mask = _planes(outline, "subject_mask") if outline is not None else opacity
    mask = torch.ones_like(x[:, :1]) if mask is None else (mask > 0.5).float()
    if mask.shape[-2:] != x.shape[-2:]:
        raise ValueError(f"subject_mask is {mask.shape[-1]}x{mask.shape[-2]} and its picture {x.shape[-1]}x"
                         f"{x.shape[-2]}: give them the same size")
    if not mask.any() or not (x.amax((0, 2, 3)) > x.amin((0, 2, 3))).any():
        raise ValueError("there is nothing to see in subject_image: its mask is empty or it has one colour only")
    height, width = x.shape[-2:]
    side = min(height, width)
    x0, y0, x1, y1 = mask_box(mask)[0].tolist()
    left, top = (min(max(round(((a + b) / 2 + 1) / 2 * n - side / 2), 0), n - side)
                 for a, b, n in ((x0, x1, width), (y0, y1, height)))
    x, mask = (F.interpolate(part[..., top : top + side, left : left + side], (size_px, size_px), mode="bilinear",
                             align_corners=False, antialias=True) for part in (x, mask))
    return x[0].clamp(0, 1) * 2 - 1, mask[0].clamp(0, 1)
