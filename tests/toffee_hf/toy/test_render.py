"""Renders: image, mask, depth and surface coordinates belong together, from any side and in any company."""

import random
from dataclasses import replace

import pytest
import torch

from toffee_hf.toy.render import Camera, Occluder, Shot
from toffee_hf.toy.world import CLASSES, toy_shot, toy_subject

SIZE_PX = 64
PLAIN = Shot(Camera(), "kitchen", 1)


def turned(yaw):
    return replace(PLAIN, camera=Camera(yaw=yaw))


@pytest.mark.parametrize("index", range(len(CLASSES)), ids=CLASSES)
def test_every_class_is_a_whole_picture_with_what_is_known_of_it(index):
    choice = random.Random(index)
    r = toy_subject("train", index).render([PLAIN, toy_shot(choice), toy_shot(choice)], SIZE_PX)
    assert r.image.shape == r.photo.shape == r.coords.shape == (3, 3, SIZE_PX, SIZE_PX)
    assert r.mask.shape == r.depth.shape == (3, 1, SIZE_PX, SIZE_PX)
    for values in (r.image, r.photo, r.mask, r.depth):
        assert torch.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    area = r.mask.mean((1, 2, 3))
    assert (area > 0.03).all() and (area < 0.6).all()
    border = torch.cat([r.mask[..., 0, :], r.mask[..., -1, :], r.mask[..., 0], r.mask[..., -1]], -1)
    assert border.mean() < 0.05, "the subject stands inside the frame"


def test_coordinates_lie_on_the_subject_and_nowhere_else():
    r = toy_subject("train", 1).render([PLAIN, turned(2.0)], SIZE_PX)
    known = r.coords.abs().amax(1, keepdim=True) > 0
    assert torch.equal(known, r.mask > 0.5)
    assert r.coords[:, 1].min() > -0.1 and r.coords.abs().max() < 1.4


def test_the_subject_is_nearer_than_what_is_behind_it():
    r = toy_subject("train", 0).render([PLAIN], SIZE_PX)
    inside = r.depth[r.mask == 1]
    assert inside.min() > 0.1 and inside.mean() > r.depth[0, 0, :24][r.mask[0, 0, :24] == 0].mean() + 0.1


@pytest.mark.parametrize("index", [0, 4, 7])
def test_a_surface_point_seen_from_two_sides_has_one_place(index):
    """Project each point of the first view into the second; where nothing hides it, it must read the same."""
    yaw, shot = 0.4, turned(0.4)
    r = toy_subject("train", index).render([PLAIN, shot], SIZE_PX)
    rows, columns = (r.mask[0, 0] == 1).nonzero(as_tuple=True)
    x, y, z = r.coords[0][:, rows, columns]
    c, s = torch.cos(torch.tensor(yaw)), torch.sin(torch.tensor(yaw))
    world = torch.stack([x * c + z * s, y, z * c - x * s], -1)
    u, v = project(world, shot.camera)
    column, row = u.round().long().clamp(0, SIZE_PX - 1), v.round().long().clamp(0, SIZE_PX - 1)
    seen = r.mask[1, 0, row, column] == 1
    gap = (r.coords[1][:, row, column] - torch.stack([x, y, z])).norm(dim=0)[seen]
    assert seen.float().mean() > 0.5
    assert gap.median() < 0.03, "most points are seen from both sides, at the same place"
    assert (gap < 0.08).float().mean() > 0.6


def project(world, camera):
    """Pixel columns and rows of world points (N, 3): a pinhole camera that looks at (0, 0.46, 0), 36° wide."""
    e = torch.tensor(camera.elevation)
    origin = torch.stack([torch.tensor(0.0), 0.46 + camera.distance * e.sin(), camera.distance * e.cos()])
    right, up, back = (torch.tensor(v) for v in ((1.0, 0.0, 0.0), (0.0, e.cos(), -e.sin()), (0.0, e.sin(), e.cos())))
    d = world - origin
    depth = -(d @ back) * torch.tan(torch.deg2rad(torch.tensor(18.0)))
    return (((d @ right) / depth + 1) / 2 * SIZE_PX - 0.5, (1 - (d @ up) / depth) / 2 * SIZE_PX - 0.5)


def test_turning_the_subject_moves_it_and_not_the_scene():
    r = toy_subject("train", 0).render([PLAIN, turned(1.2)], SIZE_PX)
    both = (r.mask[0] == 1) & (r.mask[1] == 1)
    assert (r.coords[0] - r.coords[1]).norm(dim=0)[both[0]].mean() > 0.2
    assert (r.mask[0] - r.mask[1]).abs().sum() > 20
    top = slice(0, 6)
    assert torch.equal(r.photo[0, :, top], r.photo[1, :, top])


def test_views_taken_together_or_alone_are_the_same_pictures():
    subject, shots = toy_subject("held-out", 9), [PLAIN, turned(0.7)]
    together = subject.render(shots, SIZE_PX)
    for v, shot in enumerate(shots):
        alone = subject.render([shot], SIZE_PX)
        for field in ("image", "mask", "depth", "coords"):
            assert (getattr(alone, field)[0] - getattr(together, field)[v]).abs().max() < 1e-4
    again = subject.render(shots, SIZE_PX)
    assert torch.equal(again.image, together.image) and torch.equal(again.coords, together.coords)


def test_a_ball_in_front_takes_its_part_of_the_mask():
    ball = Occluder(0.1, 0.6, 0.16, "red")
    r = toy_subject("train", 2).render([PLAIN, replace(PLAIN, occluder=ball)], SIZE_PX)
    gone = (r.mask[0] == 1) & (r.mask[1] == 0)
    assert gone.sum() > 20
    assert r.coords[1][:, gone[0]].abs().max() == 0
    assert (r.depth[1] > r.depth[0])[gone].all(), "the ball is nearer"
    red = r.photo[1][:, gone[0]]
    assert (red[0] - red[2]).mean() > 0.2
    assert (r.mask[1] <= r.mask[0]).all()


def test_light_follows_from_the_scene():
    subject = toy_subject("train", 2)
    r = subject.render([replace(PLAIN, scene=scene) for scene in ("sunset", "moon", "snow")], SIZE_PX)
    inside = (r.mask == 1).all(0)[0]
    sunset, moon, snow = (r.photo[v][:, inside].mean(1) for v in range(3))
    assert (sunset[0] / sunset[2]) / (moon[0] / moon[2]) > 1.15, "the setting sun is redder than the moon's light"
    assert (snow - moon).abs().max() > 0.02
    assert torch.equal(r.mask[0], r.mask[1]) and torch.equal(r.coords[0], r.coords[2])


def test_the_subject_casts_a_shadow_on_the_ground():
    from toffee_hf.toy.scenes import paint_scene

    r, bare = toy_subject("train", 0).render([PLAIN], SIZE_PX), paint_scene("kitchen", 1, SIZE_PX)
    free = r.mask[0, 0] == 0
    change = (r.photo[0] - bare.image).mean(0)[free]
    assert change.max() < 1e-5 and (change < -0.03).sum() > 30, "shadows only darken, and some do"


def test_a_style_changes_the_image_and_leaves_the_photo():
    r = toy_subject("train", 0).render([PLAIN, replace(PLAIN, style="pencil")], SIZE_PX)
    assert torch.equal(r.photo[0], r.photo[1]) and torch.equal(r.image[0], r.photo[0])
    assert (r.image[1] - r.photo[1]).abs().mean() > 0.02


def test_a_larger_picture_shows_the_same():
    subject = toy_subject("train", 3)
    small, large = subject.render([PLAIN], 64), subject.render([PLAIN], 128)
    assert (torch.nn.functional.avg_pool2d(large.mask, 2) - small.mask).abs().mean() < 0.02
    assert (torch.nn.functional.avg_pool2d(large.photo, 2) - small.photo).abs().mean() < 0.03
