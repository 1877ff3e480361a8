"""Surface designs and colours: what makes one toy subject different from the next of its class.

A design maps surface coordinates (the point in object units) to a colour index: 0 base, 1 second, 2 third colour.
Materials (wood, marble, gold) bring colours of their own. Every feature is at least about eight pixels wide in a
128-pixel picture, so that an autoencoder of factor 8 can keep it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from toffee_hf.toy.solids import Point

Colour = tuple[float, float, float]
COLOURS: Mapping[str, Colour] = MappingProxyType({
    "red": (0.84, 0.16, 0.14), "orange": (0.95, 0.52, 0.10), "yellow": (0.97, 0.83, 0.22),
    "green": (0.22, 0.60, 0.24), "teal": (0.10, 0.62, 0.62), "blue": (0.16, 0.36, 0.82),
    "purple": (0.50, 0.24, 0.66), "pink": (0.95, 0.53, 0.67), "brown": (0.48, 0.29, 0.16),
    "white": (0.95, 0.94, 0.91), "grey": (0.55, 0.56, 0.58), "black": (0.12, 0.12, 0.14),
})
DARK_COLOUR: Colour = (0.13, 0.13, 0.15)
Params = tuple[float, ...]                       # four numbers in [0, 1)
Pattern = Callable[[Point, Params], Tensor]      # -> (N,) colour index as float: 0, 1 or 2


def _around(p: Point) -> Tensor:
    """Angle about the vertical axis in turns, 0 in front, (N,) in [-0.5, 0.5]."""
    return torch.atan2(p[0], p[2]) / (2 * math.pi)


def _count(low: int, high: int, t: float) -> int:
    return low + int((high - low + 1) * t)


def _odd(x: Tensor) -> Tensor:
    """Square wave of period 1: 0 in the first half, 1 in the second."""
    return ((x - x.floor()) >= 0.5).to(x.dtype)


def stripes(p: Point, q: Params) -> Tensor:
    return _odd(p[1] * (3 + 3 * q[0]) + q[1])


def upright_stripes(p: Point, q: Params) -> Tensor:
    return _odd(_around(p) * _count(5, 8, q[0]) + q[1])


def spiral(p: Point, q: Params) -> Tensor:
    turns = _count(2, 3, q[0])
    return _odd(p[1] * (2 + 1.5 * q[1]) + _around(p) * (turns if q[2] < 0.5 else -turns))


def dots(p: Point, q: Params) -> Tensor:
    rows, columns = 3.4 + 1.2 * q[0], _count(6, 8, q[1])
    v = p[1] * rows + q[2]
    row = v.floor()
    u = _around(p) * columns + 0.5 * (row - 2 * (row / 2).floor())
    du, dv = (u - u.floor() - 0.5) * (2 * math.pi * 0.35 / columns), (v - row - 0.5) / rows
    return (du * du + dv * dv < (0.31 / rows) ** 2).to(v.dtype)


def checks(p: Point, q: Params) -> Tensor:
    u, v = _odd(_around(p) * _count(4, 5, q[0]) + q[1]), _odd(p[1] * (2.4 + 1.2 * q[2]))
    return (u - v).abs()


def zigzag(p: Point, q: Params) -> Tensor:
    u = _around(p) * _count(5, 7, q[0])
    wave = (u - u.floor() - 0.5).abs()
    return _odd(p[1] * (2.4 + q[1]) + wave * 0.7 + q[2])


def band(p: Point, q: Params) -> Tensor:
    middle, width = 0.28 + 0.2 * q[0], 0.09 + 0.05 * q[1]
    distance = (p[1] - middle).abs()
    return (distance < width).to(p[1].dtype) + (distance < width * 0.35).to(p[1].dtype)


def two_tone(p: Point, q: Params) -> Tensor:
    edge = p[1] - 0.3 - 0.15 * q[0] + (q[1] - 0.5) * 0.9 * p[0]
    return (edge > 0).to(edge.dtype)


def tricolour(p: Point, q: Params) -> Tensor:
    v = p[1] + (q[1] - 0.5) * 0.4 * p[0]
    return (v > 0.24 + 0.06 * q[0]).to(v.dtype) + (v > 0.46 + 0.1 * q[2]).to(v.dtype)


def quarters(p: Point, q: Params) -> Tensor:
    u = (_around(p) + 0.5 + q[0]).remainder(1.0) * 3
    return u.floor().clamp(0, 2)


def _glyph(shape: Callable[[Tensor, Tensor], Tensor]) -> Pattern:
    """A single large figure on one side of the subject: the most asymmetric design."""

    def pattern(p: Point, q: Params) -> Tensor:
        turn = _around(p) - (q[0] - 0.5) * 0.24
        turn = turn - turn.round()
        size = 0.17 + 0.05 * q[1]
        x, y = turn * (2 * math.pi * 0.36) / size, (p[1] - 0.36 - 0.08 * q[2]) / size
        inside = (shape(x, y) < 0).to(x.dtype)
        ring = ((p[1] - 0.08).abs() < 0.045).to(x.dtype) * 2
        return torch.where(inside > 0, inside, ring)

    return pattern


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y + 0.15
    return torch.where(y > 0.25, ((x - 0.5) ** 2 + (y - 0.35) ** 2).sqrt() - 0.52, x + 0.85 * (0.2 - y) - 0.96)


def _star(x: Tensor, y: Tensor) -> Tensor:
    angle = torch.atan2(x, y) * (5 / (2 * math.pi))
    return (x * x + y * y).sqrt() * (1 + 1.1 * (angle - angle.round()).abs()) - 1.0


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 0.95, y - 0.34), torch.maximum(y - 0.95, x - 0.34))


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum((x * x + y * y).sqrt() - 0.95, 0.8 - ((x - 0.5) ** 2 + (y - 0.12) ** 2).sqrt())


def _arrow(x: Tensor, y: Tensor) -> Tensor:
    head = torch.maximum(-x, x + y.abs() - 0.95)
    return torch.minimum(head, torch.maximum(x.abs() - 0.9, y.abs() - 0.26).maximum(x - 0.1))


DESIGNS: Mapping[str, Pattern] = MappingProxyType({
    "striped": stripes, "pinstriped": upright_stripes, "spiral": spiral, "polka-dot": dots, "checkered": checks,
    "zigzag": zigzag, "banded": band, "two-tone": two_tone, "tricolour": tricolour, "segmented": quarters,
    "heart": _glyph(_heart), "star": _glyph(_star), "cross": _glyph(_cross), "moon": _glyph(_moon),
    "arrow": _glyph(_arrow),
})


def wood(p: Point) -> Tensor:
    """Broad rings of two browns, (N, 3)."""
    v = p[1] * 4.5 + torch.sin(p[0] * 5 + 1) * 0.35 + torch.sin(p[2] * 4) * 0.3
    t = (0.5 + 0.5 * torch.sin(v * 2 * math.pi)).unsqueeze(-1)
    return torch.lerp(p[0].new_tensor((0.76, 0.54, 0.30)), p[0].new_tensor((0.50, 0.31, 0.15)), t)


def marble(p: Point) -> Tensor:
    """White with broad grey veins, (N, 3)."""
    v = p[1] * 3 + p[0] * 2.2 + torch.sin(p[0] * 6 + p[1] * 4) * 0.5 + torch.sin(p[2] * 5) * 0.5
    t = (1 - torch.sin(v * math.pi).abs()).pow(3).unsqueeze(-1)
    return torch.lerp(p[0].new_tensor((0.93, 0.92, 0.90)), p[0].new_tensor((0.42, 0.43, 0.47)), t)


def gold(p: Point) -> Tensor:
    """Warm metal: the bands of a reflection fixed to the object, (N, 3)."""
    t = (0.5 + 0.5 * torch.sin(p[1] * 9 + p[0] * 2)).unsqueeze(-1)
    return torch.lerp(p[0].new_tensor((0.80, 0.56, 0.12)), p[0].new_tensor((0.98, 0.84, 0.42)), t)


MATERIALS: Mapping[str, Callable[[Point], Tensor]] = MappingProxyType({
    "wooden": wood, "marble": marble, "golden": gold,
})


@dataclass(frozen=True, slots=True)
class Design:
    """What covers a subject: a pattern of DESIGNS in three named colours, or a material of MATERIALS."""

    name: str
    params: Params
    palette: tuple[str, str, str]

    def body(self, p: Point) -> Tensor:
        """Albedo of the patterned part at object points, (N, 3) in [0, 1]."""
        if self.name in MATERIALS:
            return MATERIALS[self.name](p)
        return self._colours(p[0])[DESIGNS[self.name](p, self.params).long()]

    def part(self, slot: int, p: Point) -> Tensor:
        """Albedo of a part in one colour: slot 1 and 2 are the second and third colour, 3 is near black."""
        if slot == 3:
            return p[0].new_tensor(DARK_COLOUR).expand(len(p[0]), 3)
        if self.name in MATERIALS:
            return MATERIALS[self.name](p) * (0.62 if slot == 1 else 0.8)
        return self._colours(p[0])[slot].expand(len(p[0]), 3)

    def _colours(self, like: Tensor) -> Tensor:
        return like.new_tensor([COLOURS[name] for name in self.palette])
