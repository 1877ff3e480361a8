"""Styles of the toy world: hand-made looks computed from a finished picture alone, so that any photo can wear them.

Shapes: B pictures, H rows, W columns. Colours are RGB in [0, 1], float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

UNIT_PX = 128  # brush sizes below are in pixels of a picture this wide


@dataclass(frozen=True, slots=True)
class Style:
    """A look: its word, how prompts say it (`{}` stands for the subject), and the filter on (B, 3, H, W)."""

    name: str
    phrases: tuple[str, ...]
    keeps_colour: bool  # whether colours survive, so that a colour can still be judged
    apply: Callable[[Tensor], Tensor]


@lru_cache(maxsize=128)
def _blur_matrix(size: int, out: int, sigma: float, device: str) -> Tensor:
    """Rows (out, size) that blur a line of `size` pixels and sample it at `out` even places; borders repeat."""
    place = (torch.arange(out, dtype=torch.float64) + 0.5) * (size / out) - 0.5
    pixel = torch.arange(-size, 2 * size, dtype=torch.float64)
    width = max(sigma * size / UNIT_PX, 0.3)
    weights = torch.exp(-0.5 * ((pixel[None, :] - place[:, None]) / width) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    weights = torch.where(weights > 1e-7, weights, 0.0)  # no denormals: they are slow
    inside = weights[:, size : 2 * size].clone()
    inside[:, 0] += weights[:, :size].sum(1)
    inside[:, -1] += weights[:, 2 * size :].sum(1)
    return inside.float().to(device)


def _blur(image: Tensor, sigma: float, shrink: int = 1) -> Tensor:
    """Gaussian blur of (B, C, H, W), sampled `shrink` times coarser; sigma in pixels of a 128 px picture."""
    height, width = image.shape[-2:]
    down = _blur_matrix(height, max(1, height // shrink), sigma, str(image.device))
    across = _blur_matrix(width, max(1, width // shrink), sigma, str(image.device))
    return down @ (image @ across.T)


def _enlarge(image: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(image, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _grey(image: Tensor) -> Tensor:
    weights = torch.tensor((0.299, 0.587, 0.114), device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def _colour(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(1, 3, 1, 1)


def _ramp(value: Tensor, low: float, high: float) -> Tensor:
    """0 below low, 1 above high, smooth between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _saturate(image: Tensor, gain: float) -> Tensor:
    grey = _grey(image)
    return (grey + (image - grey) * gain).clamp(0, 1)


def _smooth(image: Tensor, rounds: int, sigma: float, edge: float) -> Tensor:
    """Flatten what lies inside edges and keep the edges: a guided filter whose guide is the picture itself."""
    for _ in range(rounds):
        mean = _blur(image, sigma, 2)
        spread = (_blur(image * image, sigma, 2) - mean * mean).clamp(min=0).amax(1, keepdim=True)
        keep = _blur(spread / (spread + edge), sigma / 2)
        image = image * _enlarge(keep, image) + _enlarge(mean * (1 - keep), image)
    return image


def _contours(image: Tensor, sigma: float) -> Tensor:
    """Thin lines (B, 1, H, W) on the darker side of every edge: 0 none, towards 1 strong."""
    around = _blur(image, sigma)
    return (1 - (image + 0.1) / (around + 0.1)).clamp(min=0).amax(1, keepdim=True)


def _places(image: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, W) and y (H, 1) of the pixels, in pixels of a 128 px picture."""
    height, width = image.shape[-2:]
    x = torch.arange(width, device=image.device)[None, :] * (UNIT_PX / width)
    return x, torch.arange(height, device=image.device)[:, None] * (UNIT_PX / height)


def _photo(image: Tensor) -> Tensor:
    return image


def _pencil(image: Tensor) -> Tensor:
    lines = _ramp(_contours(_blur(image, 0.5), 1.4), 0.03, 0.27)
    grey = _grey(_blur(image, 1.3))
    tone = 1 - 0.64 * (1 - grey) ** 1.35
    x, y = _places(image)
    tone = tone + 0.05 * torch.sin(0.98 * x + 0.8 * y) * _ramp(1 - grey, 0.25, 0.7)
    sheet = (tone * (1 - 0.72 * lines)).clamp(0, 1)
    return torch.lerp(_colour((0.15, 0.15, 0.17), image), _colour((0.97, 0.96, 0.93), image), sheet)


def _washes(image: Tensor) -> Tensor:
    wash = _smooth(image, 2, 2.4, 0.006)
    rim = _ramp(_contours(wash, 2.2), 0.03, 0.3)
    paper = _colour((1.0, 0.985, 0.955), image)
    light = torch.lerp(_saturate(wash, 1.3), paper, 0.3)
    x, y = _places(image)
    pool = torch.sin(0.061 * x + 0.9 * torch.sin(0.05 * y)) * torch.sin(0.07 * y + 0.8 * torch.sin(0.043 * x))
    light = 1 - (1 - light) * (1 + 0.3 * rim + 0.12 * pool)
    return torch.lerp(light, paper, _paper_edge(image)).clamp(0, 1)


@lru_cache(maxsize=16)
def _edge_of(height: int, width: int, device: str) -> Tensor:
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    x = torch.linspace(-1, 1, width, device=device)[None, :]
    wobble = 0.03 * torch.sin(7 * x + 1.3) * torch.cos(6 * y) + 0.025 * torch.sin(11 * y + 5 * x)
    return _ramp((x**6 + y**6) ** (1 / 6) + wobble, 0.86, 0.98)[None, None]


def _paper_edge(image: Tensor) -> Tensor:
    """1 at an irregular unpainted rim of the sheet, 0 inside: (1, 1, H, W)."""
    return _edge_of(image.shape[-2], image.shape[-1], str(image.device))


def _pixel(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    block = max(1, width // 32)
    small = _saturate(F.avg_pool2d(image, block, ceil_mode=True), 1.15)
    grey = _grey(small)
    tint = ((small - grey) / 0.09).round() * 0.09
    small = ((grey * 7).round() / 7 + tint).clamp(0, 1)
    return small.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :height, :width]


def _comic(image: Tensor) -> Tensor:
    flat = _smooth(image, 2, 1.8, 0.008)
    grey = _grey(flat)
    level = grey * 4
    step = (level.floor() + _ramp(level - level.floor(), 0.35, 0.65)) / 4
    toned = flat * ((step + 0.1) / (grey + 0.1))
    ink = _ramp(_contours(_blur(image, 0.6), 2.0), 0.09, 0.2)
    return torch.lerp(_saturate(toned, 1.4), _colour((0.07, 0.06, 0.12), image), ink)


def _oil(image: Tensor) -> Tensor:
    daubs = _blur(_daubs(_daubs(image, 3), 2), 0.5)
    height = F.pad(_grey(daubs), (1, 1, 1, 1), mode="replicate")
    relief = height[..., 2:, 2:] - height[..., :-2, :-2]
    x, y = _places(image)
    bristle = torch.sin(0.75 * y + 0.25 * x + 2.5 * torch.sin(0.055 * x) + 1.5 * torch.sin(0.08 * y))
    return (_saturate(daubs, 1.35) * (1 + 0.028 * bristle) - 0.22 * relief).clamp(0, 1)


def _daubs(image: Tensor, reach_px: int) -> Tensor:
    """Each pixel takes the colour of the calmest of its four corner squares (Kuwahara's filter)."""
    reach = max(1, round(reach_px * image.shape[-1] / UNIT_PX))
    height, width = image.shape[-2:]
    grey = _grey(image)
    sums = F.pad(torch.cat([image, grey, grey * grey], 1), (reach,) * 4, mode="replicate")
    sums = sum((sums[..., i : i + width + reach] for i in range(1, reach + 1)), sums[..., : width + reach])
    sums = sum((sums[..., i : i + height + reach, :] for i in range(1, reach + 1)), sums[..., : height + reach, :])
    sums = sums / (reach + 1) ** 2
    best, least = image, torch.full_like(grey, torch.inf)
    for top, left in ((0, 0), (0, reach), (reach, 0), (reach, reach)):
        square = sums[..., top : top + height, left : left + width]
        spread = square[:, 4:5] - square[:, 3:4] ** 2
        best = torch.where(spread < least, square[:, :3], best)
        least = torch.minimum(least, spread)
    return best


def _sepia(image: Tensor) -> Tensor:
    grey = _grey(_blur(image, 0.6)).clamp(0, 1)
    height, width = image.shape[-2:]
    y = torch.linspace(-1, 1, height, device=image.device)[:, None]
    x = torch.linspace(-1, 1, width, device=image.device)[None, :]
    tone = _ramp(grey, -0.15, 1.1)
    faded = 0.05 + 0.95 * tone * (1 - 0.3 * _ramp(x * x + y * y, 0.5, 2.0))
    dark, bright = _colour((0.2, 0.11, 0.06), image), _colour((1.0, 0.91, 0.74), image)
    return torch.lerp(dark, bright, faded)


_ALL = (
    Style("photo", ("a photo of {}", "a photograph of {}", "a picture of {}"), True, _photo),
    Style("pencil", ("a pencil sketch of {}", "{} as a graphite drawing", "a pencil drawing of {}"), False, _pencil),
    Style("watercolour", ("a watercolour painting of {}", "{} as a watercolour", "{} in watercolour"), True, _washes),
    Style("pixel art", ("pixel art of {}", "{} as pixel art", "a pixel art picture of {}"), True, _pixel),
    Style("comic", ("a comic drawing of {}", "{} in comic style", "a comic book picture of {}"), True, _comic),
    Style("oil", ("an oil painting of {}", "{} painted in oil", "{} as an oil painting"), True, _oil),
    Style("sepia", ("an old sepia photo of {}", "a vintage sepia photograph of {}", "{} in sepia"), False, _sepia),
)
STYLES: dict[str, Style] = {style.name: style for style in _ALL}


def stylise(image: Tensor, style: str) -> Tensor:
    """Redraw pictures (B, 3, H, W) in [0, 1] in a style; same shape and range, the same bits each time.

    Raises KeyError for a style that is not in STYLES.
    """
    return STYLES[style].apply(image)
