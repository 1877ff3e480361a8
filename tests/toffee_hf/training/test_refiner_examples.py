"""Examples for the Refiner: a wrong draft, and a reference that tells what its transfer allows and nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny_family import FEATURES, LATENTS, TEXT
from toffee_hf.pipelines.pipeline_toffee_refiner import TRANSFERS, mask_box
from toffee_hf.toy.render import CAMERA
from toffee_hf.training import refiner_examples as module
from toffee_hf.training.pool import Pool
from toffee_hf.training.refiner_examples import altered, degraded, refiner_examples, relit, shaded

EVERY = torch.arange(12)
FULL = torch.zeros(12, dtype=torch.long)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fields(example):
    return {name: getattr(example, name) for name in example.__slots__}


@pytest.fixture
def made(toys, family):
    return lambda seed=0, index=EVERY: refiner_examples(toys, index, family.vae, family.dino, seeded(seed))


@pytest.fixture
def shown(toys):
    """Photo (12, 3, 128, 128) in [-1, 1], mask and depth (12, 1, 128, 128)."""
    return toys.pictures("photo", EVERY), toys.planes("mask", EVERY), toys.planes("depth", EVERY)


def test_shapes_and_ranges(made, toys):
    example = made()
    for latents in (example.clean, example.draft, example.reference):
        assert latents.shape == (12, LATENTS, 16, 16)
    assert example.features.shape == (12, FEATURES, 16, 16)
    assert example.mask.shape == example.known.shape == (12, 1, 16, 16)
    assert example.mask.min() >= 0 and example.mask.max() <= 1
    assert set(example.known.unique().tolist()) == {0.0, 1.0}
    assert all(torch.isfinite(x).all() for x in fields(example).values())
    assert torch.equal(example.clean, toys.rows("image_latents", EVERY).float())
    assert torch.equal(example.mask, F.avg_pool2d(toys.planes("mask", EVERY), 8))


def test_the_generator_alone_decides(made):
    torch.manual_seed(0)
    first = fields(made())
    torch.manual_seed(1)
    again, other = fields(made()), fields(made(1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("draft", "features", "reference", "known"):
        assert not torch.equal(first[name], other[name]), name


def test_nothing_is_known_off_the_reference(made, monkeypatch):
    seen = []

    def recorded(*arguments):
        found = altered(*arguments)
        seen.append(found[1])
        return found

    monkeypatch.setattr(module, "altered", recorded)
    example = made()
    off = F.avg_pool2d(seen[0], 8) <= 0.05
    assert example.known[off].max() == 0 and off.float().mean() > 0.3
    assert example.known[~off].mean() > 0.8, "of the reference most is told, and some is left out"
    assert example.known[~off].mean() < 1
    for grid in (example.features, example.reference):
        assert grid[(example.known == 0).expand_as(grid)].abs().max() == 0
        assert grid[(example.known > 0).expand_as(grid)].abs().mean() > 0.01


@pytest.mark.parametrize(("shares", "drawn"), [((1.0, 0.0, 0.0), [0, 5]), ((0.0, 1.0, 0.0), []), ((0.0, 0.0, 1.0), [])])
def test_a_draft_that_the_base_drew_is_taken_where_everything_is_transferred(toys, family, monkeypatch, shares, drawn):
    monkeypatch.setattr(module, "SHARES", shares)
    pool = Pool(toys.folder)
    own = torch.randn(2, LATENTS, 16, 16, generator=seeded()).half()
    plain = refiner_examples(pool, EVERY, family.vae, family.dino, seeded())
    pool.arrays |= {"draft_rows": np.array([0, 5]), "draft_latents": own.numpy()}
    found = refiner_examples(pool, EVERY, family.vae, family.dino, seeded())
    for i in range(12):
        expected = own[drawn.index(i)].float() if i in drawn else plain.draft[i]
        assert torch.equal(found.draft[i], expected), i
    assert torch.equal(found.clean, plain.clean) and torch.equal(found.known, plain.known)


def test_the_denoiser_is_told_of_the_reference_in_its_own_order(made, family):
    example = made()
    text, t, alpha = torch.zeros(12, 5, TEXT), torch.full((12,), 500), torch.full((12,), 0.5)
    with torch.no_grad():
        found = family.refiner_unet(example.clean, t, text, example.draft, example.mask, *example.grid, alpha)
        named = family.refiner_unet(
            example.clean, t, text, example.draft, example.mask, features_BFhw=example.features,
            reference_BChw=example.reference, known_B1hw=example.known, alpha_B=alpha)
    assert torch.equal(found, named) and found.shape == example.clean.shape


def test_a_draft_is_wrong_in_the_subject_and_nowhere_else(shown):
    photo, mask, _ = shown
    for kind in range(len(TRANSFERS)):
        worse = degraded(photo, mask, FULL + kind, seeded())
        assert worse.abs().max() <= 1 + 1e-5 and torch.isfinite(worse).all()
        assert torch.equal(worse[(mask == 0).expand_as(worse)], photo[(mask == 0).expand_as(photo)])
        wrong = ((worse - photo).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)) / 3
        assert wrong.median() > 0.04, TRANSFERS[kind]


def test_a_reference_is_a_cut_out_in_range(shown):
    cut, seen = altered(*shown, seeded())
    assert cut.shape == (12, 3, 128, 128) and seen.shape == (12, 1, 128, 128)
    assert cut.abs().max() <= 1 + 1e-5 and seen.min() >= 0 and seen.max() <= 1 + 1e-5
    assert seen.mean((1, 2, 3)).min() > 0.5 * shown[1].mean((1, 2, 3)).min()
    again, where = altered(*shown, seeded())
    assert torch.equal(cut, again) and torch.equal(seen, where)


def test_some_references_stay_and_others_move_and_turn(shown):
    photo, mask, depth = (x[:1].expand(40, -1, -1, -1) for x in shown)
    _, seen = altered(photo, mask, depth, seeded())
    moved = (seen - mask).abs().mean((1, 2, 3)) / mask.mean()
    assert 8 <= (moved < 0.01).sum() <= 32, "about half stay where they are"
    assert (moved > 0.03).sum() >= 6
    assert (mask_box(seen) - mask_box(mask))[moved < 0.01].abs().max() < 0.03


def test_a_turned_reference_hides_a_part(shown, monkeypatch):
    turns = []

    def recorded(photo, mask, depth, turn, axis, **camera):
        assert axis.shape == (40, 3) and camera == CAMERA
        turns.append(turn)
        return torch.zeros_like(photo), torch.zeros_like(mask)

    monkeypatch.setattr(module, "turned", recorded)
    photo, mask, depth = (x[:1].expand(40, -1, -1, -1) for x in shown)
    _, seen = altered(photo, mask, depth, seeded())
    away, back = turns
    told = ~away.isnan()
    assert 8 <= told.sum() <= 30 and away[told].abs().max() <= module.WIDEST_RETURN
    assert away[told].min() < 0 < away[told].max()
    assert seen[told].max() == 0 and seen[~told].amax((1, 2, 3)).min() > 0.9, "the others are as they are"
    returned = ~back.isnan()
    assert 4 <= returned.sum() <= 18 and told[returned].all()
    assert 0 < (away + back)[returned].abs().max() < 4.5 * module.TURN_OFF, "nearly as far"


def test_a_reference_turned_there_and_back_lies_where_it_was(shown, monkeypatch):
    monkeypatch.setattr(module, "RETURNED", 1.0)
    for name in ("relit", "shaded"):
        monkeypatch.setattr(module, name, lambda x, *_: x)
    _, mask, depth = shown
    columns = torch.arange(128.0).expand(12, 3, 128, 128) / 64 - 1
    found, seen = altered(columns, mask, depth, seeded())
    share = ((seen > 0.5) & (mask > 0.5)).sum((1, 2, 3)) / (mask > 0.5).sum((1, 2, 3))
    assert 0.55 < share.min() < 0.97, "a side of it is lost"
    inside = ((seen > 0.9) & (mask > 0.9)).float()
    off = 64 * ((found - columns)[:, :1].abs() * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    assert 0.1 < off.mean() < 2, "pixels by which it misses; without the way back 4"
    assert torch.equal(found, altered(columns, mask, depth, seeded())[0])


def test_without_depth_nothing_is_turned(shown, monkeypatch):
    monkeypatch.setattr(module, "_seen_turned", lambda *_: pytest.fail("turned"))
    photo, mask = (x[:1].expand(40, -1, -1, -1) for x in shown[:2])
    _, seen = altered(photo, mask, None, seeded())
    assert 12 <= ((seen - mask).abs().mean((1, 2, 3)) < 0.01 * mask.mean()).sum() <= 28, "half stay where they are"


def test_other_light_stays_in_range_and_differs(shown):
    photo = shown[0]
    found = relit(photo, seeded())
    assert found.abs().max() <= 1 and (found - photo).abs().mean((1, 2, 3)).min() > 0.005
    assert torch.equal(found, relit(photo, seeded()))


def test_shade_follows_the_surface():
    grey, whole = torch.zeros(8, 3, 64, 64), torch.ones(8, 1, 64, 64)
    line = torch.linspace(-1, 1, 64)
    dome = (0.4 + 0.1 * (1 - line**2 - line[:, None] ** 2)).expand(8, 1, 64, 64)
    flat = shaded(grey, whole, torch.full_like(whole, 0.4), seeded())
    assert flat.flatten(1).std(1).max() < 1e-4, "a wall is lit alike everywhere"
    round_ = shaded(grey, whole, dome, seeded())
    assert round_.flatten(1).std(1).median() > 0.02 and round_.abs().max() <= 1
    across, slope = round_[:, 0, 32, 48] - round_[:, 0, 32, 16], round_[:, 0, 48, 32] - round_[:, 0, 16, 32]
    assert across.min() < 0 < across.max() and slope.min() < 0 < slope.max(), "from any side"
    assert torch.equal(round_, shaded(grey, whole, dome, seeded()))
    opposite = shaded(grey, whole, (0.8 - dome), seeded())
    turned_over = (opposite[:, 0, 32, 48] - opposite[:, 0, 32, 16]) * across
    assert turned_over.max() <= 1e-6, "a bowl is lit from its other side"


def test_shade_of_an_empty_mask_is_finite(shown):
    photo, mask, depth = shown
    assert torch.isfinite(shaded(photo, torch.zeros_like(mask), depth, seeded())).all()
