"""Scenes of the toy world: picture-book places with room for one subject, and the light that belongs to each.

Shapes: H rows, W columns, N shapes drawn at once. Colours are sRGB in [0, 1]. Positions are parts of the picture: x
from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom). Distances to an outline are negative inside.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Vec3 = tuple[float, float, float]
Shapes = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Light:
    """What a subject is shaded with; axes are the camera's: x right, y up, z towards the viewer."""

    direction: Vec3  # unit length, towards the light
    colour: Vec3  # RGB gain of the key light
    ambient: Vec3  # RGB gain everywhere
    shadow: float  # [0, 1], strength of the cast shadow
    shadow_tint: Vec3  # RGB in [0, 1], what full shadow multiplies the ground with


@dataclass(frozen=True, slots=True)
class Background:
    """A painted scene without its subject."""

    image: Tensor  # (3, H, W) float32 in [0, 1]
    ground: Tensor  # (1, H, W) float32 in [0, 1], 1 where a shadow can fall
    light: Light


@dataclass(frozen=True, slots=True)
class Scene:
    """A place: its word, how prompts say it, its light, and the painter that returns the ground's cover (H, W)."""

    name: str
    phrases: tuple[str, ...]
    light: Light
    paint: Callable[[Canvas], Tensor]


@lru_cache(maxsize=8)
def _grid(size_px: int, device: str) -> tuple[Tensor, Tensor]:
    centre = (torch.arange(size_px, dtype=torch.float32) + 0.5) / size_px
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return x.contiguous().to(device), y.contiguous().to(device)


@lru_cache(maxsize=1024)
def _rgb(hex_colour: str, device: str) -> Tensor:
    values = [int(hex_colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return torch.tensor(values, device=device).view(3, 1, 1)


class Canvas:
    """A square picture while it is painted: soft-edged shapes, gradients and slow noise, from one seeded source."""

    def __init__(self, random_source: random.Random, size_px: int, device: str) -> None:
        self.random = random_source
        self.device = device
        self.size_px = size_px
        self.x, self.y = _grid(size_px, device)
        self._row, self._column = self.x[:1], self.y[:, :1]  # (1, W), (H, 1): shapes meet them as late as they can
        self.image = torch.zeros(3, size_px, size_px, device=device)

    def draw(self, low: float, high: float) -> float:
        """A uniform number."""
        return self.random.uniform(low, high)

    def near(self, centre: float, spread: float) -> float:
        """A uniform number within `spread` of `centre`."""
        return self.random.uniform(centre - spread, centre + spread)

    def beside(self, margin: float = 0.0) -> float:
        """An x in the left or right quarter of the picture, away from the subject."""
        return self.random.choice((self.draw(0.02, 0.26 - margin), self.draw(0.74 + margin, 0.98)))

    def cover(self, distance: Tensor, soft: float = 0.0) -> Tensor:
        """Share of each pixel inside an outline, in [0, 1]; `soft` widens the edge, in parts of the picture."""
        width = 1.3 / self.size_px + soft
        return (0.5 - distance / width).clamp_(0, 1)

    def paint(self, cover: Tensor, colour: str | Tensor, opacity: float = 1.0) -> None:
        """Lay a colour (hex, or (3, H, W)) over the picture where `cover` (H, W) says."""
        tint = _rgb(colour, self.device) if isinstance(colour, str) else colour
        self.image = torch.lerp(self.image, tint, cover * opacity if opacity != 1 else cover)

    def blend(self, stops: Sequence[str], amount: Tensor) -> Tensor:
        """Colours (3, H, W) along a ramp of evenly spaced stops; `amount` in [0, 1]."""
        place = amount.clamp(0, 1) * (len(stops) - 1)
        colours = _rgb(stops[0], self.device)
        for i, stop in enumerate(stops[1:]):
            colours = torch.lerp(colours, _rgb(stop, self.device), (place - i).clamp_(0, 1))
        return colours

    def fall(self, top: float, bottom: float) -> Tensor:
        """0 at y = top to 1 at y = bottom."""
        return (self.y - top) / (bottom - top)

    def noise(self, rows: int, columns: int) -> Tensor:
        """Slow noise (H, W), about [-1, 1], with so many bumps down and across."""
        values = [[self.random.uniform(-1, 1) for _ in range(columns + 2)] for _ in range(rows + 2)]
        cells = torch.tensor(values, device=self.device)[None, None]
        size = (self.size_px, self.size_px)
        return F.interpolate(cells, size=size, mode="bicubic", align_corners=True)[0, 0]

    def shade(self, cover: Tensor, amount: Tensor) -> None:
        """Lighten or darken by a factor of 1 + amount where `cover` says."""
        self.image = self.image * (1 + cover * amount)

    def _columns(self, shapes: Shapes) -> tuple[Tensor, ...]:
        return torch.tensor(shapes, device=self.device)[:, :, None, None].unbind(1)

    def discs(self, shapes: Shapes) -> Tensor:
        """Distance (H, W) to the union of discs (x, y, radius)."""
        x, y, radius = self._columns(shapes)
        return ((self._row - x).square() + (self._column - y).square()).sqrt_().sub_(radius).amin(0)

    def ellipses(self, shapes: Shapes) -> Tensor:
        """About the distance (H, W) to the union of ellipses (x, y, half width, half height, turn in radians)."""
        x, y, wide, high, turn = self._columns(shapes)
        dx, dy, cos, sin = self._row - x, self._column - y, turn.cos(), turn.sin()
        along = (dx * (cos / wide) + dy * (sin / wide)).square_()
        reach = (dy * (cos / high) - dx * (sin / high)).square_().add_(along).sqrt_()
        return reach.sub_(1).mul_(torch.minimum(wide, high)).amin(0)

    def boxes(self, shapes: Shapes, corner: float = 0.0) -> Tensor:
        """Distance (H, W) to the union of boxes (left, top, right, bottom), their corners rounded or cut square."""
        left, top, right, bottom = self._columns(shapes)
        dx = (self._row - (left + right) / 2).abs() - (right - left) / 2
        dy = (self._column - (top + bottom) / 2).abs() - (bottom - top) / 2
        if not corner:
            return torch.maximum(dx, dy).amin(0)
        outside = ((dx + corner).clamp_(min=0).square_() + (dy + corner).clamp_(min=0).square_()).sqrt_()
        return outside.add_(torch.maximum(dx, dy).add_(corner).clamp_(max=0)).amin(0) - corner

    def strokes(self, shapes: Shapes) -> Tensor:
        """Distance (H, W) to the union of round-ended lines (x0, y0, x1, y1, half width)."""
        x0, y0, x1, y1, half = self._columns(shapes)
        dx, dy = x1 - x0, y1 - y0
        scale = 1 / (dx * dx + dy * dy + 1e-9)
        px, py = self._row - x0, self._column - y0
        along = (px * (dx * scale) + py * (dy * scale)).clamp_(0, 1)
        return ((px - along * dx).square_() + (py - along * dy).square_()).sqrt_().sub_(half).amin(0)

    def firs(self, shapes: Shapes) -> Tensor:
        """Distance (H, W) to the union of upright triangles (x, top, half width, bottom)."""
        x, top, half, bottom = self._columns(shapes)
        slope = half / (bottom - top)
        lean = (1 + slope * slope).sqrt()
        side = (self._row - x).abs() / lean - (self._column - top) * (slope / lean)
        return torch.maximum(side, self._column - bottom).amin(0)

    def ridge(self, level: float, height: float, bumps: int, sharp: bool = False) -> Tensor:
        """Distance (H, W) to the land under a hilly line around y = level: so many bumps, round or pointed."""
        heights = [self.random.uniform(-1, 1) for _ in range(bumps + 3)]
        if sharp:
            heights = [0.65 + 0.35 * abs(h) if i % 2 else -0.3 - 0.5 * abs(h) for i, h in enumerate(heights)]
        points = torch.tensor(heights, device=self.device).view(1, 1, 1, -1)
        long = round(self.size_px * (bumps + 2) / bumps)
        line = F.interpolate(points, size=(1, long), mode="bilinear" if sharp else "bicubic", align_corners=True)
        start = round(self.draw(0, long - self.size_px))
        return (level - height * line[0, 0, :, start : start + self.size_px]) - self.y

    def ground(self, far: float, colours: Sequence[str], bend: Tensor | None = None) -> Tensor:
        """Paint everything below y = far with a ramp towards the viewer; the ground's cover (H, W)."""
        cover = self.cover(far - self.y if bend is None else far + bend - self.y)
        self.paint(cover, self.blend(colours, self.fall(far, 1.0)))
        return cover

    def clouds(self, count: int, low: float, high: float, colour: str = "ffffff", opacity: float = 0.9) -> None:
        """Soft flat-bottomed clouds between two heights."""
        for _ in range(count):
            x, y, scale = self.draw(0.05, 0.95), self.draw(low, high), self.draw(0.7, 1.2)
            puffs = [(x + dx * scale, y - dy * scale, r * scale) for dx, dy, r in _PUFFS]
            shape = torch.maximum(self.discs(puffs), self.y - y - 0.012)
            self.paint(self.cover(shape, 0.03), colour, opacity)

    def glow(self, x: float, y: float, reach: float, colour: str, strength: float) -> None:
        """Add soft light around a point."""
        fade = torch.exp(-((self.x - x) ** 2 + (self.y - y) ** 2) / (reach * reach))
        self.image = torch.lerp(self.image, _rgb(colour, self.device), fade * strength)

    def boards(self, cover: Tensor, vanish: float, width: float, colour: str, opacity: float) -> None:
        """Gaps between floor boards that run away from the viewer to y = vanish."""
        depth = (self.y - vanish).clamp(min=0.02)
        across = (self.x - 0.5) / depth / width + self.draw(0, 1)
        gap = ((across - across.floor()) - 0.5).abs() * depth * width
        self.paint(cover * self.cover(gap - 0.005, 0.012), colour, opacity)


_PUFFS = ((-0.11, 0.01, 0.045), (-0.05, 0.04, 0.06), (0.03, 0.055, 0.07), (0.1, 0.015, 0.05))


def _beach(c: Canvas) -> Tensor:
    shore = c.near(0.47, 0.03)
    sea = shore - 0.13
    c.image = c.blend(("4fb3ea", "a6dcf5", "e6f6fa"), c.fall(0, sea))
    c.clouds(2, 0.1, 0.24)
    c.paint(c.cover(sea - c.y), c.blend(("1b84b8", "2fb0c4", "8fe0d4"), c.fall(sea, shore)))
    boat = c.draw(0.12, 0.3) if c.random.random() < 0.5 else c.draw(0.7, 0.88)
    c.paint(c.cover(c.firs([(boat, sea - 0.11, 0.045, sea - 0.01)])), "fffaf0")
    c.paint(c.cover(c.boxes([(boat - 0.055, sea - 0.008, boat + 0.055, sea + 0.018)], 0.012)), "c8503c")
    wave = 0.012 * torch.sin(c.x * c.draw(8, 11) + c.draw(0, 6)) + 0.006 * torch.sin(c.x * 23 + c.draw(0, 6))
    sand = c.ground(shore, ("e0bd85", "f2d9a2", "f8e4b4", "f0d296"), wave)
    c.shade(sand, 0.035 * c.noise(9, 4))
    c.paint(c.cover((c.y - shore - wave).abs() - 0.014, 0.015), "ffffff", 0.95)
    return sand


def _snow(c: Canvas) -> Tensor:
    far = c.near(0.46, 0.03)
    c.image = c.blend(("9dbfe0", "cfe0f0", "f1f3f6"), c.fall(0, far))
    c.paint(c.cover(c.ridge(far - 0.06, 0.05, 3)), "d3e1ef")
    for _ in range(6):
        x, foot, tall = c.beside(), far + c.draw(-0.01, 0.03), c.draw(0.18, 0.34)
        tiers = [(x, foot - tall * a, tall * w, foot - tall * b) for a, w, b in _TIERS]
        c.paint(c.cover(c.firs(tiers)), "4f7d7c")
        c.paint(c.cover(c.firs([(x, t, w * 0.62, t + (b - t) * 0.5) for x, t, w, b in tiers])), "f4f8fc")
    snow = c.ground(far, ("e3ecf5", "f3f6fa", "fbfcfe", "eaf1f9"), 0.02 * torch.sin(c.x * 5 + c.draw(0, 6)))
    c.shade(snow, 0.05 * c.noise(4, 2).clamp(max=0))
    flakes = [(c.draw(0, 1), c.draw(0, far - 0.03), c.draw(0.008, 0.015)) for _ in range(16)]
    c.paint(c.cover(c.discs(flakes), 0.012), "ffffff", 0.9)
    return snow


_TIERS = ((1.0, 0.17, 0.55), (0.78, 0.24, 0.28), (0.52, 0.31, 0.0))


def _meadow(c: Canvas) -> Tensor:
    far = c.near(0.46, 0.03)
    c.image = c.blend(("5aaeea", "9fd4f5", "e4f4fb"), c.fall(0, far))
    c.clouds(3, 0.08, 0.25)
    c.paint(c.cover(c.ridge(far - 0.07, 0.05, 2)), "a5d08a")
    trees = [(x, far - c.draw(0.06, 0.09), c.draw(0.04, 0.07)) for x in (c.beside(), c.beside(), c.beside())]
    c.paint(c.cover(c.strokes([(x, y, x, far, 0.011) for x, y, _ in trees])), "7a5a3c")
    c.paint(c.cover(c.discs(trees)), "4c9a4e")
    grass = c.ground(far, ("8fca62", "74b84c", "5aa53e"), 0.025 * torch.sin(c.x * 4 + c.draw(0, 6)))
    c.shade(grass, 0.06 * c.noise(12, 6))
    for colour in ("f45b69", "ffd447", "ffffff", "b986e8"):
        spots = [(c.beside(), far + 0.08 + c.draw(0, 0.45)) for _ in range(6)]
        heads = [(x, y, 0.008 + 0.022 * (y - far)) for x, y in spots]
        c.paint(c.cover(c.discs(heads), 0.006), colour)
    return grass


def _desert(c: Canvas) -> Tensor:
    far = c.near(0.48, 0.03)
    c.image = c.blend(("58b7c4", "a8dccb", "fbe9b8"), c.fall(0, far))
    sun = c.draw(0.66, 0.86)
    c.glow(sun, 0.15, 0.2, "fff6cf", 0.8)
    c.paint(c.cover(c.discs([(sun, 0.15, 0.065)]), 0.01), "fffbe6")
    c.paint(c.cover(c.ridge(far - 0.1, 0.06, 3)), "e8a85e")
    dune = c.ridge(far - 0.03, 0.05, 3)
    c.paint(c.cover(dune), c.blend(("f3bd72", "c9803f"), (c.x * 3 + dune * 6 + c.draw(0, 1)).sin() * 0.5 + 0.5))
    sand = c.ground(far, ("e09f52", "eeb465", "f4c279"), 0.03 * torch.sin(c.x * 4 + c.draw(0, 6)))
    ripple = torch.sin((c.y - far).clamp(min=0).sqrt() * 46 + 1.6 * c.noise(3, 3))
    c.shade(sand, 0.045 * ripple)
    x, side = c.draw(0.1, 0.2), 0.07
    foot, top = far + 0.1, far - c.draw(0.2, 0.26)
    arms = [(x, foot, x, top, 0.03)]
    for way, low, high in ((-side, 0.16, 0.24), (side, 0.2, 0.3)):
        arms.append((x + way, foot - low, x, foot - low + 0.04, 0.019))
        arms.append((x + way, foot - low, x + way, foot - high, 0.019))
    cactus = c.strokes(arms)
    c.paint(c.cover(cactus), "3f7f4d")
    c.paint(c.cover(cactus + 0.014, 0.02), "66a862", 0.8)
    return sand


def _forest(c: Canvas) -> Tensor:
    far = c.near(0.5, 0.03)
    c.image = c.blend(("23493a", "5d9160", "c5d99a"), c.fall(0, far))
    c.glow(0.5, 0.3, 0.25, "eef4bd", 0.75)
    for count, wide, colour, low in ((6, 0.014, "7fa377", 0.0), (5, 0.026, "4b6b4b", 0.01), (4, 0.045, "3a3326", 0.05)):
        trunks = [(x, -0.1, x + c.near(0, 0.02), far + low, wide * c.draw(0.8, 1.2)) for x in _spread(c, count)]
        c.paint(c.cover(c.strokes(trunks)), colour)
    floor = c.ground(far, ("86a355", "5b8144", "3d6237"), 0.015 * torch.sin(c.x * 7 + c.draw(0, 6)))
    c.shade(floor, 0.12 * c.noise(8, 5))
    c.paint(c.cover(-c.ridge(0.08, 0.06, 7)), "1f4a33")
    beam = ((c.x - 0.35 + 0.55 * c.y + c.draw(-0.05, 0.05)) * 9).sin().clamp(min=0) * (1 - c.fall(0, 0.75)).clamp(0, 1)
    c.paint(beam, "fbf8c8", 0.28)
    for colour in ("2f6b3c", "458a48"):
        ferns = [(c.beside(), far + c.draw(0.03, 0.1), 0.09, 0.024, c.near(0, 0.8)) for _ in range(5)]
        c.paint(c.cover(c.ellipses(ferns)), colour)
    return floor


def _spread(c: Canvas, count: int) -> list[float]:
    """x positions over both sides of the picture, none behind the subject's middle."""
    left = [c.near(0.04 + 0.3 * i / max(1, count // 2), 0.03) for i in range((count + 1) // 2)]
    right = [c.near(0.96 - 0.3 * i / max(1, count // 2), 0.03) for i in range(count // 2)]
    return left + right


def _city(c: Canvas) -> Tensor:
    far = c.near(0.5, 0.03)
    c.image = c.blend(("0c1236", "243072", "6a4f92"), c.fall(0, far))
    moon = c.draw(0.74, 0.88)
    c.glow(moon, 0.13, 0.14, "9aa7e0", 0.5)
    c.paint(c.cover(c.discs([(moon, 0.13, 0.05)])), "fdf6d8")
    for colour, low, high, step in (("2f3570", 0.22, 0.4, 0.12), ("161b45", 0.1, 0.3, 0.17)):
        left = -c.draw(0.0, 0.06)
        towers = []
        while left < 1:
            wide = step * c.draw(0.8, 1.2)
            tall = c.draw(low, high) * (0.72 if 0.3 < left + wide / 2 < 0.7 else 1.0)
            towers.append((left, far - tall, left + wide - 0.012, far + 0.02))
            left += wide
        c.paint(c.cover(c.boxes(towers)), colour)
        panes = [p for t in towers for p in _windows(c, t)]
        c.paint(c.cover(c.boxes(panes)), "ffd36b", 0.92)
    street = c.ground(far, ("3b3a63", "44456f", "2d3058"))
    for x in (c.draw(0.06, 0.2), c.draw(0.42, 0.58), c.draw(0.8, 0.94)):
        pool = torch.exp(-(((c.x - x) / 0.07) ** 2)) * (1 - c.fall(far, 0.95)).clamp(0, 1) * street
        c.paint(pool, "ffbe6b", 0.5)
    c.paint(street * c.cover((c.y - far - 0.03).abs() - 0.016), "8082a6")
    lamp = c.draw(0.09, 0.17)
    c.paint(c.cover(c.strokes([(lamp, far + 0.14, lamp, 0.2, 0.011), (lamp, 0.2, lamp + 0.05, 0.17, 0.011)])), "0c1030")
    c.glow(lamp + 0.06, 0.19, 0.12, "ffdf9a", 0.75)
    c.paint(c.cover(c.discs([(lamp + 0.06, 0.19, 0.028)]), 0.01), "fff6d8")
    return street


def _windows(c: Canvas, tower: tuple[float, float, float, float]) -> list[tuple[float, float, float, float]]:
    left, top, right, bottom = tower
    columns = max(1, int((right - left - 0.02) / 0.042))
    rows = int((bottom - top - 0.05) / 0.055)
    pitch = (right - left) / columns
    places = [(left + pitch * (i + 0.5), top + 0.035 + 0.055 * j) for i in range(columns) for j in range(rows)]
    return [(x - 0.011, y - 0.014, x + 0.011, y + 0.014) for x, y in places if c.random.random() < 0.55]


def _table(c: Canvas) -> Tensor:
    far = c.near(0.47, 0.03)
    c.image = c.blend(("c9d8c4", "e3e6d6", "d3d8c2"), c.x * 0.6 + c.y * 0.6)
    c.paint(c.cover(0.82 - c.y), "8d9a80")
    x = c.draw(0.06, 0.14)
    c.paint(c.cover(c.boxes([(x, 0.05, x + 0.26, 0.35)], 0.012)), "fbf7ec")
    c.paint(c.cover(c.boxes([(x + 0.025, 0.075, x + 0.235, 0.325)])), "a9d8ee")
    c.paint(c.cover(c.discs([(x + 0.17, 0.3, 0.065)])) * c.cover(c.y - 0.325), "8cc08a")
    c.paint(c.cover(c.boxes([(x + 0.12, 0.07, x + 0.14, 0.33), (x + 0.02, 0.18, x + 0.24, 0.2)])), "fbf7ec")
    side = (c.x - 0.5).abs() - 0.4 - 0.28 * c.fall(far, 1.0)
    table = c.cover(torch.maximum(far - c.y, side * 0.9))
    c.paint(table, c.blend(("b0763f", "c68b4e", "d79d5c"), c.fall(far, 1.0)))
    plank = (c.fall(far, 1.0).clamp(min=0) + 0.08).sqrt() * 4.2
    across = plank.floor()
    grain = torch.sin(plank * 19 + 2.6 * c.noise(2, 4) + across * 2.1) * 0.6 + torch.sin(across * 5.3 + 1)
    c.shade(table, 0.05 * grain)
    c.paint(table * c.cover(((plank - across - 0.5).abs() - 0.5).abs() * 0.13 - 0.004, 0.012), "7b4d28", 0.6)
    c.paint(c.cover((c.y - far).abs() - 0.008) * c.cover(side), "e6ba80")
    vase = c.draw(0.78, 0.86)
    c.paint(c.cover(c.strokes([(vase, far, vase + 0.05 * a, far - 0.2, 0.007) for a in (-1, 0, 1)])), "5f8f56")
    for dx, colour in ((-0.05, "f0696a"), (0.0, "ffd05c"), (0.05, "f79ac0")):
        c.paint(c.cover(c.discs([(vase + dx, far - 0.21 - (0.03 if dx == 0 else 0), 0.035)])), colour)
    c.paint(c.cover(c.boxes([(vase - 0.045, far - 0.1, vase + 0.045, far + 0.035)], 0.03)), "4f86b0")
    return table


def _kitchen(c: Canvas) -> Tensor:
    far, tile = c.near(0.5, 0.03), 0.125
    u, v = c.x / tile + c.draw(0, 1), (far - c.y) / tile
    du, dv = (u - u.floor() - 0.5).abs(), (v - v.floor() - 0.5).abs()
    column, row = u.floor().long(), v.floor().long()
    tint = torch.tensor([c.draw(0, 1) for _ in range(64)], device=c.device)[(column * 5 + row * 11) % 64]
    c.image = c.blend(("f7fbf8", "e3f1ee"), tint)
    star = ((column + row) % 2 == 0).float() * c.cover((du + dv - 0.34) * tile)
    c.paint(star, "5aa7b5")
    c.paint(((column + row) % 2 == 0).float() * c.cover((du + dv - 0.15) * tile), "f4d35e")
    c.paint(c.cover((0.47 - torch.maximum(du, dv)) * tile), "b9cfd0")
    rail = 0.07
    c.paint(c.cover(c.boxes([(0, rail - 0.011, 1, rail + 0.011)])), "8b9aa3")
    for x, colour in ((c.draw(0.08, 0.16), "d9694f"), (c.draw(0.84, 0.92), "e8a33d")):
        c.paint(c.cover(c.strokes([(x, rail, x, rail + 0.13, 0.009)])), "6d7b83")
        c.paint(c.cover(c.discs([(x, rail + 0.18, 0.055)])), colour)
    counter = c.ground(far, ("d9d3cb", "e9e4dc", "f4f0ea"))
    c.shade(counter, 0.03 * c.noise(5, 3))
    c.paint(c.cover((c.y - far).abs() - 0.012), "a58d76")
    return counter


def _fabric(c: Canvas) -> Tensor:
    far = c.near(0.45, 0.04)
    bend = 0.14 * c.noise(2, 2)
    hang = torch.sin((c.x + bend * (1.1 - c.y)) * c.draw(18, 21) + c.draw(0, 6))
    flow = torch.sin((c.y * 1.4 + 0.5 * (c.x - 0.5).abs() + bend) * 13 + c.draw(0, 6)) * 0.4
    floor = c.cover(far - c.y, 0.2)
    fold = torch.lerp(hang * 0.9, flow, floor)
    c.image = c.blend(("d0628b", "e98bac", "f6b0c6", "fdd3de", "fff0f2"), 0.45 + 0.4 * fold + 0.12 * (c.y - 0.5))
    calm = torch.exp(-(((c.x - 0.5) / 0.34) ** 2) - ((c.y - 0.78) / 0.16) ** 2)
    c.paint(calm, "f4afc4", 0.6)
    return floor


def _library(c: Canvas) -> Tensor:
    far = c.near(0.5, 0.03)
    c.image = c.blend(("3b2416", "4a2d1b"), c.y)
    covers = ("a83a32", "2f5d7c", "d8a23f", "3f7a55", "e6d5b0", "6d4a7e", "c56a3a")
    shelf = far / 2
    books: dict[str, list[tuple[float, float, float, float]]] = {colour: [] for colour in covers}
    for row in range(2):
        left, foot = -c.draw(0, 0.03), shelf * (row + 1) - 0.03
        while left < 1:
            wide = c.draw(0.04, 0.065)
            books[c.random.choice(covers)].append((left, foot - c.draw(0.13, 0.18), left + wide - 0.006, foot))
            left += wide
    for colour, boxes in books.items():
        if boxes:
            c.paint(c.cover(c.boxes(boxes, 0.006)), colour)
    bands = [(b[0] + 0.006, b[1] + 0.03, b[2] - 0.006, b[1] + 0.045) for boxes in books.values() for b in boxes]
    c.paint(c.cover(c.boxes(bands)), "f1dfb0", 0.75)
    planks = [(-0.1, shelf * (row + 1) - 0.03, 1.1, shelf * (row + 1) + 0.008) for row in range(2)]
    c.paint(c.cover(c.boxes(planks)), "8a5a34")
    desk = c.ground(far, ("6d2a30", "83353a", "984345"))
    c.shade(desk, 0.03 * c.noise(6, 4))
    edge = (c.y - far - 0.075).abs() - 0.012
    c.paint(c.cover(edge), "d9a860", 0.8)
    c.paint(c.cover(c.y - far - 0.03) * desk, "5a3820")
    c.glow(0.5, 0.35, 0.5, "ffd58a", 0.14)
    return desk


def _moon(c: Canvas) -> Tensor:
    far = c.near(0.48, 0.03)
    c.image = c.blend(("05060f", "0d1128", "1a1f3d"), c.fall(0, far))
    stars = [(c.draw(0, 1), c.draw(0, far), c.draw(0.005, 0.01)) for _ in range(26)]
    c.paint(c.cover(c.discs(stars), 0.012), "fdfbff", 0.95)
    x, y, r = c.draw(0.14, 0.26), c.draw(0.13, 0.2), 0.1
    globe = c.cover(c.discs([(x, y, r)]))
    c.paint(globe, c.blend(("2d6fd0", "64b2ee"), 0.5 + (c.x - x) / r * 0.5))
    c.paint(globe * c.cover(0.05 - 0.1 * c.noise(9, 9) - 0.02, 0.02), "5cab5a")
    c.paint(globe * c.cover(c.discs([(x + 0.04, y - 0.025, r)]) * -1, 0.06), "07102c", 0.75)
    dust = c.ground(far, ("8b8d98", "a9abb3", "bfc0c6"), 0.015 * torch.sin(c.x * 5 + c.draw(0, 6)))
    c.shade(dust, 0.06 * c.noise(6, 4))
    for _ in range(7):
        cx, cy = c.beside(-0.04), c.draw(far + 0.06, 0.97)
        size = 0.03 + 0.11 * (cy - far)
        c.paint(c.cover(c.ellipses([(cx, cy, size, size * 0.4, 0.0)])), "cfd0d6")
        c.paint(c.cover(c.ellipses([(cx - 0.006, cy - 0.005, size * 0.86, size * 0.31, 0.0)])), "777985")
    return dust


def _underwater(c: Canvas) -> Tensor:
    far = c.near(0.52, 0.03)
    c.image = c.blend(("8fe6ea", "2fa9d0", "12689f"), c.fall(0, far))
    fan = (c.x - c.near(0.5, 0.1)) / (c.y + 0.35)
    beam = (fan * 17 + c.draw(0, 6)).sin().clamp(min=0) * (1 - c.fall(0, far + 0.1)).clamp(0, 1)
    c.paint(beam, "e9ffff", 0.5)
    sand = c.ground(far, ("5fa9a8", "a3c9ac", "d9dbab"), 0.03 * torch.sin(c.x * 4 + c.draw(0, 6)))
    web = (c.noise(9, 6).abs() * 3.2).clamp(max=1)
    c.paint(sand * (1 - web), "f3fbd9", 0.4)
    for colour, wide in (("e8617a", 0.02), ("f29a4b", 0.017), ("2f9c6d", 0.015)):
        x, foot = c.beside(), far + c.draw(0.04, 0.16)
        fans = [(x, foot, x + 0.12 * a, foot - c.draw(0.15, 0.24), wide) for a in (-0.8, -0.25, 0.3, 0.85)]
        c.paint(c.cover(c.strokes(fans)), colour)
    for colour in ("ffc94a", "ff8a5b"):
        x, y, way = c.beside(), c.draw(0.1, far - 0.15), c.random.choice((-1, 1))
        c.paint(c.cover(c.ellipses([(x, y, 0.045, 0.025, 0.0), (x - 0.05 * way, y, 0.016, 0.026, 0.0)])), colour)
    bubbles = [(c.beside(), c.draw(0.03, far), c.draw(0.01, 0.02)) for _ in range(8)]
    c.paint(c.cover(c.discs(bubbles)), "e4fbff", 0.75)
    return sand


def _mountains(c: Canvas) -> Tensor:
    far = c.near(0.5, 0.03)
    c.image = c.blend(("7fb4e6", "bfdcf2", "f7ecdf"), c.fall(0, far))
    back = c.ridge(far - 0.17, 0.12, 5, sharp=True)
    c.paint(c.cover(back), c.blend(("8fa3cf", "b4c4e0"), c.fall(0.1, far)))
    peaks = c.ridge(far - 0.2, 0.17, 3, sharp=True)
    c.paint(c.cover(peaks), c.blend(("5d6fa6", "8798c2"), c.fall(0.1, far)))
    snowline = far - 0.25 + 0.03 * torch.sin(c.x * 40 + c.draw(0, 6))
    c.paint(c.cover(peaks) * c.cover(c.y - snowline), "fbfdff")
    c.paint(c.cover(c.ridge(far - 0.05, 0.035, 9)), "3d6b5c")
    turf = c.ground(far, ("7d9c5a", "8fae66", "a2ba72"), 0.02 * torch.sin(c.x * 4 + c.draw(0, 6)))
    c.shade(turf, 0.06 * c.noise(8, 5))
    for _ in range(4):
        x, y, size = c.beside(), c.draw(far + 0.08, 0.95), c.draw(0.035, 0.06)
        c.paint(c.cover(c.ellipses([(x, y, size * 1.3, size * 0.8, 0.0)])), "75798a")
        c.paint(c.cover(c.ellipses([(x + 0.008, y - size * 0.25, size, size * 0.45, 0.0)]), 0.02), "a5a9b8")
    return turf


def _bricks(c: Canvas) -> Tensor:
    far, high, wide = c.near(0.5, 0.03), 0.085, 0.19
    v = (far - c.y) / high
    row = v.floor()
    u = c.x / wide + 0.5 * (row % 2) + c.draw(0, 1)
    dx, dy = (0.5 - (u - u.floor() - 0.5).abs()) * wide, (0.5 - (v - row - 0.5).abs()) * high
    tint = torch.tensor([c.draw(0, 1) for _ in range(64)], device=c.device)[(u.floor() * 7 + row * 13).long() % 64]
    c.image = c.blend(("9c4431", "b5543a", "c86b4a"), tint)
    c.paint(c.cover(torch.minimum(dx, dy) - 0.009, 0.008), "ddc5ac")
    pavement = c.ground(far, ("8d8a88", "a29f9b", "b5b1ab"))
    c.shade(pavement, 0.035 * c.noise(7, 5))
    c.boards(pavement, far - 0.35, 0.42, "6d6a69", 0.6)
    for y in (far + 0.13, far + 0.34):
        c.paint(c.cover((c.y - y).abs() - 0.004, 0.012), "6d6a69", 0.6)
    c.paint(c.cover((c.y - far).abs() - 0.014, 0.012), "5d4a45")
    return pavement


def _sunset(c: Canvas) -> Tensor:
    far = c.near(0.52, 0.02)
    lake = far - 0.14
    c.image = c.blend(("4b3b86", "a8508f", "f0795f", "ffc46a"), c.fall(0, lake))
    sun = c.random.choice((c.draw(0.14, 0.26), c.draw(0.2, 0.3)))
    c.glow(sun, lake - 0.03, 0.2, "ffe7a0", 0.8)
    c.paint(c.cover(c.discs([(sun, lake - 0.03, 0.075)])), "fff3c4")
    c.paint(c.cover(c.ridge(lake - 0.03, 0.045, 3)) * c.cover(0.45 - c.x, 0.3), "5c3a74")
    c.paint(c.cover(lake - c.y), c.blend(("f59a63", "b45a8c", "54408a"), c.fall(lake, far)))
    glint = torch.exp(-(((c.x - sun) / 0.08) ** 2)) * c.cover(lake - c.y) * (0.65 + 0.35 * torch.sin(c.y * 190))
    c.paint(glint, "ffeab0", 0.9)
    jetty = c.ground(far, ("6e4258", "865063", "9a5f66"))
    c.boards(jetty, far - 0.5, 0.24, "4a2c48", 0.8)
    c.paint(c.cover((c.y - far).abs() - 0.01), "c98070")
    for x in (0.05, 0.95):
        c.paint(c.cover(c.boxes([(x - 0.03, far - 0.12, x + 0.03, far + 0.1)], 0.012)), "4a2c48")
    return jetty


def _autumn(c: Canvas) -> Tensor:
    far = c.near(0.47, 0.03)
    c.image = c.blend(("c9dfe6", "e9e8d8", "f8e6bf"), c.fall(0, far))
    for x in sorted(_spread(c, 6), key=lambda x: -abs(x - 0.5), reverse=True):
        y, size = far - c.draw(0.2, 0.26), c.draw(0.08, 0.11)
        colour = c.random.choice(("d9542b", "e88a2a", "f0b23a", "b83a2e"))
        c.paint(c.cover(c.strokes([(x, y, x, far + 0.03, 0.014)])), "5a3d2b")
        crown = [(x + dx * size, y + dy * size, size * r) for dx, dy, r in _CROWN]
        c.paint(c.cover(c.discs(crown)), colour)
        c.paint(c.cover(c.discs([(x - size * 0.3, y - size * 0.5, size * 0.5)]), 0.04), "ffe3a0", 0.3)
    lawn = c.ground(far, ("b9a04a", "c9ac55", "d5b763"), 0.015 * torch.sin(c.x * 5 + c.draw(0, 6)))
    c.shade(lawn, 0.05 * c.noise(8, 5))
    for colour in ("d0482a", "ee8f2b", "a33a2a", "f6c445"):
        spots = [(c.beside(-0.04), far + 0.06 + c.draw(0, 0.47)) for _ in range(7)]
        leaves = [(x, y, 0.014 + 0.035 * (y - far), 0.008 + 0.018 * (y - far), c.draw(0, 3)) for x, y in spots]
        c.paint(c.cover(c.ellipses(leaves)), colour)
    return lawn


_CROWN = ((0, -0.4, 0.9), (-0.6, 0.25, 0.8), (0.6, 0.25, 0.8))


def _towards(x: float, y: float, z: float) -> Vec3:
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length)


def _light(side: float, up: float, key: Vec3, ambient: Vec3, shadow: float, tint: Vec3) -> Light:
    """A light whose direction is given by its x and y against z = 0.7."""
    return Light(_towards(side, up, 0.7), key, ambient, shadow, tint)


_ALL = (
    Scene("beach", ("on the beach", "on a sandy beach by the sea", "at the seaside"),
          _light(0.6, 1.0, (0.72, 0.69, 0.62), (0.42, 0.45, 0.5), 0.7, (0.62, 0.56, 0.52)), _beach),
    Scene("snow", ("in the snow", "on a snowy field with fir trees", "in a winter landscape"),
          _light(-0.7, 0.8, (0.56, 0.57, 0.6), (0.54, 0.57, 0.62), 0.55, (0.62, 0.7, 0.84)), _snow),
    Scene("meadow", ("in a meadow", "on a flowery green meadow", "among the flowers of a meadow"),
          _light(-0.6, 1.0, (0.7, 0.69, 0.6), (0.42, 0.46, 0.44), 0.65, (0.42, 0.55, 0.42)), _meadow),
    Scene("desert", ("in the desert", "among desert dunes", "on hot desert sand beside a cactus"),
          _light(0.9, 0.8, (0.82, 0.74, 0.58), (0.4, 0.38, 0.36), 0.8, (0.56, 0.4, 0.36)), _desert),
    Scene("forest", ("in the forest", "on the floor of a green forest", "in the woods"),
          _light(-0.4, 1.2, (0.62, 0.66, 0.5), (0.34, 0.42, 0.34), 0.6, (0.36, 0.45, 0.34)), _forest),
    Scene("city", ("in the city at night", "on a city street at night", "in front of a night skyline"),
          _light(-0.8, 0.7, (0.72, 0.58, 0.42), (0.34, 0.36, 0.56), 0.65, (0.36, 0.34, 0.5)), _city),
    Scene("table", ("on a wooden table", "on a table in a quiet room", "on an old wooden table"),
          _light(-0.9, 0.9, (0.68, 0.64, 0.56), (0.44, 0.43, 0.42), 0.65, (0.46, 0.38, 0.34)), _table),
    Scene("kitchen", ("in the kitchen", "on a kitchen counter", "in a tiled kitchen"),
          _light(0.7, 0.9, (0.56, 0.57, 0.56), (0.52, 0.53, 0.54), 0.55, (0.6, 0.6, 0.62)), _kitchen),
    Scene("fabric", ("on pink fabric", "on a soft pink cloth", "on pink silk"),
          _light(-0.5, 1.0, (0.58, 0.54, 0.54), (0.54, 0.47, 0.5), 0.55, (0.68, 0.4, 0.52)), _fabric),
    Scene("library", ("in a library", "in front of a bookshelf", "on a desk in a library"),
          _light(0.8, 0.9, (0.74, 0.62, 0.44), (0.36, 0.32, 0.3), 0.7, (0.36, 0.36, 0.34)), _library),
    Scene("moon", ("on the moon", "on the surface of the moon", "in space, on the grey moon"),
          _light(1.0, 0.6, (0.92, 0.92, 0.95), (0.22, 0.23, 0.3), 0.85, (0.3, 0.3, 0.38)), _moon),
    Scene("underwater", ("under water", "on the bottom of the sea", "underwater among corals"),
          _light(0.35, 0.9, (0.6, 0.68, 0.64), (0.4, 0.5, 0.54), 0.5, (0.4, 0.6, 0.66)), _underwater),
    Scene("mountains", ("in the mountains", "in front of snowy mountains", "on an alpine pasture"),
          _light(-0.9, 0.7, (0.68, 0.66, 0.62), (0.42, 0.44, 0.5), 0.65, (0.48, 0.52, 0.5)), _mountains),
    Scene("bricks", ("in front of a brick wall", "on the pavement by a brick wall", "by a red brick wall"),
          _light(0.7, 1.0, (0.64, 0.61, 0.57), (0.44, 0.43, 0.44), 0.65, (0.5, 0.48, 0.5)), _bricks),
    Scene("sunset", ("by a lake at sunset", "on a jetty at sunset", "in the light of the setting sun"),
          _light(-1.2, 0.5, (0.9, 0.58, 0.36), (0.42, 0.32, 0.46), 0.7, (0.46, 0.32, 0.5)), _sunset),
    Scene("autumn", ("in an autumn park", "among autumn leaves", "under autumn trees"),
          _light(0.8, 0.8, (0.74, 0.64, 0.48), (0.42, 0.4, 0.4), 0.65, (0.52, 0.42, 0.36)), _autumn),
)  # fmt: skip

SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}


def _varied(light: Light, source: random.Random) -> Light:
    """The scene's light, turned by at most 0.2 rad and a few percent stronger or weaker."""
    x, y, z = light.direction
    turn, lift, gain = source.uniform(-0.18, 0.18), source.uniform(-0.1, 0.1), source.uniform(0.95, 1.05)
    x, z = x * math.cos(turn) - z * math.sin(turn), x * math.sin(turn) + z * math.cos(turn)
    key = light.colour
    return replace(light, direction=_towards(x, y + lift, z), colour=(key[0] * gain, key[1] * gain, key[2] * gain))


def paint_scene(name: str, seed: int, size_px: int, device: str | torch.device = "cpu") -> Background:
    """Paint a scene of `size_px` squared; a seed moves its things, its horizon, its tint and, a little, its light.

    Raises KeyError for a name that is not in SCENES. The same arguments give the same bits on one machine.
    """
    scene = SCENES[name]
    source = random.Random(f"{name}:{seed}")
    light = _varied(scene.light, source)
    canvas = Canvas(source, size_px, str(device))
    gains = [source.uniform(0.92, 1.0) for _ in range(3)]
    tint = torch.tensor(gains, device=canvas.device).view(3, 1, 1) / max(gains)
    ground = scene.paint(canvas)
    return Background((canvas.image * tint).clamp_(0, 1), ground.clamp(0, 1)[None], light)
