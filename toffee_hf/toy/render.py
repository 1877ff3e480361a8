"""Pictures of a toy subject with everything that is known about them: mask, depth, surface coordinates, camera.

Sphere tracing in two passes: a coarse one at half resolution that finds the surface, a fine one of 2×2 rays a pixel
that starts just before it. Tensors: V views, H = W = size in pixels, S = 2·size rays a side.
World: x right, y up, z towards the viewer, ground at y = 0; the camera looks at the subject from the front and above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from toffee_hf.toy import solids
from toffee_hf.toy.designs import COLOURS, Design
from toffee_hf.toy.scenes import Light, paint_scene
from toffee_hf.toy.shapes import BODY, SHAPES, Slots
from toffee_hf.toy.solids import Point
from toffee_hf.toy.styles import stylise

FIELD_OF_VIEW = math.radians(36)
CENTRE = (0.0, 0.46, 0.0)            # where the camera looks
BOUND = 0.86                         # radius of a sphere about CENTRE that holds any subject
COARSE_STEPS, FINE_STEPS, SHADOW_STEPS = 24, (4, 5, 6), 12
NEAREST, FARTHEST = 1.5, 9.0         # distances mapped to depth 1 and 0
CAMERA = {"field_of_view": FIELD_OF_VIEW, "nearest": NEAREST, "farthest": FARTHEST}       # what turns must know of it


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the subject is seen from: angles in radians, distance in object units, shifts as parts of the frame."""

    yaw: float = 0.0                 # how far the subject is turned to its left; 0 shows its front
    elevation: float = 0.22
    distance: float = 2.9
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Occluder:
    """A ball that lies in front of the subject; position on the ground, radius in object units."""

    x: float
    z: float
    radius: float
    colour: str


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture to take of a subject."""

    camera: Camera
    scene: str
    scene_seed: int
    style: str = "photo"
    occluder: Occluder | None = None


@dataclass(frozen=True, slots=True)
class Render:
    """V pictures: `image` and `photo` (the same before its style) (V, 3, H, W) in [0, 1]; `mask` (V, 1, H, W) in
    [0, 1]; `depth` (V, 1, H, W) in [0, 1], near is 1; `coords` (V, 3, H, W), object units, 0 off the subject."""

    image: Tensor
    photo: Tensor
    mask: Tensor
    depth: Tensor
    coords: Tensor


def render(shape: str, params: tuple[float, ...], design: Design, shots: list[Shot], size_px: int = 128,
           device: str = "cpu") -> Render:
    """Take every shot of one subject. Views are traced at once, since they share the subject's distance function."""
    fine, coarse = 2 * size_px, size_px // 2
    geometry = _Geometry(shape, params, shots, device)
    hit = _fine_hits(geometry, *_cone_march(geometry, coarse), fine)
    scenes = [paint_scene(shot.scene, shot.scene_seed, size_px, device) for shot in shots]
    lights, ground = [scene.light for scene in scenes], torch.stack([scene.ground for scene in scenes])
    background = torch.stack([scene.image for scene in scenes]) * _shadows(geometry, lights, ground, size_px)
    subject = _shade(geometry, hit, design, lights)
    return _compose(geometry, background, ground, subject, hit, shots, lights, size_px)


class _Geometry:
    """The rays of all views in the subject's own frame, and its distance function there."""

    def __init__(self, shape: str, params: tuple[float, ...], shots: list[Shot], device: str) -> None:
        self.shape, self.params, self.shots, self.device = SHAPES[shape], params, shots, device
        cameras = [shot.camera for shot in shots]
        self.yaw = torch.tensor([c.yaw for c in cameras], device=device)
        elevation = torch.tensor([c.elevation for c in cameras], device=device)
        distance = torch.tensor([c.distance for c in cameras], device=device)
        self.cos_e, self.sin_e = elevation.cos(), elevation.sin()
        self.origin = torch.stack([0 * distance, CENTRE[1] + distance * self.sin_e, distance * self.cos_e], -1)
        self.shift = torch.tensor([c.shift for c in cameras], device=device)

    def directions(self, side: int) -> Tensor:
        """World directions of the rays through a side×side grid, (V, side, side, 3), unit length."""
        t = (torch.arange(side, device=self.device) + 0.5) / side * 2 - 1
        half = math.tan(FIELD_OF_VIEW / 2)
        x = (t[None, None, :] - 2 * self.shift[:, 0, None, None]) * half
        y = (-t[None, :, None] - 2 * self.shift[:, 1, None, None]) * half
        x, y = x.expand(-1, side, -1), y.expand(-1, -1, side)
        c, s = self.cos_e[:, None, None], self.sin_e[:, None, None]
        d = torch.stack([x, y * c - s, -y * s - c], -1)
        return d / d.norm(dim=-1, keepdim=True)

    def to_object(self, world: Tensor, view: Tensor) -> Point:
        """World vectors (N, 3) of views (N,) in the frame of the turned subject, as three (N,)."""
        c, s = self.yaw.cos()[view], self.yaw.sin()[view]
        x, y, z = world.unbind(-1)
        return x * c - z * s, y, x * s + z * c

    def slots(self, p: Point) -> Slots:
        return self.shape(p, self.params)

    def distance(self, p: Point) -> Tensor:
        """Signed distance to the subject, (N,)."""
        return solids.union(*self.slots(p).values())


@dataclass(slots=True)
class _Hit:
    """Fine rays that meet the subject: their view and flat pixel index in the S×S grid, point, distance."""

    view: Tensor
    pixel: Tensor
    point: Point
    direction: Point
    t: Tensor
    side: int


def _cone_march(geometry: _Geometry, side: int) -> tuple[Tensor, Tensor]:
    """Trace one cone a coarse pixel until it first touches the subject.

    Returns the distance along the ray at which every finer ray of the pixel is still outside, and whether the cone
    touches at all; both (V, side, side).
    """
    d = geometry.directions(side)
    o = geometry.origin[:, None, None, :].expand_as(d)
    to_centre = o.new_tensor(CENTRE) - o
    along = (to_centre * d).sum(-1)
    miss = to_centre.square().sum(-1) - along.square()
    near = miss < BOUND**2
    view = near.nonzero(as_tuple=True)[0]
    origin, direction = geometry.to_object(o[near], view), geometry.to_object(d[near], view)
    t = along[near] - (BOUND**2 - miss[near]).sqrt()
    radius_at_one = math.tan(FIELD_OF_VIEW / 2) * math.sqrt(2) / side
    gap = t
    for _ in range(COARSE_STEPS):
        gap = geometry.distance(_along(origin, direction, t)) - radius_at_one * t
        t = t + 0.95 * gap.clamp_min(0)
    start, touched = torch.zeros_like(along), torch.zeros_like(near)
    start[near], touched[near] = t, gap < 0.02
    return start, touched


def _fine_hits(geometry: _Geometry, start: Tensor, touched: Tensor, side: int) -> _Hit:
    """Trace the fine rays of the touched coarse pixels to the surface."""
    scale = side // touched.shape[-1]
    wanted = touched.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    view, row, column = wanted.nonzero(as_tuple=True)
    t = start[view, row // scale, column // scale]
    direction = geometry.to_object(geometry.directions(side)[wanted], view)
    origin = geometry.to_object(geometry.origin[view], view)
    active = torch.arange(len(t), device=t.device)
    gap = torch.zeros_like(t)
    for steps in FINE_STEPS:                     # most rays arrive at once; only grazing ones need the later rounds
        o, ray, reached = _pick(origin, active), _pick(direction, active), t[active]
        for _ in range(steps):
            left = geometry.distance(_along(o, ray, reached))
            reached = reached + 0.95 * left
        t[active], gap[active] = reached, left
        active = active[left.abs() > 0.003]
    hit = gap < 0.02
    return _Hit(view[hit], (row * side + column)[hit], _along(_pick(origin, hit), _pick(direction, hit), t[hit]),
                _pick(direction, hit), t[hit], side)


def _along(o: Point, d: Point, t: Tensor) -> Point:
    return o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]


def _dot(a: Point, b: Point) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _pick(p: Point, chosen: Tensor) -> Point:
    return p[0][chosen], p[1][chosen], p[2][chosen]


def _normals(geometry: _Geometry, p: Point, step: float = 0.006) -> Point:
    """Unit normals by four evaluations at the corners of a tetrahedron, three (N,)."""
    x = y = z = torch.zeros_like(p[0])
    for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        gap = geometry.distance((p[0] + sx * step, p[1] + sy * step, p[2] + sz * step))
        x, y, z = x + sx * gap, y + sy * gap, z + sz * gap
    size = solids.length(x, y, z).clamp_min(1e-8)
    return x / size, y / size, z / size


def _albedo(geometry: _Geometry, design: Design, p: Point) -> Tensor:
    """Colour of the nearest part at each point, (N, 3)."""
    slots = geometry.slots(p)
    keys = list(slots)
    owner = torch.stack([slots[k] for k in keys]).argmin(0)
    colour = torch.zeros(len(p[0]), 3, device=p[0].device)
    for i, slot in enumerate(keys):
        mine = owner == i
        q = _pick(p, mine)
        colour[mine] = design.body(q) if slot == BODY else design.part(slot, q)
    return colour


def _light_table(lights: list[Light], field: str, view: Tensor) -> Tensor:
    return torch.tensor([getattr(light, field) for light in lights], device=view.device)[view]


def _shade(geometry: _Geometry, hit: _Hit, design: Design, lights: list[Light]) -> Tensor:
    """Lit colour of every hit, (N, 3) in [0, 1]: wrapped Lambert, sky and ground ambient, occlusion, a soft gloss."""
    normal = _normals(geometry, hit.point)
    towards = geometry.to_object(_light_table(lights, "direction", hit.view), hit.view)
    facing = _dot(normal, towards)
    lambert = ((facing + 0.25) / 1.25).clamp_min(0)
    probe = 0.12
    (x, y, z), (nx, ny, nz) = hit.point, normal
    gap = geometry.distance((x + probe * nx, y + probe * ny, z + probe * nz))
    open_sky = (0.45 + 0.55 * (gap / probe)).clamp(0.3, 1) * (0.75 + 0.25 * (hit.point[1] / 0.3).clamp(0, 1))
    half = towards[0] - hit.direction[0], towards[1] - hit.direction[1], towards[2] - hit.direction[2]
    gloss = _dot(normal, half) / solids.length(*half).clamp_min(1e-6)
    gloss = gloss.clamp_min(0).pow(36) * 0.22
    ambient = _light_table(lights, "ambient", hit.view) * ((0.75 + 0.25 * normal[1]) * open_sky).unsqueeze(-1)
    key = _light_table(lights, "colour", hit.view)
    albedo = _albedo(geometry, design, hit.point)
    return (albedo * (ambient + key * lambert.unsqueeze(-1)) + key * gloss.unsqueeze(-1)).clamp(0, 1)


def _shadows(geometry: _Geometry, lights: list[Light], ground: Tensor, size_px: int) -> Tensor:
    """Factor by which the background is darkened, (V, 3, H, W): a soft shadow towards the light, contact darkening."""
    side = size_px // 2
    views = len(lights)
    d = geometry.directions(side)
    fall = -geometry.origin[:, None, None, 1] / d[..., 1].clamp_max(-1e-3)
    t = torch.where(d[..., 1] < -1e-3, fall, d.new_tensor(99.0))
    ground_point = geometry.origin[:, None, None, :] + t.unsqueeze(-1) * d
    near = (ground_point[..., 0].square() + ground_point[..., 2].square()) < 3.0
    view = near.nonzero(as_tuple=True)[0]
    point = geometry.to_object(ground_point[near], view)
    towards = geometry.to_object(_light_table(lights, "direction", view), view)
    reached = torch.full_like(point[0], 0.03)
    lit = torch.ones_like(reached)
    for _ in range(SHADOW_STEPS):
        gap = geometry.distance(_along(point, towards, reached))
        lit = torch.minimum(lit, 0.5 + 5 * gap / (reached + 0.15))
        reached = reached + gap.clamp(0.02, 0.16)
    contact = (geometry.distance(point) / 0.28).clamp(0, 1)
    strength = _light_table(lights, "shadow", view)
    dark = 1 - (1 - strength * (1 - lit.clamp(0, 1))) * (0.72 + 0.28 * contact)
    amount = torch.zeros(views, 1, side, side, device=d.device)
    amount[:, 0][near] = dark
    amount = F.interpolate(amount, size=size_px, mode="bilinear", align_corners=False) * ground
    tint = torch.tensor([light.shadow_tint for light in lights], device=d.device)[:, :, None, None]
    return 1 - amount * (1 - 0.6 * tint)


def _scatter(hit: _Hit, values: Tensor, views: int) -> Tensor:
    """Fine values (N, C) summed into pixels of 2×2 rays and divided by four: (V, C, H, W)."""
    canvas = values.new_zeros(views * hit.side * hit.side, values.shape[-1])
    canvas[hit.view * hit.side * hit.side + hit.pixel] = values
    return F.avg_pool2d(rearrange(canvas, "(v h w) c -> v c h w", v=views, h=hit.side), 2)


def ground_depth(geometry: _Geometry, ground: Tensor, size_px: int) -> Tensor:
    """Depth of the bare scene, (V, 1, H, W): the ground plane fades to 0 at the horizon, all else is far."""
    d = geometry.directions(size_px)
    t = -geometry.origin[:, None, None, 1] / d[..., 1].clamp_max(-1e-3)
    return _depth(torch.where(d[..., 1] < -1e-3, t, t.new_tensor(FARTHEST))).unsqueeze(1) * ground


def _depth(t: Tensor) -> Tensor:
    """Inverse distance scaled so that NEAREST is 1 and FARTHEST is 0."""
    return ((1 / t - 1 / FARTHEST) / (1 / NEAREST - 1 / FARTHEST)).clamp(0, 1)


def _compose(geometry: _Geometry, background: Tensor, ground: Tensor, subject: Tensor, hit: _Hit, shots: list[Shot],
             lights: list[Light], size_px: int) -> Render:
    views = len(shots)
    ones = torch.ones_like(hit.t).unsqueeze(-1)
    values = torch.cat([subject, ones, _depth(hit.t).unsqueeze(-1), torch.stack(hit.point, -1)], -1)
    layers = _scatter(hit, values, views)
    colour, mask, depth, coords = layers.split([3, 1, 1, 3], 1)
    photo = background * (1 - mask) + colour
    depth = ground_depth(geometry, ground, size_px) * (1 - mask) + depth
    coords = coords / mask.clamp_min(1e-6) * (mask > 0.5)
    for v, shot in enumerate(shots):
        if shot.occluder is not None:
            cover, ball, ball_depth = _ball(geometry, v, shot.occluder, lights[v], size_px)
            photo[v] = photo[v] * (1 - cover) + ball
            mask[v], coords[v] = mask[v] * (1 - cover), coords[v] * (cover < 0.5)
            depth[v] = depth[v] * (1 - cover) + ball_depth
    photo = photo.clamp(0, 1)
    image = torch.cat([stylise(photo[v : v + 1], shot.style) for v, shot in enumerate(shots)])
    return Render(image, photo, mask, depth, coords)


def _ball(geometry: _Geometry, v: int, ball: Occluder, light: Light, size_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage (1, H, W), premultiplied colour (3, H, W) and depth (1, H, W) of an occluding ball."""
    side = 2 * size_px
    d, o = geometry.directions(side)[v], geometry.origin[v]
    to_centre = o.new_tensor((ball.x, ball.radius, ball.z)) - o
    along = d @ to_centre
    miss = to_centre.square().sum() - along.square()
    t = along - (ball.radius**2 - miss).clamp_min(0).sqrt()
    cover = (miss < ball.radius**2).to(d.dtype)
    normal = (o + t.unsqueeze(-1) * d - (o + to_centre)) / ball.radius
    lambert = ((normal @ o.new_tensor(light.direction) + 0.25) / 1.25).clamp_min(0).unsqueeze(-1)
    ambient = (0.75 + 0.25 * normal[..., 1:2]) * o.new_tensor(light.ambient)
    colour = o.new_tensor(COLOURS[ball.colour]) * (ambient + lambert * o.new_tensor(light.colour))
    inside = cover.unsqueeze(-1)
    stacked = torch.cat([inside, colour.clamp(0, 1) * inside, (_depth(t) * cover).unsqueeze(-1)], -1)
    pooled = F.avg_pool2d(rearrange(stacked, "h w c -> 1 c h w"), 2)[0]
    return pooled[:1], pooled[1:4], pooled[4:]
