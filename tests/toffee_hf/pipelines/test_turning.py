"""Turning what is seen in space: nothing by no turn, towards the truth by a true one, nothing where nothing is told."""

import math
from dataclasses import replace

import pytest
import torch

from toffee_hf.pipelines.pipeline_toffee_view import in_space, light_of, normals, surroundings, turned
from toffee_hf.toy.render import CAMERA, FARTHEST, FIELD_OF_VIEW, NEAREST
from toffee_hf.toy.world import reference_shot, toy_subject

TURNS = (0.0, 0.4, -0.4)
PATTERNED = (2, 3)                    # a vase and a watering can on which a turn shows


@pytest.fixture(scope="module")
def toys():
    """For each subject its photos (3, 3, H, W) in [-1, 1], masks and depths (3, 1, H, W): as it is, and turned."""
    found = {}
    for i in PATTERNED:
        subject = toy_subject("train", i)
        first = reference_shot(subject)
        cameras = [replace(first.camera, yaw=first.camera.yaw + turn) for turn in TURNS]
        shown = subject.render([replace(first, camera=camera) for camera in cameras])
        found[i] = shown.photo * 2 - 1, shown.mask, shown.depth
    return found


@pytest.fixture
def both(toys):
    """The two subjects as they are, in one batch: photo, mask, depth."""
    return tuple(torch.cat([toys[i][k][:1] for i in PATTERNED]) for k in range(3))


def turn_by(photo, mask, depth, *turns):
    return turned(photo, mask, depth, torch.tensor(turns), **CAMERA)


def psnr(x, truth, where):
    return (10 * torch.log10(4 * 3 * where.sum() / ((x - truth).square() * where).sum())).item()


def test_no_turn_gives_the_picture_back(both):
    photo, mask, depth = both
    found, covered = turn_by(photo, mask, depth, 0.0, 0.0)
    solid = (mask > 0.5).float()
    assert (covered * solid).sum() > 0.99 * solid.sum()
    assert (covered * (mask < 0.1)).sum() < 0.01 * solid.sum()
    for i in range(2):
        assert psnr(found[i], photo[i], covered[i] * solid[i]) > 27


@pytest.mark.parametrize("i", PATTERNED)
@pytest.mark.parametrize("k", [1, 2])
def test_a_turn_by_the_true_depth_is_nearly_the_turned_subject(toys, i, k):
    photo, mask, depth = toys[i]
    found, covered = turn_by(photo[:1], mask[:1], depth[:1], TURNS[k])
    where = covered * (mask[k : k + 1] > 0.5)
    assert where.sum() > 0.85 * covered.sum() and where.sum() > 0.8 * (mask[k] > 0.5).sum()
    truth = photo[k : k + 1]
    unturned, reached = psnr(photo[:1], truth, where), psnr(found, truth, where)
    assert reached > unturned + 3
    wrong, elsewhere = turn_by(photo[:1], mask[:1], depth[:1], -TURNS[k])
    assert reached > psnr(wrong, truth, elsewhere * (mask[k : k + 1] > 0.5)) + 3, "the sign is the camera's"


def test_more_turn_hides_more_and_what_is_hidden_is_empty(both):
    shares = []
    for turn in (0.0, 0.4, 1.2):
        found, covered = turn_by(*both, turn, turn)
        assert set(covered.unique().tolist()) == {0.0, 1.0}
        assert found[(covered == 0).expand_as(found)].abs().max() == 0
        assert found.abs().max() <= 1 + 1e-5
        shares.append(covered.sum().item())
    assert shares[0] > shares[1] > shares[2] > 0


def test_what_is_not_told_is_not_turned(both):
    found, covered = turn_by(*both, math.nan, math.nan)
    assert covered.max() == 0 and found.abs().max() == 0
    mixed, where = turn_by(*both, math.nan, 0.4)
    alone, there = turn_by(*(x[1:] for x in both), 0.4)
    assert where[0].max() == 0 and mixed[0].abs().max() == 0
    assert torch.equal(where[1:], there) and torch.allclose(mixed[1:], alone, atol=1e-5)


def test_an_empty_mask_gives_nothing(both):
    photo, mask, depth = both
    found, covered = turn_by(photo, torch.zeros_like(mask), depth, 0.4, -0.4)
    assert found.shape == photo.shape and covered.shape == mask.shape
    assert covered.max() == 0 and found.abs().max() == 0
    mask = torch.cat([torch.zeros_like(mask[:1]), mask[1:]])
    _, covered = turn_by(photo, mask, depth, 0.4, 0.4)
    assert covered[0].max() == 0 and covered[1].sum() > 0


def test_a_batch_is_its_single_pictures(both):
    found, covered = turn_by(*both, 0.4, -0.7)
    for i, turn in enumerate((0.4, -0.7)):
        alone, there = turn_by(*(x[i : i + 1] for x in both), turn)
        assert torch.equal(covered[i], there[0]) and torch.allclose(found[i], alone[0], atol=1e-5)


@pytest.mark.parametrize(("turn", "low", "high"), [(0.5, 66, 100), (-0.5, 10, 44)])
def test_the_nearer_surface_hides_the_farther(turn, low, high):
    """A green strip before a red wall: it swings across the wall with its front's turn, and nothing shows through."""
    photo, depth = torch.tensor([1.0, -1.0, -1.0])[:, None, None].repeat(1, 128, 128), torch.full((128, 128), 0.35)
    photo[:, :, 44:60], depth[:, 44:60] = torch.tensor([-1.0, 1.0, -1.0])[:, None, None], 0.5
    mask = torch.zeros(1, 1, 128, 128)
    mask[:, :, 32:96, 32:96] = 1
    found, covered = turn_by(photo[None], mask, depth[None, None], turn)
    rows = found[0, :, 60:68]
    strip, wall = rows[1] > 0.9, rows[0] > 0.9
    columns = strip.any(0).nonzero().flatten()
    assert low <= columns.float().mean() <= high
    across = strip[:, columns.min() : columns.max() + 1]
    assert across.shape[1] >= 10 and across.float().mean() > 0.85
    assert wall.sum() > 8 * 15, "beside it the wall is seen"
    assert (covered[0, 0, 60:68] > 0).sum() < 1.2 * (strip.sum() + wall.sum()), "few pixels are mixed"


def test_a_picture_in_which_the_object_turns_is_the_picture_around_it(both):
    photo, mask, depth = both
    found, covered = in_space(photo, mask, depth, torch.tensor([0.4, -0.7]), **CAMERA)
    surface, there = turn_by(photo, mask, depth, 0.4, -0.7)
    assert torch.equal(covered, there)
    at = (covered > 0).expand_as(found)
    assert 0.01 < (found - surface)[at].abs().mean() < 0.2, "lit as it faces now"
    around = (torch.nn.functional.max_pool2d((mask > 0).float() + covered, 9, 1, 4) == 0).expand_as(found)
    assert around.float().mean() > 0.3 and torch.equal(found[around], photo[around])
    assert found.abs().max() <= 1 + 1e-4


@pytest.mark.parametrize("case", ["no depth", "no turn", "no object"])
def test_where_nothing_is_turned_the_picture_is_as_it_was(both, case):
    photo, mask, depth = both
    turn = torch.tensor([math.nan, math.nan] if case == "no turn" else [0.4, -0.4])
    mask = torch.zeros_like(mask) if case == "no object" else mask
    found, covered = in_space(photo, mask, None if case == "no depth" else depth, turn, **CAMERA)
    assert torch.equal(found, photo) and covered.max() == 0 and covered.shape == mask.shape


def test_where_the_object_was_its_surroundings_go_on():
    mask = torch.zeros(1, 1, 128, 128)
    mask[:, :, 32:96, 32:96] = 1
    ground = torch.tensor([0.3, -0.2, 0.6])[None, :, None, None].expand(1, 3, 128, 128)
    card = torch.where(mask > 0, torch.full_like(ground, -1.0), ground)
    found, covered = in_space(card, mask, torch.full_like(mask, 0.4), torch.tensor([1.2]), **CAMERA)
    left = ((mask > 0) & (covered == 0)).expand_as(found)
    assert left.float().mean() > 0.05, "a card that turns hides less"
    assert (found - ground)[left].abs().max() < 1e-3, "and nothing of it stays behind"


def test_surroundings_are_drawn_from_their_own_side():
    x = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128).clone()
    hole = torch.zeros(1, 1, 128, 128)
    hole[:, :, 40:88, 40:88] = 1
    found = surroundings(torch.where(hole > 0, torch.full_like(x, 9.0), x), hole)
    inside = found[0, 0, 40:88, 40:88].mean(0)
    assert found.abs().max() <= 1 and (found - x).abs().max() < 0.5, "nothing of what was in the hole"
    assert inside[0] < -0.1 < 0.1 < inside[-1]
    assert torch.isfinite(surroundings(x, torch.ones_like(hole))).all()


def test_surroundings_of_a_batch_are_those_of_its_pictures(both):
    photo, mask, _ = both
    together = surroundings(photo, mask)
    for i in range(2):
        assert torch.allclose(surroundings(photo[i : i + 1], mask[i : i + 1])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("i", PATTERNED)
@pytest.mark.parametrize("k", [1, 2])
def test_the_light_stays_where_it_was_when_an_object_turns(toys, i, k):
    photo, mask, depth = toys[i]
    first = photo[:1], mask[:1], depth[:1]
    carried, covered = turn_by(*first, TURNS[k])
    lit, _ = in_space(*first, torch.tensor([TURNS[k]]), **CAMERA)
    where = covered * (mask[k : k + 1] > 0.5)
    assert psnr(lit, photo[k : k + 1], where) > psnr(carried, photo[k : k + 1], where) + 0.3


def ball(size=128):
    """Mask, depth and true normals of a sphere before the camera."""
    line = ((torch.arange(size) + 0.5) / size * 2 - 1) * math.tan(FIELD_OF_VIEW / 2)
    x, y = line.expand(size, size), -line[:, None].expand(size, size)
    rays = torch.nn.functional.normalize(torch.stack([x, y, -torch.ones_like(x)]), dim=0)
    centre, radius = torch.tensor([0.0, 0.0, -2.6]), 0.6
    along = (rays * centre[:, None, None]).sum(0)
    inner = radius**2 - (centre.square().sum() - along.square())
    t = along - inner.clamp_min(0).sqrt()
    facing = (rays * t - centre[:, None, None]) / radius
    depth = (1 / t - 1 / FARTHEST) / (1 / NEAREST - 1 / FARTHEST)
    mask = (inner > 0).float()
    return mask[None, None], (depth * mask)[None, None], (facing * mask)[None]


def test_normals_are_those_of_a_ball():
    mask, depth, truth = ball()
    found = normals(mask, depth, **CAMERA)
    inside = truth[:, 2] > 0.5
    assert torch.allclose(found.norm(dim=1)[inside], torch.ones(int(inside.sum())), atol=1e-4)
    assert found[..., 0, 0].abs().max() == 0, "nothing is known off the ball"
    assert ((found * truth).sum(1)[inside]).min() > 0.95
    assert torch.isfinite(normals(torch.zeros_like(mask), depth, **CAMERA)).all()


def test_the_light_of_a_ball_is_found_whatever_its_paint():
    mask, _, facing = ball()
    light = torch.tensor([[0.4, -0.2, 0.0]])
    paint = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2)
    paint = torch.nn.functional.interpolate(paint, 128)
    shaded = paint * (facing * light[..., None, None]).sum(1, keepdim=True).exp()
    found = light_of(shaded * 2 - 1, mask, facing)
    assert (found - light).abs().max() < 0.1
    assert light_of(shaded * 2 - 1, torch.zeros_like(mask), facing).abs().max() == 0, "nothing is seen"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_turned_as_well(both, dtype):
    photo, mask, depth = (x.to(dtype) for x in both)
    turn = torch.tensor([0.4, -0.7])
    found, covered = in_space(photo, mask, depth, turn.to(dtype), **CAMERA)
    exact, there = in_space(*both, turn, **CAMERA)
    assert found.dtype == covered.dtype == dtype
    assert (found.float() - exact).abs().mean() < 0.02 and (covered.float() - there).abs().mean() < 0.02


def test_parts_too_thin_for_depth_have_no_normals_and_tell_no_light():
    mask, depth, facing = ball()
    mask[..., 60:62, :30] = 1
    found = normals(mask, depth, **CAMERA)
    assert found[..., 60:62, :8].abs().max() == 0
    x = 0.4 * torch.exp(0.4 * facing[:, :1]).expand(-1, 3, -1, -1) * 2 - 1
    dark = torch.where((mask > 0) & (facing.abs().sum(1, keepdim=True) == 0), -0.9, x)
    assert (light_of(dark, mask, found)[0, 0] - 0.4).abs() < 0.12
