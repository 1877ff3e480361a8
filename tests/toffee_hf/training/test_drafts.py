"""Drafts of pool rows: drawn once by the base, found again by their row."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from toffee_hf.evaluation.ways import DRAFT, STYLED_DRAFT
from toffee_hf.training import diffusion, tiny
from toffee_hf.training.diffusion import draw_drafts
from toffee_hf.training.loop import CPU, Schedule
from toffee_hf.training.pool import Pool


class Sized:
    """A pool of so many rows on the CPU."""

    place = CPU

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows


@pytest.fixture
def drawn(copied):
    """The pool with drafts of rows 2, 5 and 9, which are their numbers all over."""
    rows = np.array([2, 5, 9])
    np.save(copied.folder / "draft_rows.npy", rows)
    np.save(copied.folder / "draft_latents.npy", np.ones((3, 4, 16, 16), np.float16) * rows[:, None, None, None])
    return Pool(copied.folder)


def test_a_draft_is_found_by_its_row(drawn):
    index = torch.tensor([5, 0, 11, 9, 5, 2, 3])
    latents, has = drawn.drafts(index)
    assert latents.shape == (7, 4, 16, 16) and latents.dtype == torch.float32
    assert has.tolist() == [True, False, False, True, True, True, False]
    assert latents.amax((1, 2, 3)).tolist() == latents.amin((1, 2, 3)).tolist() == [5, 0, 0, 9, 5, 2, 0]


def test_a_pool_without_drafts_has_none(toys):
    latents, has = toys.drafts(torch.tensor([3, 4]))
    assert latents.shape == (2, 4, 16, 16) and latents.abs().max() == 0 and not has.any()


def test_the_base_draws_some_rows(copied, family):
    draw_drafts(copied, family.draft_pipeline, 2, 0)
    rows, latents = (np.load(copied.folder / f"draft_{name}.npy") for name in ("rows", "latents"))
    assert len(set(rows.tolist())) == 2 and (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < len(copied)
    assert latents.shape == (2, 4, 16, 16) and latents.dtype == np.float16 and np.isfinite(latents).all()
    found, has = Pool(copied.folder).drafts(torch.from_numpy(rows).flip(0))
    assert has.all() and torch.equal(found, torch.from_numpy(latents).flip(0).float())
    draw_drafts(copied, family.draft_pipeline, 2, 0)
    assert np.array_equal(np.load(copied.folder / "draft_latents.npy"), latents), "one seed, one set of drafts"


def test_no_more_rows_are_drawn_than_there_are(copied):
    asked = []

    class Pipeline:
        def __call__(self, words, picture, **settings):
            asked.append((words, picture, settings))
            return type("Found", (), {"images": torch.zeros(len(words), 4, 16, 16)})

    draw_drafts(copied, Pipeline(), 99, 0)
    assert np.load(copied.folder / "draft_rows.npy").tolist() == list(range(12))
    styles = [shot.style for shot in copied.shots[:12]]
    rows = {scale: [i for i, style in enumerate(styles) if (style == "photo") == (scale == DRAFT.control)]
            for scale in (DRAFT.control, STYLED_DRAFT.control)}
    assert all(rows.values()) and len(asked) == 2
    for words, picture, settings in asked:
        drawn = rows[settings["controlnet_conditioning_scale"]]
        assert all(copied.people[i // 4].class_name in line for i, line in zip(drawn, words, strict=True))
        assert picture.shape == (len(drawn), 3, 128, 128) and (settings["height"], settings["width"]) == (128, 128)


def test_the_controlnet_that_is_seen_as_told_takes_its_place(monkeypatch, family, toys, tmp_path):
    kept, asked = {}, []
    monkeypatch.setattr(diffusion, "train_consistency", lambda control, *rest: asked.append(rest) or control)
    members = {"controlnet": family.controlnet, "depth": family.depth}
    desk = SimpleNamespace(pool=toys, schedule="schedule", seed=3, autoencoder=family.vae, base=family.unet,
                           folder=tmp_path, load=lambda cls, name: members[name], captions=lambda name: name,
                           save=lambda model, name: kept.update({name: model}))
    tiny._consistency(desk)
    assert kept == {"controlnet": family.controlnet}
    assert asked == [(toys, "consistency", family.unet, family.vae, family.depth, "schedule", tmp_path / "consistency",
                      3)]
    assert tiny.JOBS["drafts"].needs == ("consistency",) and tiny.JOBS["consistency"].member is None


@pytest.mark.parametrize(("rows", "steps", "count"), [(800, 5, 80), (800, 50, 100), (4, 5, 1)])
def test_only_a_part_of_the_pool_is_drawn(monkeypatch, tmp_path, family, rows, steps, count):
    """The others are learnt from degraded copies, of which the Refiner needs both."""
    asked = []
    monkeypatch.setattr(diffusion, "draw_drafts", lambda pool, pipeline, *rest: asked.append(rest))
    desk = SimpleNamespace(pool=Sized(rows), schedule=Schedule(steps=steps, learning_rate=1e-3, batch_size=16), seed=3,
                           text=(family.tokenizer, family.clip), autoencoder=family.vae, base=family.unet,
                           load=lambda cls, name: family.controlnet)
    tiny._drafts(desk)
    assert asked == [(count, 3, 16)]
