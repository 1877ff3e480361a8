"""Painters of the toy world's landscapes: each fills a canvas and returns the ground's cover (H, W) in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from toffee_hf.toy.canvas import Canvas

_TIERS = ((1.0, 0.17, 0.55), (0.78, 0.24, 0.28), (0.52, 0.31, 0.0))
_CROWN = ((0, -0.4, 0.9), (-0.6, 0.25, 0.8), (0.6, 0.25, 0.8))


def beach(c: Canvas) -> Tensor:
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


def snow(c: Canvas) -> Tensor:
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


def meadow(c: Canvas) -> Tensor:
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


def desert(c: Canvas) -> Tensor:
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


def forest(c: Canvas) -> Tensor:
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


def moon(c: Canvas) -> Tensor:
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


def underwater(c: Canvas) -> Tensor:
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


def mountains(c: Canvas) -> Tensor:
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


def sunset(c: Canvas) -> Tensor:
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


def autumn(c: Canvas) -> Tensor:
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
