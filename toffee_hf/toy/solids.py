"""Signed distance functions of simple solids; negative inside, in object units (a subject is about one unit tall).

Every function takes the coordinates as three (N,) tensors and returns (N,). Distances may be underestimates, never
overestimates by more than a few percent, so sphere tracing with a slightly shortened step stays on the outside.
Source of the closed forms: Inigo Quilez, "Distance functions" (https://iquilezles.org/articles/distfunctions/).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Vec = tuple[float, float, float]
Point = tuple[Tensor, Tensor, Tensor]


def length(*components: Tensor) -> Tensor:
    """Euclidean length of vectors given by their components, each (N,)."""
    total = components[0] * components[0]
    for c in components[1:]:
        total = torch.addcmul(total, c, c)
    return total.sqrt_()


def moved(p: Point, centre: Vec) -> Point:
    """Coordinates relative to `centre`."""
    return p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]


def turned_y(p: Point, angle: float) -> Point:
    """Coordinates in a frame turned by `angle` radians about the vertical axis."""
    c, s = math.cos(angle), math.sin(angle)
    return p[0] * c - p[2] * s, p[1], p[0] * s + p[2] * c


def sphere(p: Point, centre: Vec, radius: float) -> Tensor:
    return length(*moved(p, centre)) - radius


def ellipsoid(p: Point, centre: Vec, radii: Vec) -> Tensor:
    x, y, z = moved(p, centre)
    a, b, c = radii
    k0 = length(x / a, y / b, z / c)
    k1 = length(x / (a * a), y / (b * b), z / (c * c))
    return k0 * (k0 - 1) / k1.clamp_min(1e-6)


def box(p: Point, centre: Vec, half: Vec, rounding: float = 0.03) -> Tensor:
    """Box with rounded edges; `half` are its half sizes, rounding included."""
    q = moved(p, centre)
    x, y, z = (abs(c) - (h - rounding) for c, h in zip(q, half, strict=True))
    outside = length(x.clamp_min(0), y.clamp_min(0), z.clamp_min(0))
    return outside + torch.maximum(x, torch.maximum(y, z)).clamp_max(0) - rounding


def cylinder(p: Point, centre: Vec, radius: float, half_height: float, rounding: float = 0.03) -> Tensor:
    """Upright cylinder with rounded rims."""
    x, y, z = moved(p, centre)
    r = length(x, z) - (radius - rounding)
    h = abs(y) - (half_height - rounding)
    return length(r.clamp_min(0), h.clamp_min(0)) + torch.maximum(r, h).clamp_max(0) - rounding


def wheel(p: Point, centre: Vec, radius: float, half_width: float) -> Tensor:
    """Cylinder that lies along z."""
    x, y, z = moved(p, centre)
    return cylinder((x, z, y), (0, 0, 0), radius, half_width, 0.02)


def cone(p: Point, bottom_y: float, top_y: float, bottom_radius: float, top_radius: float) -> Tensor:
    """Upright capped cone about the y axis, a close lower bound."""
    x, y, z = p
    half = (top_y - bottom_y) / 2
    slope = (bottom_radius - top_radius) / (2 * half)
    t = ((y - bottom_y) / (2 * half)).clamp(0, 1)
    side = (length(x, z) - (bottom_radius + (top_radius - bottom_radius) * t)) / math.hypot(1, slope)
    return torch.maximum(side, abs(y - (bottom_y + half)) - half)


def torus(p: Point, centre: Vec, radius: float, thickness: float) -> Tensor:
    """Ring in the x-y plane (a handle)."""
    x, y, z = moved(p, centre)
    return length(length(x, y) - radius, z) - thickness


def capsule(p: Point, start: Vec, end: Vec, radius: float, end_radius: float | None = None) -> Tensor:
    """Rod with round ends, optionally tapering from `radius` to `end_radius`."""
    x, y, z = moved(p, start)
    dx, dy, dz = (e - s for s, e in zip(start, end, strict=True))
    t = ((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz)).clamp_(0, 1)
    taper = 0.0 if end_radius is None else end_radius - radius
    return length(x - dx * t, y - dy * t, z - dz * t) - (radius + taper * t)


def union(*parts: Tensor) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = torch.minimum(total, part)
    return total


def blend(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Union whose seam is rounded over `width` (polynomial smooth minimum)."""
    h = (width - abs(a - b)).clamp_min(0) / width
    return torch.minimum(a, b) - h * h * (width / 4)


def carve(solid: Tensor, hollow: Tensor) -> Tensor:
    """`solid` without `hollow`."""
    return torch.maximum(solid, -hollow)
