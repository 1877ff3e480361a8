"""Painters of the toy world's rooms and streets: each fills a canvas and returns the ground's cover (H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

from toffee_hf.toy.canvas import Canvas


def table(c: Canvas) -> Tensor:
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


def kitchen(c: Canvas) -> Tensor:
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


def fabric(c: Canvas) -> Tensor:
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


def library(c: Canvas) -> Tensor:
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


def bricks(c: Canvas) -> Tensor:
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


def city(c: Canvas) -> Tensor:
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
