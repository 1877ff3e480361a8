"""The pool: rendered once, read in any order, the same after a kill."""

import random

import numpy as np
import pytest
import torch

from tests.toffee_hf.training.in_process import InProcess
from toffee_hf.toy.world import toy_subject
from toffee_hf.training import pool as module
from toffee_hf.training.loop import Place
from toffee_hf.training.pool import SHOTS, Pool, encode_pool, pool_shots, render_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ProcessPoolExecutor", InProcess)
        patch.setattr(module, "SIZE_PX", 64)
        patch.setattr(module, "CHUNK", 2)
        return render_pool(tmp_path_factory.mktemp("pool"), 3, 1)


def test_four_shots_of_each_subject(pool):
    assert len(pool) == 3 * SHOTS and [s.index for s in pool.people] == [0, 1, 2]
    assert pool.arrays["image"].shape == (12, 3, 64, 64) and pool.arrays["mask"].shape == (12, 64, 64)


def test_rows_are_the_renders_of_their_shots(pool):
    subject = toy_subject("train", 2)
    shown = subject.render(pool_shots(subject), 64)
    found = pool.pictures("image", torch.arange(8, 12))
    assert ((found + 1) / 2 - shown.image).abs().max() <= 0.5 / 255 + 1e-6
    assert (pool.planes("mask", torch.arange(8, 12)) - shown.mask).abs().max() <= 0.5 / 255 + 1e-6


def test_rows_come_in_the_order_asked_also_twice(pool):
    index = torch.tensor([7, 0, 7, 3])
    found = pool.rows("image", index)
    for row, i in zip(found.numpy(), index.tolist(), strict=True):
        assert np.array_equal(row, pool.arrays["image"][i])


def test_ranges(pool):
    index = torch.arange(len(pool))
    assert pool.pictures("photo", index).abs().max() <= 1
    depth = pool.planes("depth", index)
    assert depth.shape == (12, 1, 64, 64) and depth.min() >= 0 and depth.max() <= 1


def test_the_second_shot_is_the_first_with_the_subject_turned():
    for i in range(20):
        first, second, third, _ = pool_shots(toy_subject("train", i))
        assert first.style == second.style == "photo"
        assert (first.scene, first.scene_seed) == (second.scene, second.scene_seed)
        assert 0.3 < abs(first.camera.yaw - second.camera.yaw) < 1.5
        assert third.scene_seed != first.scene_seed


def test_captions_name_the_class(pool):
    choice = random.Random(0)
    assert all(pool.people[i // SHOTS].class_name in pool.caption(i, choice) for i in range(len(pool)))


def test_a_killed_rendering_goes_on_to_the_same_bytes(pool, tmp_path, monkeypatch):
    class Dies(InProcess):
        @staticmethod
        def map(render, chunks):
            render(chunks[0])
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "SIZE_PX", 64)
    monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(module, "ProcessPoolExecutor", Dies)
    with pytest.raises(KeyboardInterrupt):
        render_pool(tmp_path, 3, 1)
    assert not (tmp_path / "subjects.txt").exists()
    rendered = []

    class Watches(InProcess):
        @staticmethod
        def map(render, chunks):
            rendered.extend(chunks)
            return map(render, chunks)

    monkeypatch.setattr(module, "ProcessPoolExecutor", Watches)
    again = render_pool(tmp_path, 3, 1)
    assert rendered == [2], "what was done is not done again"
    assert all(np.array_equal(again.arrays[field], pool.arrays[field]) for field in module.FIELDS)


def test_latents_are_stored_once(pool, family):
    encode_pool(pool, family.vae, batch_size=5)
    found = Pool(pool.folder)
    index = torch.tensor([9, 2])
    expected = family.vae.latents(pool.pictures("image", index))
    assert (found.rows("image_latents", index).float() - expected).abs().max() < 1e-2
    written = (pool.folder / "image_latents.npy").stat().st_mtime_ns
    encode_pool(found, None)
    assert (pool.folder / "image_latents.npy").stat().st_mtime_ns == written


def test_away_from_the_cpu_rows_are_held_there(pool):
    """A device without memory stands for one: what is asked there comes from there."""
    place = Place(device=torch.device("meta"))
    away, index = Pool(pool.folder, place), torch.arange(3, device="meta")
    assert away.pictures("image", index).device == away.planes("mask", index).device == away.yaw.device == place.device
    assert away.pictures("image", index).shape == (3, 3, 64, 64) and away.planes("depth", index).shape == (3, 1, 64, 64)


def test_yaw_is_that_of_the_shots(pool):
    assert pool.yaw.tolist() == pytest.approx([shot.camera.yaw for shot in pool.shots])
