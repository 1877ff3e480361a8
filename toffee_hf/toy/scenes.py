"""Scenes of the toy world: picture-book places with room for one subject, and the light that belongs to each.

Shapes: H rows, W columns. Colours are sRGB in [0, 1].
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toffee_hf.toy import landscapes, rooms
from toffee_hf.toy.canvas import Canvas

Vec3 = tuple[float, float, float]


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


def _towards(x: float, y: float, z: float) -> Vec3:
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length)


def _light(side: float, up: float, key: Vec3, ambient: Vec3, shadow: float, tint: Vec3) -> Light:
    """A light whose direction is given by its x and y against z = 0.7."""
    return Light(_towards(side, up, 0.7), key, ambient, shadow, tint)


_ALL = (
    Scene("beach", ("on the beach", "on a sandy beach by the sea", "at the seaside"),
          _light(0.6, 1.0, (0.72, 0.69, 0.62), (0.42, 0.45, 0.5), 0.7, (0.62, 0.56, 0.52)), landscapes.beach),
    Scene("snow", ("in the snow", "on a snowy field with fir trees", "in a winter landscape"),
          _light(-0.7, 0.8, (0.56, 0.57, 0.6), (0.54, 0.57, 0.62), 0.55, (0.62, 0.7, 0.84)), landscapes.snow),
    Scene("meadow", ("in a meadow", "on a flowery green meadow", "among the flowers of a meadow"),
          _light(-0.6, 1.0, (0.7, 0.69, 0.6), (0.42, 0.46, 0.44), 0.65, (0.42, 0.55, 0.42)), landscapes.meadow),
    Scene("desert", ("in the desert", "among desert dunes", "on hot desert sand beside a cactus"),
          _light(0.9, 0.8, (0.82, 0.74, 0.58), (0.4, 0.38, 0.36), 0.8, (0.56, 0.4, 0.36)), landscapes.desert),
    Scene("forest", ("in the forest", "on the floor of a green forest", "in the woods"),
          _light(-0.4, 1.2, (0.62, 0.66, 0.5), (0.34, 0.42, 0.34), 0.6, (0.36, 0.45, 0.34)), landscapes.forest),
    Scene("city", ("in the city at night", "on a city street at night", "in front of a night skyline"),
          _light(-0.8, 0.7, (0.72, 0.58, 0.42), (0.34, 0.36, 0.56), 0.65, (0.36, 0.34, 0.5)), rooms.city),
    Scene("table", ("on a wooden table", "on a table in a quiet room", "on an old wooden table"),
          _light(-0.9, 0.9, (0.68, 0.64, 0.56), (0.44, 0.43, 0.42), 0.65, (0.46, 0.38, 0.34)), rooms.table),
    Scene("kitchen", ("in the kitchen", "on a kitchen counter", "in a tiled kitchen"),
          _light(0.7, 0.9, (0.56, 0.57, 0.56), (0.52, 0.53, 0.54), 0.55, (0.6, 0.6, 0.62)), rooms.kitchen),
    Scene("fabric", ("on pink fabric", "on a soft pink cloth", "on pink silk"),
          _light(-0.5, 1.0, (0.58, 0.54, 0.54), (0.54, 0.47, 0.5), 0.55, (0.68, 0.4, 0.52)), rooms.fabric),
    Scene("library", ("in a library", "in front of a bookshelf", "on a desk in a library"),
          _light(0.8, 0.9, (0.74, 0.62, 0.44), (0.36, 0.32, 0.3), 0.7, (0.36, 0.36, 0.34)), rooms.library),
    Scene("moon", ("on the moon", "on the surface of the moon", "in space, on the grey moon"),
          _light(1.0, 0.6, (0.92, 0.92, 0.95), (0.22, 0.23, 0.3), 0.85, (0.3, 0.3, 0.38)), landscapes.moon),
    Scene("underwater", ("under water", "on the bottom of the sea", "underwater among corals"),
          _light(0.35, 0.9, (0.6, 0.68, 0.64), (0.4, 0.5, 0.54), 0.5, (0.4, 0.6, 0.66)), landscapes.underwater),
    Scene("mountains", ("in the mountains", "in front of snowy mountains", "on an alpine pasture"),
          _light(-0.9, 0.7, (0.68, 0.66, 0.62), (0.42, 0.44, 0.5), 0.65, (0.48, 0.52, 0.5)), landscapes.mountains),
    Scene("bricks", ("in front of a brick wall", "on the pavement by a brick wall", "by a red brick wall"),
          _light(0.7, 1.0, (0.64, 0.61, 0.57), (0.44, 0.43, 0.44), 0.65, (0.5, 0.48, 0.5)), rooms.bricks),
    Scene("sunset", ("by a lake at sunset", "on a jetty at sunset", "in the light of the setting sun"),
          _light(-1.2, 0.5, (0.9, 0.58, 0.36), (0.42, 0.32, 0.46), 0.7, (0.46, 0.32, 0.5)), landscapes.sunset),
    Scene("autumn", ("in an autumn park", "among autumn leaves", "under autumn trees"),
          _light(0.8, 0.8, (0.74, 0.64, 0.48), (0.42, 0.4, 0.4), 0.65, (0.52, 0.42, 0.36)), landscapes.autumn),
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
