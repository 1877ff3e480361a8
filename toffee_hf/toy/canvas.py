"""The drawing kit of the toy world's scenes: a square canvas with soft-edged shapes, gradients and slow noise.

Shapes: H rows, W columns, N shapes drawn at once. Colours are sRGB in [0, 1]. Positions are parts of the picture: x
from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom). Distances to an outline are negative inside.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[Sequence[float]]
_PUFFS = ((-0.11, 0.01, 0.045), (-0.05, 0.04, 0.06), (0.03, 0.055, 0.07), (0.1, 0.015, 0.05))


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
