"""Training of what finds the axes of objects: pictures of which the camera is known tell where axes should be.

With estimated depth the true axis is not the best one, since the whole object may be thought too near. So the axis to
learn is the one about which the estimated surface moves over the picture as the true one does. B batch, N points.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from toffee_hf.errors import InputError
from toffee_hf.models.toffee_axis import ToffeeAxis
from toffee_hf.pipelines.pipeline_toffee_view import about_vertical, outline_axis, solid_distance
from toffee_hf.toy.render import CAMERA, FARTHEST, FIELD_OF_VIEW, NEAREST, Camera
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import Pool

HALF = math.tan(FIELD_OF_VIEW / 2)
USUAL = (0.01, 0.05, 0.07)            # sizes of errors: x at z = 1, units of the toy world, radians
FITTED_BY = (0.9, -0.9)               # turns in radians
STRIDE = 6                            # of the points that are followed, on a grid of twice the picture's size
ROUNDS, DIFFERENCE, LARGEST = 6, 1e-3, 0.15  # Gauss-Newton steps; of finite differences; largest change a step
CAUCHY_SCALE = 4 / 64                 # error in half frames at which a point counts half


def fitted_axes(mask_B1HW: Tensor, seen_B1HW: Tensor, depth_B1HW: Tensor, cameras: list[Camera]) -> Tensor:
    """The axes (B, 3), see `outline_axis`, about which `seen` depth moves as the true depth does about the true axis.

    mask, seen, depth: float32 in [0, 1], 1 nearest; cameras: one a picture. Gauss-Newton steps over what is visible,
    turned to both sides, with Cauchy weights (Holland and Welsch, 1977, iteratively reweighted least squares).
    """
    told = seen_B1HW.new_tensor([[c.elevation, c.distance, *c.shift] for c in cameras])
    elevation, shift = told[:, :1], told[:, None, 2:]
    seen, solid = _points(mask_B1HW, seen_B1HW, torch.zeros_like(shift))
    true, _ = _points(mask_B1HW, depth_B1HW, shift)
    about = torch.stack([0 * elevation, 0 * elevation, -told[:, 1:2]], -1)
    wanted = [_projected(about + about_vertical(true - about, true.new_tensor(turn), elevation)) + 2 * shift
              for turn in FITTED_BY]

    def errors(axis: Tensor) -> Tensor:
        across, z, tilt = axis[:, None].unbind(-1)
        on_axis = torch.stack([across * z, 0 * z, -z], -1)
        return torch.cat([_projected(on_axis + about_vertical(seen - on_axis, seen.new_tensor(turn), tilt)) - goal
                          for turn, goal in zip(FITTED_BY, wanted, strict=True)], -1)

    axis = outline_axis(mask_B1HW, seen_B1HW, **CAMERA)
    step = DIFFERENCE * torch.eye(3)
    for _ in range(ROUNDS):
        off = errors(axis)
        weight = solid / (1 + off.square().sum(-1) / CAUCHY_SCALE**2)
        slope = torch.stack([(errors(axis + step[k]) - off) / DIFFERENCE for k in range(3)], -1)
        curvature = torch.einsum("bnek,bnel,bn->bkl", slope, slope, weight) + 1e-3 * torch.eye(3)
        downhill = torch.einsum("bnek,bne,bn->bk", slope, off, weight)
        axis = axis - torch.linalg.solve(curvature, downhill).clamp(-LARGEST, LARGEST)
    return axis


def _points(mask: Tensor, depth: Tensor, shift_B12: Tensor) -> tuple[Tensor, Tensor]:
    """Points of the visible surface in the camera's frame, (B, N, 3), and which of them there are, (B, N)."""
    distance, solid = (x[:, ::STRIDE, ::STRIDE] for x in solid_distance(mask, depth, NEAREST, FARTHEST))
    line = ((torch.arange(2 * mask.shape[-1])[::STRIDE] + 0.5) / mask.shape[-1] - 1)
    place = torch.stack(torch.meshgrid(line, -line, indexing="xy"), -1).flatten(0, 1)
    across, up = ((place - 2 * shift_B12) * HALF).unbind(-1)
    z = distance.flatten(1) / (across**2 + up**2 + 1).sqrt()
    return torch.stack([across * z, up * z, -z], -1), solid.flatten(1).float()


def _projected(points_BN3: Tensor) -> Tensor:
    """Where the camera sees points, in half frames (B, N, 2)."""
    return points_BN3[..., :2] / (-points_BN3[..., 2:]).clamp_min(0.3) / HALF


@torch.no_grad()
def fit_pool(pool: Pool, batch_size: int = 64) -> None:
    """Store the axis to learn of every row of a pool whose depth has been estimated. Raises InputError where a row's
    has not."""
    target = pool.folder / "axes.npy"
    if not target.exists():
        if not all(plane.any() for plane in pool.arrays["estimated"]):
            raise InputError(f"{pool.folder} has estimates of some photos only, made by an earlier version; remove "
                             "estimated.npy there, and estimates.done beside it")
        with replace(pool.place, precision="no").entered():
            found = [fitted_axes(pool.planes("mask", index), pool.planes("estimated", index),
                                 pool.planes("depth", index), [pool.shots[i].camera for i in index.tolist()]).cpu()
                     for index in tqdm(torch.arange(len(pool)).split(batch_size), desc="axes", disable=None)]
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, torch.cat(found).numpy())
        part.rename(target)
    pool.arrays["axes"] = np.load(target, mmap_mode="r")


def train_axis(model: ToffeeAxis, pool: Pool, schedule: Schedule, folder: Path, seed: int) -> ToffeeAxis:
    """Axes from pool photos, true masks and estimated depth."""
    scale = torch.tensor(USUAL, device=pool.place.device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        photo, mask, depth = pool.pictures("photo", index), pool.planes("mask", index), pool.planes("estimated", index)
        found = model(photo, mask, depth, outline_axis(mask, depth, **CAMERA))
        error = (found - pool.rows("axes", index)) / scale
        return {"loss": F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.7), "across": error[:, 0].abs().mean(),
                "distance": error[:, 1].abs().mean(), "elevation": error[:, 2].abs().mean()}

    fit("axis", model, loss, schedule, folder, seed, place=replace(pool.place, precision="no"))
    return model
