"""The View Generator: another view of an object, from one picture of it. Imports nothing of Toffee.

Where depth and turn are known, the object's pixels are turned in space first, which settles most of the new view; the
denoiser draws what was hidden, and shadows.
Shape suffixes: B batch, C latent channels, F features of a patch, P patches, H, W pixels, h, w latent cells.
Source of the idea: Toffee, arXiv 2406.09305, section 3.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
REACH = 3                             # latent cells by which an object may grow beyond its known outline when it turns
ELEVATION = 0.22                      # radians from which the camera is assumed to look down, where nobody says
LUMINANCE = (0.299, 0.587, 0.114)     # weights of red, green and blue
DARKEST, RIDGE = 0.05, 0.02           # of a light's fit: added to the luminance, and to the normals' spread
AXIS_BEHIND_EDGE = 0.05               # of the object's width: how far its axis lies behind its outline
LOOKS = ((1.0, 0.0, 0.0), (1.1, -0.5, -0.5), (1.0, 0.5, 0.5), (1.1, 0.0, 0.0))      # see `looked_at`
FINE_PX = 3                           # reach of the blur that finer structure is told from, in a picture of 128 pixels
SHARPENED, SHARPENED_PX = 0.1, 6      # the mean of looks: by this part of what is finer than a blur of this reach


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


def fitted(encoder: Any, x_B3HW: Tensor, side: int) -> Tensor:
    """Pictures at the nearest smaller size at which each of the encoder's patches covers whole latent cells.

    side: of the latents. A picture whose patches are its latent cells stays as it is.
    """
    most = max(1, x_B3HW.shape[-1] // encoder.config.patch_size)
    size = max(n for n in range(1, most + 1) if side % n == 0) * encoder.config.patch_size
    if size == x_B3HW.shape[-1]:
        return x_B3HW
    return F.interpolate(x_B3HW, (size, size), mode="bilinear", align_corners=False, antialias=True)


def subject_patches(mask_B1HW: Tensor, side: int) -> Tensor:
    """Which patches show the object, (B, P)."""
    return F.adaptive_avg_pool2d(mask_B1HW, side).flatten(1) > 0.05


def turned(image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor, turn_B: Tensor, axis_B3: Tensor | None = None, *,
           field_of_view: float, nearest: float, farthest: float) -> tuple[Tensor, Tensor]:
    """The object's visible surface turned about its vertical axis: picture (B, 3, H, W), 0 where nothing is known, and
    where it is (B, 1, H, W).

    depth: inverse distance along the ray, 1 at `nearest` and 0 at `farthest`; turn: radians, NaN leaves the picture
    empty; axis: see `outline_axis`, which is taken where there is none; field_of_view: vertical, in radians. Points are
    spread over the pixels at twice the resolution, the nearest ones win.
    """
    (of, row, column), moved = _turned_points(mask_B1HW, depth_B1HW, turn_B, axis_B3, field_of_view, nearest, farthest)
    image = F.interpolate(image_B3HW, scale_factor=2, mode="bilinear", align_corners=False)
    return _splat(image[of, :, row, column], of, moved, math.tan(field_of_view / 2), *image_B3HW.shape[::3])


def turned_depth(mask_B1HW: Tensor, depth_B1HW: Tensor, turn_B: Tensor, axis_B3: Tensor | None = None, *,
                 field_of_view: float, nearest: float, farthest: float) -> tuple[Tensor, Tensor]:
    """Depth of the visible surface once it is turned, 0 where nothing is known, and where it is, both (B, 1, H, W).

    Arguments as in `turned`.
    """
    (of, _, _), moved = _turned_points(mask_B1HW, depth_B1HW, turn_B, axis_B3, field_of_view, nearest, farthest)
    depth = (1 / moved.norm(dim=-1, keepdim=True) - 1 / farthest) / (1 / nearest - 1 / farthest)
    return _splat(depth.clamp(0, 1), of, moved, math.tan(field_of_view / 2), *mask_B1HW.shape[::3])


def _turned_points(mask: Tensor, depth: Tensor, turn_B: Tensor, axis_B3: Tensor | None, field_of_view: float,
                   nearest: float, farthest: float) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """N points of the visible surfaces: picture, row and column in a grid of twice the size, (N,) each, and where they
    are once turned, in the camera's frame (N, 3)."""
    size, half = mask.shape[-1], math.tan(field_of_view / 2)
    distance, solid = solid_distance(mask, depth, nearest, farthest)
    solid = solid & ~turn_B.isnan()[:, None, None]
    of, row, column = solid.nonzero(as_tuple=True)
    line = ((torch.arange(2 * size, device=solid.device) + 0.5) / size - 1) * half
    across, up = line[column], -line[row]
    z = distance[of, row, column] / (across**2 + up**2 + 1).sqrt()
    points = torch.stack([across * z, up * z, -z], -1)
    across, z, elevation = (_outline_axis(distance, solid, line) if axis_B3 is None else axis_B3)[of].unbind(-1)
    on_axis = torch.stack([across * z, z * 0, -z], -1)
    return (of, row, column), on_axis + about_vertical(points - on_axis, turn_B.nan_to_num()[of], elevation)


@torch.no_grad()
def axes_of(model: Any, image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor | None, **camera: float
            ) -> Tensor | None:
    """The axes (B, 3), see `outline_axis`, that a ToffeeAxis finds; None where there is no model or no depth."""
    if model is None or depth_B1HW is None:
        return None
    image, mask, depth = image_B3HW.float(), mask_B1HW.float(), depth_B1HW.float().clamp(0, 1)
    found: Tensor = model(image, mask, depth, outline_axis(mask, depth, **camera))
    return found


def solid_distance(mask: Tensor, depth: Tensor, nearest: float, farthest: float) -> tuple[Tensor, Tensor]:
    """Distances along the rays of a grid of twice the size, and which rays meet the object, both (B, 2H, 2W).

    mask, depth, nearest, farthest: as in `turned`.

    Depth at an outline is a mixture of object and ground, so it is taken from the pixels further inside.
    """
    solid = (-F.max_pool2d(-mask, 3, 1, 1) > 0.5).to(depth)
    depth = depth * solid
    for _ in range(2):
        share = F.avg_pool2d(solid, 3, 1, 1)
        depth = torch.where(solid > 0, depth, F.avg_pool2d(depth, 3, 1, 1) / share.clamp_min(1e-6))
        solid = ((share > 0) & (mask > 0.3)).to(depth)
        depth = depth * solid
    depth, share = (F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
                    for x in (depth, solid))
    inverse = (depth / share.clamp_min(1e-6)).clamp(0, 1) * (1 / nearest - 1 / farthest) + 1 / farthest
    return 1 / inverse, F.interpolate(solid, scale_factor=2)[:, 0] > 0.5


def outline_axis(mask_B1HW: Tensor, depth_B1HW: Tensor, *, field_of_view: float, nearest: float, farthest: float
                 ) -> Tensor:
    """The vertical axis of each object as its outline suggests it, (B, 3) float32: where it meets the middle row of
    the picture (x of the ray at z = 1, and z, along the camera's own axis, in units of its distances), and the radians
    from which the camera looks down on it.

    It goes through the middle of the object a little behind its outline, whose distance along the ray is taken for z.
    mask, depth: float32, as in `turned`.
    """
    size = mask_B1HW.shape[-1]
    distance, solid = solid_distance(mask_B1HW, depth_B1HW, nearest, farthest)
    line = ((torch.arange(2 * size, device=solid.device) + 0.5) / size - 1) * math.tan(field_of_view / 2)
    return _outline_axis(distance, solid, line)


def _outline_axis(distance_BSS: Tensor, solid_BSS: Tensor, line_S: Tensor) -> Tensor:
    """`outline_axis` of rays that meet the object at these distances; line: x of their columns at distance 1."""
    side, rows, columns = solid_BSS.shape[-1], solid_BSS.any(2), solid_BSS.sum(1)
    left = (solid_BSS.float().argmax(2) + 1).clamp(max=side - 1)
    right = (side - 2 - solid_BSS.flip(2).float().argmax(2)).clamp(min=0)
    edges = distance_BSS.gather(2, torch.stack([left, right], 2)).masked_fill(~rows[..., None], torch.inf)
    edge = edges.flatten(1).sort(1).values.gather(1, (rows.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
    inside = columns > 0
    across = line_S[(columns.cumsum(1) > (columns.sum(1, keepdim=True) - 1) // 2).float().argmax(1)]
    first, last = inside.float().argmax(1), side - 1 - inside.flip(1).float().argmax(1)
    z = edge * (1 + AXIS_BEHIND_EDGE * (line_S[last] - line_S[first]))
    axes = torch.stack([across, z, torch.full_like(z, ELEVATION)], -1)
    return torch.where(rows.any(1)[:, None], axes, axes.new_tensor((0.0, 1.0, ELEVATION)))


def about_vertical(points_3: Tensor, turn: Tensor, elevation: Tensor) -> Tensor:
    """Points (..., 3) relative to an axis, turned by (...) about the vertical that a camera looking down by (...)
    sees."""
    x, y, z = points_3.unbind(-1)
    cos_e, sin_e = elevation.cos(), elevation.sin()
    height, out = y * cos_e + z * sin_e, z * cos_e - y * sin_e
    c, s = turn.cos(), turn.sin()
    x, out = x * c + out * s, out * c - x * s
    return torch.stack([x, height * cos_e - out * sin_e, height * sin_e + out * cos_e], -1)


def _splat(colours_NC: Tensor, of_N: Tensor, points_N3: Tensor, half: float, pictures: int, size: int
           ) -> tuple[Tensor, Tensor]:
    """Coloured points seen by the camera: pictures (B, C, size, size), and where there are any (B, 1, size, size)."""
    x, y, z = points_N3.unbind(-1)
    z = (-z).clamp_min(1e-3)
    column = ((x / z / half + 1) / 2 * size - 0.5).round().long()
    row = ((1 - y / z / half) / 2 * size - 0.5).round().long()
    within = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    target, near = (of_N * size * size + row * size + column)[within], z[within]
    first = near.new_full((pictures * size * size,), torch.inf).scatter_reduce(0, target, near, "amin")
    front = near < first[target] * 1.02
    known = torch.cat([colours_NC, torch.ones_like(colours_NC[:, :1])], -1)[within][front]
    total = known.new_zeros(len(first), known.shape[1]).index_add(0, target[front], known)
    total = total.unflatten(0, (pictures, size, size)).permute(0, 3, 1, 2)
    covered = (total[:, -1:] > 0).to(total)
    seen = total[:, :-1] / total[:, -1:].clamp_min(1)
    share = F.avg_pool2d(covered, 3, 1, 1)                # pinholes are filled from around them
    hole = (covered == 0) & (share > 0.5)
    seen = torch.where(hole, F.avg_pool2d(seen, 3, 1, 1) / share.clamp_min(1e-6), seen)
    return seen, torch.where(hole, 1.0, covered)


def normals(mask_B1HW: Tensor, depth_B1HW: Tensor, *, field_of_view: float, nearest: float, farthest: float) -> Tensor:
    """Which way the object's surface faces, unit vectors of the camera, (B, 3, H, W); 0 where no depth is known.

    depth: as in `turned`.
    """
    size, reach = mask_B1HW.shape[-1], max(1, mask_B1HW.shape[-1] // 128)
    solid = (-F.max_pool2d(-mask_B1HW, 3, 1, 1) > 0.5).to(depth_B1HW)
    near, share = depth_B1HW * solid, solid
    for _ in range(2):
        near, share = (F.avg_pool2d(x, 2 * reach + 1, 1, reach, count_include_pad=False) for x in (near, share))
    inverse = (near / share.clamp_min(1e-6)).clamp(0, 1) * (1 / nearest - 1 / farthest) + 1 / farthest
    line = ((torch.arange(size, device=inverse.device, dtype=inverse.dtype) + 0.5) / size * 2 - 1)
    line = line * math.tan(field_of_view / 2)
    across, up = line.expand(size, size), -line[:, None].expand(size, size)
    rays = torch.stack([across, up, -torch.ones_like(up)]) / (across**2 + up**2 + 1).sqrt()
    points = F.pad(rays / inverse, (1, 1, 1, 1), mode="replicate")
    right = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    upwards = points[..., :-2, 1:-1] - points[..., 2:, 1:-1]
    return F.normalize(torch.linalg.cross(right, upwards, dim=1), dim=1) * (share > 0)


def light_of(image_B3HW: Tensor, mask_B1HW: Tensor, normals_B3HW: Tensor) -> Tensor:
    """How the light falls on an object, (B, 3): the change of its log luminance with its normal, by least squares.
    float32.

    The first order of spherical harmonics (Ramamoorthi and Hanrahan, 2001); paint that does not follow the form falls
    out of the fit.
    """
    weights = image_B3HW.new_tensor(LUMINANCE)[:, None, None]
    luminance = ((image_B3HW + 1) / 2 * weights).sum(1, keepdim=True)
    inside = ((mask_B1HW > 0.5) & normals_B3HW.any(1, keepdim=True)).to(image_B3HW).flatten(2)
    area = inside.sum(-1, keepdim=True).clamp_min(1)
    faces, brightness = normals_B3HW.flatten(2), (luminance + DARKEST).log().flatten(2)
    faces, brightness = (x - (x * inside).sum(-1, keepdim=True) / area for x in (faces, brightness))
    spread = (faces * inside) @ faces.mT / area + RIDGE * torch.eye(3, device=faces.device)
    return torch.linalg.solve(spread, (faces * inside) @ brightness.mT / area)[..., 0]


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


def in_space(image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor | None, turn_B: Tensor,
             axis_B3: Tensor | None = None, **camera: float) -> tuple[Tensor, Tensor]:
    """The picture with its object turned in space as far as it was seen, (B, 3, H, W); where that is (B, 1, H, W).

    The light stays where it was, so the surface is lit as it faces now. Where the object was, its surroundings go on.
    Without depth, or where the turn is NaN, the picture is as it was. axis: as in `turned`.
    """
    if depth_B1HW is None:
        return image_B3HW, torch.zeros_like(mask_B1HW)
    given, (image_B3HW, mask_B1HW, depth_B1HW, turn_B) = image_B3HW, (
        x.float() for x in (image_B3HW, mask_B1HW, depth_B1HW, turn_B))
    axis_B3 = outline_axis(mask_B1HW, depth_B1HW, **camera) if axis_B3 is None else axis_B3.float()
    surface, covered = turned_and_lit(image_B3HW, mask_B1HW, depth_B1HW, turn_B, axis_B3, **camera)
    gone = F.max_pool2d((mask_B1HW > 0.02).to(image_B3HW), 5, 1, 2)
    picture = image_B3HW * (1 - gone) + surroundings(image_B3HW, gone) * gone
    picture = picture * (1 - covered) + surface * covered
    picture = torch.where(turn_B.isnan()[:, None, None, None], image_B3HW, picture)
    return picture.to(given), covered.to(given)


def turned_and_lit(image_B3HW: Tensor, mask_B1HW: Tensor, depth_B1HW: Tensor, turn_B: Tensor, axis_B3: Tensor,
                   **camera: float) -> tuple[Tensor, Tensor]:
    """`turned`, with every point as bright as it is once it has turned, under a light that stays."""
    faces = normals(mask_B1HW, depth_B1HW, **camera)
    before, turn, elevation = faces.movedim(1, -1), turn_B.nan_to_num()[:, None, None], axis_B3[:, 2, None, None]
    change = (about_vertical(before, turn, elevation) - before).movedim(-1, 1)
    light = light_of(image_B3HW, mask_B1HW, faces)[:, :, None, None]
    gain = (change * light).sum(1, keepdim=True).clamp(-1, 1).exp()
    lit = ((image_B3HW + 1) / 2 * gain).clamp(0, 1) * 2 - 1
    return turned(lit, mask_B1HW, depth_B1HW, turn_B, axis_B3, **camera)


def inner(covered_B1HW: Tensor) -> Tensor:
    """How far inside a region each pixel lies, from 0 at its border to 1 a few pixels from it, (B, 1, H, W)."""
    reach = max(1, covered_B1HW.shape[-1] // 64)
    core = -F.max_pool2d(-covered_B1HW, 2 * reach + 1, 1, reach)
    return F.avg_pool2d(core, 2 * reach + 1, 1, reach) * covered_B1HW


def surroundings(image_B3HW: Tensor, gone_B1HW: Tensor) -> Tensor:
    """What lies around a hole, drawn into it from coarse to fine, (B, 3, H, W)."""
    rest = 1 - gone_B1HW
    fill = (image_B3HW * rest).mean((2, 3), keepdim=True) / rest.mean((2, 3), keepdim=True).clamp_min(1e-3)
    for cells in (2, 4, 8, 16, 32):
        share = F.adaptive_avg_pool2d(rest, cells)
        seen = F.adaptive_avg_pool2d(image_B3HW * rest, cells) / share.clamp_min(1e-3)
        fill = F.interpolate(fill, size=cells, mode="bilinear", align_corners=False).lerp(seen, share)
    return F.interpolate(fill, size=image_B3HW.shape[-1], mode="bilinear", align_corners=False)


def blurred(x: Tensor, reach: int) -> Tensor:
    """Three box blurs of 2 · (reach // 3) + 1 pixels: nearly a Gaussian."""
    r = max(1, reach // 3)
    for _ in range(3):
        x = F.avg_pool2d(F.pad(x, (r, r, r, r), mode="replicate"), 2 * r + 1, 1)
    return x


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


class ToffeeViewPipeline(DiffusionPipeline):
    """Draws an object from another side in the surroundings of its picture.

    vae: autoencoder; text_encoder, tokenizer: of the prompt, with SDXL two of each; unet: ToffeeViewUNet; encoder:
    Dinov2Model; scheduler: any of diffusers' for the base's noise schedule; field_of_view, nearest, farthest: of the
    camera and of the depth that it is given, see `turned`; axis: ToffeeAxis, which finds the axes of objects; without
    one they follow their outlines, see `outline_axis`.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->axis->encoder->unet->vae"
    _optional_components = ["text_encoder_2", "tokenizer_2", "axis"]

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, encoder: Any, scheduler: Any,
                 field_of_view: float = 0.628, nearest: float = 1.5, farthest: float = 9.0,
                 text_encoder_2: Any = None, tokenizer_2: Any = None, axis: Any = None) -> None:
        super().__init__()
        self.register_to_config(field_of_view=field_of_view, nearest=nearest, farthest=farthest)
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, encoder=encoder,
                              scheduler=scheduler, text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, axis=axis)
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

    @torch.no_grad()
    def __call__(self, prompt: str | Sequence[str], image: Tensor, mask: Tensor,
                 turn: Sequence[float] | Tensor | None = None, depth: Tensor | None = None, strength: float = 0.9,
                 num_inference_steps: int = 1, generator: torch.Generator | list[torch.Generator] | None = None,
                 surface: float = 0.5, looks: int = 1, output_type: str = "pil", return_dict: bool = True
                 ) -> ImagePipelineOutput | tuple[Any]:
        """New views of B objects.

        image: (B, 3, H, W) in [-1, 1]; mask: (B, 1, H, W) in [0, 1], the object; turn: radians about the vertical axis
        from the shown view to the wanted one, NaN or None to leave it open; depth: (B, 1, H, W) in [0, 1], of `image`,
        see `turned`, or (B, looks, H, W), an estimate for each look; without it nothing is turned in space, and the
        denoiser goes by the patches alone; strength: how far the known view is noised at the start, in (0, 1], and
        num_inference_steps: a View Generator may have learnt one step from .9 alone; surface: part of the finest
        structure that is drawn, in [0, 1], that gives way to the sharper one of the turned surface, where there is any;
        looks: 1 to len(LOOKS), at pictures that are moved by half a latent cell or a tenth larger, whose mean is the
        view (cycle spinning, Coifman and Donoho, 1995): errors that come of where the cells and patches lie fall out,
        for as many times the work; output_type: pil, np, pt, or latent, which has nothing of these pixels and takes one
        look. Latents beyond the object's reach stay as they are. Raises ValueError.
        """
        if not 0 < strength <= 1 or num_inference_steps < 1 or not 0 <= surface <= 1:
            raise ValueError("strength must be in (0, 1], num_inference_steps >= 1 and surface in [0, 1]: "
                             f"{strength}, {num_inference_steps}, {surface}")
        if not 1 <= looks <= (1 if output_type == "latent" else len(LOOKS)):
            raise ValueError(f"looks must be in [1, {len(LOOKS)}], and 1 where latents are wanted: {looks}")
        if depth is not None and depth.shape[1] not in (1, looks):
            raise ValueError(f"depth must be one estimate or one for each of {looks} looks: {depth.shape[1]}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        turns = torch.full((len(prompts),), torch.nan) if turn is None else torch.as_tensor(turn, dtype=torch.float32)
        turns, text, drawn = turns.to(image), self._text(prompts, image.shape[-1]), []
        side = image.shape[-1] // self.image_processor.config.vae_scale_factor
        for i, look in enumerate(LOOKS[:looks]):
            estimate = None if depth is None else depth[:, i % depth.shape[1], None]
            axes = axes_of(self.axis, image, mask, estimate, **self.camera)
            moved, covered = in_space(image, mask, estimate, turns, axes, **self.camera)
            shown, shown_mask, shown_moved, shown_covered = (
                looked_at(x, look, side) for x in (image, mask, moved, covered))
            found = self._drawn(shown, shown_mask, shown_moved, shown_covered, turns, text, strength,
                                num_inference_steps, generator)
            if output_type != "latent":
                decoded = self.vae.decode(found.to(image) / self.vae.config.scaling_factor, return_dict=False)[0]
                picture, within = looked_back(decoded, look, side)
                coarse = blurred(moved - picture, FINE_PX * picture.shape[-1] // 128)
                drawn.append((picture + surface * inner(covered) * (moved - picture - coarse), within))
        images: Any = found
        if drawn:
            mean = mean_look(drawn)
            if looks > 1:             # edges on which they do not agree are blurred by it
                mean = mean + SHARPENED * (mean - blurred(mean, SHARPENED_PX * mean.shape[-1] // 128))
            images = self.image_processor.postprocess(mean, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @property
    def camera(self) -> dict[str, float]:
        """What `turned` has to know."""
        return {name: self.config[name] for name in ("field_of_view", "nearest", "farthest")}

    def _text(self, prompts: list[str], size_px: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Hidden states of the prompts, (B, N, T), and what SDXL is told besides."""
        models = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        return text_condition([pair for pair in models if pair[1] is not None], prompts, size_px)

    def _drawn(self, image: Tensor, mask: Tensor, moved: Tensor, covered: Tensor, turns: Tensor,
               text: tuple[Tensor, dict[str, Tensor] | None], strength: float, steps: int, generator: Any) -> Tensor:
        """Latents of the new views, of pictures and of them with the object turned in space."""
        latents, moved_latents = (self.vae.encode(x).latent_dist.mode() * self.vae.config.scaling_factor
                                  for x in (image, moved))
        side = latents.shape[-1]
        features = view_features(self.encoder, fitted(self.encoder, image * mask, side))
        tokens, seen = self.unet.tokens(features, subject_patches(mask, math.isqrt(features.shape[1])), turns)
        space = (view_region(mask, side), moved_latents, F.adaptive_avg_pool2d(covered, side))
        return self._denoise(latents, space, text, tokens, seen, strength, steps, generator)

    def _denoise(self, known: Tensor, space: tuple[Tensor, Tensor, Tensor],
                 text: tuple[Tensor, dict[str, Tensor] | None], tokens: Tensor, seen: Tensor, strength: float,
                 steps: int, generator: Any) -> Tensor:
        """DDIM from the noised known view (Song et al., 2021, Eq. 12); outside the region its latents stay."""
        noise = randn_tensor(known.shape, generator=generator, device=known.device, dtype=known.dtype)
        alphas = self.scheduler.alphas_cumprod.to(known.device).sqrt()
        times = torch.linspace(int(strength * (len(alphas) - 1)), 0, steps + 1)[:-1].long().tolist()
        clean, region = known, space[0]
        for t in self.progress_bar(times):
            alpha, sigma = alphas[t], (1 - alphas[t] ** 2).sqrt()
            x = alpha * clean + sigma * noise
            at = torch.full((len(x),), t, device=x.device)
            found = self.unet(x, at, text[0], tokens, seen, known, *space, alpha.expand(len(x)), text[1])
            clean = known * (1 - region) + found * region
            noise = (x - alpha * clean) / sigma
        return clean
