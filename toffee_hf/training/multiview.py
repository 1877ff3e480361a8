"""Objects with several views: the folder layout of MVImgNet, and pairs of views as examples. B batch, H, W pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_refiner import blurred, mask_box, warp
from toffee_hf.toy.world import Split, toy_subject
from toffee_hf.training.colmap import read_cameras, yaws
from toffee_hf.training.pictures import Picture, Prepared
from toffee_hf.training.pool import pool_shots

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def is_mvimgnet(folder: Path) -> bool:
    """Whether there is a `<class>/<object>/images` folder."""
    return folder.is_dir() and next(folder.glob("*/*/images"), None) is not None


def mvimgnet_pictures(folder: Path) -> list[Picture]:
    """Every picture of `<class>/<object>/images`, with `masks/<name>.png` and the camera in `sparse/0` where they are.

    A class that is only a number is no class word.
    """
    return [picture for images in sorted(folder.glob("*/*/images")) for picture in _object(folder, images)]


def _object(root: Path, images: Path) -> Iterator[Picture]:
    home = images.parent
    turned = yaws(read_cameras(home / "sparse" / "0"))
    thing = home.relative_to(root).as_posix()
    for path in sorted(images.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            mask = next((m for m in (home / "masks" / f"{path.stem}.png", home / "masks" / f"{path.name}.png")
                         if m.is_file()), None)
            word = home.parent.name.replace("_", " ")
            yield Picture(path.relative_to(root).as_posix(), path.read_bytes, word,
                          None if mask is None else mask.read_bytes, thing, turned.get(path.name, math.nan),
                          _version(path) + ("" if mask is None else _version(mask)))


def _version(path: Path) -> str:
    """Size and time of a file, whose bytes are read when it is prepared and not before."""
    if not path.exists():                 # a link to nothing, which is counted when it is read
        return ""
    found = path.stat()
    return f"/{found.st_size}/{found.st_mtime_ns}"


def toy_views(split: Split, index: int, class_name: str, size_px: int) -> list[Picture]:
    """The two shots of a toy subject in the same place that a pool begins with, drawn when they are read."""
    shots = pool_shots(toy_subject(split, index))[:2]
    read = partial(_toy_png, split, index, size_px)
    return [Picture(f"{split}-{index}-{view}", partial(read, view, mask=False), class_name,
                    partial(read, view, mask=True), f"{split}-{index}", shot.camera.yaw)
            for view, shot in enumerate(shots)]


@torch.no_grad()
def _toy_png(split: Split, index: int, size_px: int, view: int, mask: bool) -> bytes:
    from PIL import Image

    subject = toy_subject(split, index)
    shown = subject.render([pool_shots(subject)[view]], size_px)
    values = (shown.mask[0, 0] > 0.5).float() if mask else shown.image[0].permute(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray((values * 255).round().byte().numpy()).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def drawn_pairs(prepared: Prepared, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of two different views of `count` things, (count,) each; every thing is as likely as another."""
    spans = prepared.spans().to(generator.device)
    first, views = spans[torch.randint(len(spans), (count,), generator=generator)].unbind(1)
    u = torch.rand(2, count, generator=generator)
    a = (u[0] * views).long()
    b = (a + 1 + (u[1] * (views - 1)).long()) % views
    return first + a, first + b


def turns(prepared: Prepared, shown: Tensor, wanted: Tensor) -> Tensor:
    """Radians from the shown to the wanted views (B,); NaN where a camera is missing."""
    yaw = torch.tensor(prepared.yaw, device=shown.device)
    return yaw[wanted] - yaw[shown]


def put_in_place(shown_B3HW: Tensor, mask_B1HW: Tensor, wanted_B3HW: Tensor, wanted_mask_B1HW: Tensor
                 ) -> tuple[Tensor, Tensor]:
    """The shown object in the surroundings of the wanted view, as large as it is there: (B, 3, H, W), (B, 1, H, W).

    Views of real objects differ in their surroundings, while the View Generator keeps those of the picture it is
    given. What the wanted object alone covers is filled from around it.
    """
    own, other = mask_box(mask_B1HW), mask_box(wanted_mask_B1HW)
    centre, target = ((box[:, :2] + box[:, 2:]) / 2 for box in (own, other))
    scale = ((own[:, 2:] - own[:, :2]).prod(1) / (other[:, 2:] - other[:, :2]).prod(1)).sqrt()
    zero, shift = torch.zeros_like(scale), centre - scale[:, None] * target
    lay = torch.stack([torch.stack([scale, zero, shift[:, 0]], -1), torch.stack([zero, scale, shift[:, 1]], -1)], 1)
    cut, seen = warp(shown_B3HW * mask_B1HW, lay), warp(mask_B1HW, lay)
    reach = max(1, mask_B1HW.shape[-1] // 64)
    free = 1 - F.max_pool2d(wanted_mask_B1HW, 2 * reach + 1, 1, reach)
    wide = mask_B1HW.shape[-1] // 5
    around = blurred(wanted_B3HW * free, wide) / blurred(free, wide).clamp_min(1e-3)
    ground = wanted_B3HW * free + around.clamp(-1, 1) * (1 - free)
    return cut + ground * (1 - seen), seen
