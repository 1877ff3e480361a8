"""Axes to learn: about them an estimated surface moves as the true one does; the network comes to find them."""

import numpy as np
import pytest
import torch

from toffee_hf.errors import InputError
from toffee_hf.models.toffee_axis import ToffeeAxis
from toffee_hf.pipelines.pipeline_toffee_view import outline_axis, turned_depth
from toffee_hf.toy.render import CAMERA, Camera
from toffee_hf.training import axis as module
from toffee_hf.training.axis import fit_pool, fitted_axes, train_axis
from toffee_hf.training.loop import Schedule
from toffee_hf.training.pool import Pool

FIRST = torch.tensor([0, 4, 8])       # the photos of the pool that are seen again turned, in the rows after them


@pytest.fixture
def told(copied):
    """Masks and depths (3, 1, H, W) of FIRST, and their cameras."""
    return copied.planes("mask", FIRST), copied.planes("depth", FIRST), [copied.shots[i].camera for i in FIRST.tolist()]


def test_the_axis_of_a_middle_camera_is_its_own(told):
    mask, depth, cameras = told
    plain = [Camera(c.yaw, c.elevation, c.distance) for c in cameras]
    found = fitted_axes(mask, depth, depth, plain)
    assert found[:, 0].abs().max() < 2e-3
    assert found[:, 1].tolist() == pytest.approx([c.distance for c in cameras], abs=5e-3)
    assert found[:, 2].tolist() == pytest.approx([c.elevation for c in cameras], abs=1e-2)


def test_about_it_the_true_surface_turns_onto_the_truth(copied, told):
    mask, depth, cameras = told
    truth, turn = copied.planes("depth", FIRST + 1), copied.yaw[FIRST + 1] - copied.yaw[FIRST]
    off = []
    for axis in (None, fitted_axes(mask, depth, depth, cameras)):
        found, covered = turned_depth(mask, depth, turn, axis, **CAMERA)
        where = covered * (copied.planes("mask", FIRST + 1) > 0.99)
        off.append(((found - truth).abs() * where).sum() / where.sum())
    assert off[1] < 0.7 * off[0] and off[1] < 0.01


def test_a_surface_thought_too_near_has_its_axis_nearer(told):
    mask, depth, cameras = told
    nearer = fitted_axes(mask, (depth + 0.06) * (mask > 0), depth, cameras)
    assert (nearer[:, 1] < fitted_axes(mask, depth, depth, cameras)[:, 1] - 0.1).all()


def test_a_pool_has_the_axes_of_all_its_rows_once(copied, monkeypatch):
    np.save(copied.folder / "estimated.npy", copied.arrays["depth"])
    pool = Pool(copied.folder)
    fit_pool(pool, batch_size=5)
    assert pool.arrays["axes"].shape == (12, 3) and np.isfinite(pool.arrays["axes"]).all()
    mask, depth = (pool.planes(name, FIRST) for name in ("mask", "depth"))
    alone = fitted_axes(mask, depth, depth, [pool.shots[i].camera for i in FIRST.tolist()])
    assert torch.allclose(Pool(copied.folder).rows("axes", FIRST), alone, atol=1e-4)
    monkeypatch.setattr(module, "fitted_axes", None)
    fit_pool(Pool(copied.folder))


def test_estimates_of_some_photos_only_are_refused(copied):
    estimated = np.array(copied.arrays["depth"])
    estimated[2] = 0
    np.save(copied.folder / "estimated.npy", estimated)
    with pytest.raises(InputError, match="estimates of some photos only"):
        fit_pool(Pool(copied.folder))
    assert not (copied.folder / "axes.npy").exists()


def test_training_brings_axes_nearer_to_those_to_learn(copied, tmp_path):
    np.save(copied.folder / "estimated.npy", copied.arrays["depth"])
    pool = Pool(copied.folder)
    fit_pool(pool)
    torch.manual_seed(0)
    model = train_axis(ToffeeAxis(widths=(8, 8, 8, 8)), pool, Schedule(steps=150, learning_rate=3e-3, batch_size=8),
                       tmp_path, 0)
    rows = torch.arange(12)
    photo, mask, depth = pool.pictures("photo", rows), pool.planes("mask", rows), pool.planes("estimated", rows)
    outline, goal = outline_axis(mask, depth, **CAMERA), pool.rows("axes", rows)
    with torch.no_grad():
        found = model(photo, mask, depth, outline)
    assert ((found - goal).abs().mean(0) < 0.8 * (outline - goal).abs().mean(0)).all()
