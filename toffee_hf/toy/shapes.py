"""The classes of toy subjects: what solids each is made of and which part of the design colours them.

A shape is a function of a point and of shape parameters in [0, 1]; it returns one distance per *slot*:
BODY carries the surface design, ACCENT the second colour, THIRD the third colour, DARK near-black (wheels, eyes).
Front is +z, right is +x, the ground is y = 0. Most shapes are asymmetric, so that a pose shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from toffee_hf.toy import solids as s
from toffee_hf.toy.solids import Point

BODY, ACCENT, THIRD, DARK = range(4)
PARAMETERS = 4
Params = tuple[float, ...]
Slots = dict[int, Tensor]
Shape = Callable[[Point, Params], Slots]


def between(low: float, high: float, t: float) -> float:
    return low + (high - low) * t


def mug(p: Point, q: Params) -> Slots:
    r, h = between(0.32, 0.42, q[0]), between(0.62, 0.86, q[1])
    wall = s.cylinder(p, (0, h / 2, 0), r, h / 2, 0.04)
    cup = s.carve(wall, s.cylinder(p, (0, h / 2 + 0.09, 0), r - 0.06, h / 2, 0.03))
    ring = s.torus(p, (r + 0.03, h * 0.5, 0), between(0.17, 0.23, q[2]), between(0.045, 0.07, q[3]))
    handle = s.carve(ring, s.cylinder(p, (0, h / 2, 0), r - 0.02, h, 0.01))
    return {BODY: cup, ACCENT: handle}


def teapot(p: Point, q: Params) -> Slots:
    r, h = between(0.37, 0.44, q[0]), between(0.28, 0.36, q[1])
    body = s.ellipsoid(p, (0, h, 0), (r, h, r))
    spout = s.capsule(p, (r * 0.7, h * 0.8, 0), (r + 0.26, h + between(0.2, 0.36, q[2]), 0), 0.1, 0.05)
    handle = s.torus(p, (-r - 0.02, h * 1.05, 0), between(0.16, 0.21, q[3]), 0.045)
    knob = s.sphere(p, (0, 2 * h + 0.09, 0), 0.07)
    lid = s.ellipsoid(p, (0, 2 * h - 0.03, 0), (r * 0.5, 0.08, r * 0.5))
    return {BODY: s.blend(body, spout, 0.08), ACCENT: s.union(handle, knob), THIRD: lid}


def vase(p: Point, q: Params) -> Slots:
    belly, neck, h = between(0.28, 0.4, q[0]), between(0.11, 0.18, q[1]), between(0.5, 0.62, q[2])
    body = s.ellipsoid(p, (0, h * 0.62, 0), (belly, h * 0.62, belly))
    body = s.blend(body, s.cone(p, h * 0.7, 1.0, neck + 0.06, neck), 0.1)
    foot = s.cylinder(p, (0, 0.03, 0), belly * 0.6, 0.04, 0.02)
    rim = s.cylinder(p, (0, 1.0, 0), neck + 0.05, 0.035, 0.03)
    ear = s.torus(p, (neck + between(0.06, 0.1, q[3]), 0.82, 0), 0.13, 0.035)
    return {BODY: body, ACCENT: s.union(ear, rim), THIRD: foot}


def watering_can(p: Point, q: Params) -> Slots:
    r, h = between(0.27, 0.34, q[0]), between(0.5, 0.62, q[1])
    tank = s.cone(p, 0.0, h, r + 0.05, r - 0.03) - 0.01
    reach = between(0.3, 0.4, q[2])
    spout = s.capsule(p, (r - 0.05, 0.14, 0), (r + reach, h + 0.12, 0), 0.06, 0.045)
    rose = s.ellipsoid(p, (r + reach + 0.01, h + 0.14, 0), (0.09, 0.09, 0.11))
    top = s.torus(p, (-0.06, h + 0.02, 0), between(0.2, 0.26, q[3]), 0.04)
    return {BODY: s.blend(tank, spout, 0.05), ACCENT: s.carve(top, tank), THIRD: rose}


def car(p: Point, q: Params) -> Slots:
    half, w, roof = between(0.5, 0.6, q[0]), between(0.25, 0.3, q[1]), between(0.5, 0.62, q[2])
    hood = between(0.05, 0.16, q[3])
    hull = s.box(p, (0, 0.27, 0), (half, 0.14, w), 0.07)
    cabin = s.box(p, (-hood, 0.3 + roof / 4, 0), (half * 0.52, roof / 4 + 0.02, w - 0.03), 0.08)
    x, y, z = p
    sides: Point = (x, y, abs(z))
    wheels = s.union(*(s.wheel(sides, (dx, 0.14, w), 0.14, 0.06) for dx in (-half * 0.58, half * 0.58)))
    hubs = s.union(*(s.wheel(sides, (dx, 0.14, w + 0.03), 0.065, 0.05) for dx in (-half * 0.58, half * 0.58)))
    lamps = s.sphere(sides, (half - 0.01, 0.29, w * 0.6), 0.06)
    return {BODY: s.blend(hull, cabin, 0.05), ACCENT: s.union(hubs, lamps), DARK: wheels}


def boat(p: Point, q: Params) -> Slots:
    half, w, h = between(0.48, 0.58, q[0]), between(0.2, 0.26, q[1]), between(0.86, 1.05, q[2])
    x, y, z = p
    hull = s.ellipsoid(p, (0, 0.3, 0), (half, 0.3, w))
    hull = s.carve(hull.maximum(y - 0.3), s.ellipsoid(p, (0, 0.36, 0), (half - 0.08, 0.2, w - 0.06)))
    mast = s.capsule(p, (-0.04, 0.1, 0), (-0.04, h, 0), 0.03)
    lean = between(0.36, 0.46, q[3])
    sail = (abs(z) - 0.025).maximum(0.02 - x).maximum(0.4 - y)
    sail = sail.maximum((x - 0.02 - lean + (y - 0.4) * (lean / (h - 0.42))) * 0.8)
    flag = s.box(p, (-0.13, h - 0.05, 0), (0.09, 0.055, 0.02), 0.01)
    return {BODY: sail, ACCENT: hull, THIRD: s.union(flag, mast)}


def duck(p: Point, q: Params) -> Slots:
    r, head = between(0.34, 0.42, q[0]), between(0.2, 0.25, q[1])
    body = s.ellipsoid(p, (-0.04, 0.3, 0), (r + 0.08, 0.3, r - 0.06))
    tail = s.capsule(p, (-r, 0.36, 0), (-r - 0.14, between(0.5, 0.62, q[2]), 0), 0.12, 0.04)
    neck = s.sphere(p, (0.2, 0.56 + head, 0), head)
    bill = s.ellipsoid(p, (0.2 + head + 0.05, 0.52 + head, 0), (between(0.11, 0.15, q[3]), 0.05, 0.1))
    eyes = s.sphere((p[0], p[1], abs(p[2])), (0.2 + head * 0.62, 0.62 + head, head * 0.66), 0.045)
    return {BODY: s.blend(s.blend(body, tail, 0.1), neck, 0.12), ACCENT: bill, DARK: eyes}


def robot(p: Point, q: Params) -> Slots:
    w, h = between(0.22, 0.3, q[0]), between(0.2, 0.26, q[1])
    hip = 0.26
    torso = s.box(p, (0, hip + h, 0), (w, h, w * 0.72), 0.04)
    head_y = hip + 2 * h + 0.18
    head = s.box(p, (0, head_y, 0), (between(0.16, 0.24, q[2]), 0.14, 0.15), 0.05)
    mirrored: Point = (abs(p[0]), p[1], p[2])
    legs = s.box(mirrored, (w * 0.5, hip / 2, 0), (0.085, hip / 2, 0.11), 0.03)
    waving = s.capsule(p, (w, hip + 2 * h - 0.06, 0), (w + 0.2, hip + 2 * h + between(0.12, 0.3, q[3]), 0.05), 0.06)
    hanging = s.capsule(p, (-w, hip + 2 * h - 0.08, 0), (-w - 0.1, hip + 0.12, 0.06), 0.06)
    antenna = s.union(s.capsule(p, (0.06, head_y, 0), (0.06, head_y + 0.24, 0), 0.02),
                      s.sphere(p, (0.06, head_y + 0.26, 0), 0.05))
    eyes = s.sphere(mirrored, (0.075, head_y + 0.02, 0.14), 0.045)
    return {BODY: torso, ACCENT: s.union(head, legs), THIRD: s.union(waving, hanging, antenna), DARK: eyes}


def rocket(p: Point, q: Params) -> Slots:
    r, h = between(0.2, 0.27, q[0]), between(0.42, 0.48, q[1])
    hull = s.ellipsoid(p, (0, h + 0.1, 0), (r, h, r)).maximum(0.16 - p[1])
    nose = s.ellipsoid(p, (0, h + 0.1, 0), (r + 0.012, h + 0.012, r + 0.012)).maximum(1.62 * h + 0.02 - p[1])
    span = between(0.2, 0.27, q[2])
    fins = s.union(*(s.capsule(s.turned_y(p, a), (r * 0.7, 0.34, 0), (r + span, 0.05, 0), 0.05)
                     for a in (0.5, 2.594, 4.689)))
    nozzle = s.cone(p, 0.04, 0.2, r * 0.75, r * 0.5)
    porthole = s.sphere(p, (0, h + between(0.2, 0.3, q[3]), r * 0.86), 0.1)
    return {BODY: hull, ACCENT: s.union(nose, fins), THIRD: porthole, DARK: nozzle}


def birdhouse(p: Point, q: Params) -> Slots:
    w, d, h = between(0.27, 0.34, q[0]), between(0.24, 0.3, q[1]), between(0.24, 0.3, q[2])
    walls = s.box(p, (0, h, 0), (w, h, d), 0.02)
    x, y, z = p
    top = 2 * h + between(0.26, 0.36, q[3])
    gable = ((y - top) + abs(x) * ((top - 2 * h) / (w - 0.01))).mul(0.7).maximum(abs(z) - d + 0.02).maximum(h - y)
    slope = (top - 2 * h) / w
    shell = abs((y - top - 0.03) + abs(x) * slope) / (1 + slope * slope) ** 0.5 - 0.045
    roof = shell.maximum(abs(z) - d - 0.08).maximum(abs(x) - w - 0.1)
    hole = s.sphere(p, (0, h * 1.25, d), 0.1)
    perch = s.capsule(p, (0, h * 0.72, d), (0, h * 0.72, d + 0.16), 0.03)
    chimney = s.box(p, (w * 0.55, top - 0.08, 0.05), (0.06, 0.17, 0.06), 0.02)
    return {BODY: s.union(walls, gable), ACCENT: s.union(roof), THIRD: s.union(perch, chimney), DARK: hole}


def mushroom(p: Point, q: Params) -> Slots:
    cap, h = between(0.4, 0.5, q[0]), between(0.46, 0.56, q[1])
    hat = s.ellipsoid(p, (0, h, 0), (cap, between(0.34, 0.46, q[2]), cap)).maximum(h - 0.02 - p[1])
    stem = s.cone(p, 0.0, h + 0.05, 0.19, 0.13) - 0.02
    x = between(0.3, 0.36, q[3])
    small = s.ellipsoid(p, (x, 0.2, 0.2), (0.17, 0.17, 0.17)).maximum(0.19 - p[1])
    stalk = s.capsule(p, (x, 0.02, 0.2), (x, 0.2, 0.2), 0.06)
    return {BODY: hat, ACCENT: s.union(small), THIRD: s.union(stem, stalk)}


def boot(p: Point, q: Params) -> Slots:
    r, h = between(0.19, 0.25, q[0]), between(0.62, 0.86, q[1])
    shaft = s.cylinder(p, (-0.14, h / 2 + 0.04, 0), r, h / 2, 0.05)
    shaft = s.carve(shaft, s.cylinder(p, (-0.14, h, 0), r - 0.05, 0.2, 0.02))
    toe = between(0.26, 0.36, q[2])
    foot = s.ellipsoid(p, (0.1, 0.2, 0), (toe + 0.08, 0.19, r))
    sole = s.box(p, (0.03, 0.035, 0), (toe + 0.18, 0.045, r - 0.005), 0.04)
    cuff = s.cylinder(p, (-0.14, h + 0.02, 0), r + 0.035, between(0.05, 0.09, q[3]), 0.04)
    cuff = s.carve(cuff, s.cylinder(p, (-0.14, h + 0.1, 0), r - 0.05, 0.2, 0.02))
    return {BODY: s.blend(shaft, foot, 0.1), ACCENT: cuff, THIRD: sole}


def lamp(p: Point, q: Params) -> Slots:
    r, h = between(0.3, 0.4, q[0]), between(0.32, 0.44, q[1])
    shade = s.cone(p, 0.98 - h, 0.98, r, r * between(0.45, 0.75, q[2]))
    post = s.capsule(p, (0, 0.05, 0), (0, 0.7, 0), 0.045)
    base = s.ellipsoid(p, (0, 0.03, 0), (between(0.2, 0.28, q[3]), 0.08, 0.24)).maximum(-p[1])
    cord = s.union(s.capsule(p, (r * 0.62, 0.98 - h, 0.06), (r * 0.62, 0.8 - h, 0.06), 0.016),
                   s.sphere(p, (r * 0.62, 0.76 - h, 0.06), 0.05))
    return {BODY: shade, ACCENT: s.union(base, post), THIRD: cord}


def cat(p: Point, q: Params) -> Slots:
    r, head = between(0.24, 0.3, q[0]), between(0.21, 0.26, q[1])
    body = s.ellipsoid(p, (0, 0.31, -0.04), (r, 0.33, r + 0.02))
    y = 0.58 + head * 0.8
    skull = s.ellipsoid(p, (0, y, 0.08), (head + 0.02, head, head))
    mirrored: Point = (abs(p[0]), p[1], p[2])
    tip = (head * 0.8, y + head + between(0.08, 0.16, q[2]), 0.04)
    ears = s.capsule(mirrored, (head * 0.55, y + head * 0.6, 0.06), tip, 0.09, 0.02)
    tail = s.capsule(p, (r * 0.5, 0.1, -0.2), (r + 0.24, between(0.3, 0.55, q[3]), -0.12), 0.075, 0.06)
    paws = s.ellipsoid(mirrored, (0.12, 0.06, r - 0.02), (0.09, 0.07, 0.12))
    muzzle = s.ellipsoid(p, (0, y - 0.07, 0.08 + head * 0.86), (0.09, 0.065, 0.07))
    eyes = s.sphere(mirrored, (head * 0.42, y + 0.04, 0.08 + head * 0.86), 0.045)
    fur = s.blend(s.blend(body, skull, 0.06), ears, 0.04)
    return {BODY: fur, ACCENT: s.union(tail, paws), THIRD: muzzle, DARK: eyes}


SHAPES: Mapping[str, Shape] = MappingProxyType({
    "mug": mug, "teapot": teapot, "vase": vase, "watering can": watering_can, "car": car, "boat": boat, "duck": duck,
    "robot": robot, "rocket": rocket, "birdhouse": birdhouse, "mushroom": mushroom, "boot": boot, "lamp": lamp,
    "cat": cat,
})
