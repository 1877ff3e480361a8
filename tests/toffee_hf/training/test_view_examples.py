"""Examples for the View Generator: one shot shown, another wanted; the surface is turned where the turn is told."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_family import FEATURES, LATENTS, TEXT
from toffee_hf.training import view_examples as module
from toffee_hf.training.diffusion import view_loss
from toffee_hf.training.view_examples import view_examples

SHOWN, WANTED = torch.tensor([0, 4, 8, 1, 5, 9] * 2), torch.tensor([1, 5, 9, 0, 4, 8] * 2)


def fields(example):
    return {name: getattr(example, name).nan_to_num(99.0) for name in example.__slots__}


@pytest.fixture
def made(toys, family):
    return lambda seed=0: view_examples(toys, SHOWN, WANTED, family.vae, family.dino,
                                        torch.Generator().manual_seed(seed))


@pytest.fixture
def always(monkeypatch):
    """Every turn is told, and every surface turned."""
    monkeypatch.setattr(module, "TOLD", 1.0)
    monkeypatch.setattr(module, "IN_SPACE", 1.0)


def test_shapes_and_ranges(made, toys):
    example = made()
    for latents in (example.clean, example.known, example.turned):
        assert latents.shape == (12, LATENTS, 16, 16)
    assert example.region.shape == example.covered.shape == (12, 1, 16, 16)
    assert example.features.shape == (12, 256, 2 * FEATURES) and example.subject.shape == (12, 256)
    assert set(example.region.unique().tolist()) == {0.0, 1.0}
    assert example.covered.min() >= 0 and example.covered.max() <= 1
    assert all(torch.isfinite(x).all() for x in fields(example).values())
    assert torch.equal(example.clean, toys.rows("image_latents", WANTED).float())
    assert torch.equal(example.known, toys.rows("image_latents", SHOWN).float())


def test_the_generator_alone_decides(made, monkeypatch):
    monkeypatch.setattr(module, "TOLD", 0.5)
    torch.manual_seed(0)
    first = fields(made())
    torch.manual_seed(1)
    again, other = fields(made()), fields(made(1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["turn"], other["turn"]) and not torch.equal(first["covered"], other["covered"])


def test_the_region_holds_both_views(made, toys):
    region = made().region
    for rows in (SHOWN, WANTED):
        assert region[F.max_pool2d(toys.planes("mask", rows), 8) > 0.02].min() == 1
    assert region.mean() < 0.95


def test_turns_are_those_of_the_cameras(made, toys, always):
    turn = made().turn
    expected = [toys.shots[w].camera.yaw - toys.shots[s].camera.yaw for s, w in zip(SHOWN, WANTED, strict=True)]
    assert turn.tolist() == pytest.approx(expected)
    assert turn[:3].tolist() == pytest.approx((-turn[3:6]).tolist()) and turn.abs().min() > 0.3


def test_told_turns_are_turned_in_space(made, toys, always):
    example = made()
    assert example.covered.amax((1, 2, 3)).min() > 0.9
    wanted = F.avg_pool2d(toys.planes("mask", WANTED), 8)
    assert ((example.covered > 0.5) & (wanted < 0.01)).sum() < 0.1 * (example.covered > 0.5).sum()
    moved, filled = (example.turned - example.known).abs(), (example.covered > 0.5).expand_as(example.turned)
    far = (F.max_pool2d(torch.maximum(example.region, example.covered), 5, 1, 2) == 0).expand_as(moved)
    assert moved[filled].mean() > 0.05 > 10 * moved[far].mean(), "the surroundings are the shown view's"


def test_an_untold_turn_covers_nothing(made, monkeypatch):
    monkeypatch.setattr(module, "TOLD", -1.0)
    example = made()
    assert example.turn.isnan().all() and example.covered.max() == 0
    assert (example.turned - example.known).abs().max() < 1e-2, "the shown view, as it is"


def test_some_told_turns_are_left_to_the_patches(made, monkeypatch):
    monkeypatch.setattr(module, "TOLD", 1.0)
    monkeypatch.setattr(module, "IN_SPACE", -1.0)
    example = made()
    assert not example.turn.isnan().any() and example.covered.max() == 0
    assert (example.turned - example.known).abs().max() < 1e-2


def test_each_example_has_its_own_chance_to_be_told_and_turned(made, monkeypatch):
    monkeypatch.setattr(module, "TOLD", 0.6)
    monkeypatch.setattr(module, "IN_SPACE", 0.5)
    examples = [made(seed) for seed in range(3)]
    told = ~torch.cat([example.turn for example in examples]).isnan()
    covered = torch.cat([example.covered.amax((1, 2, 3)) for example in examples]) > 0
    assert not (covered & ~told).any(), "nothing untold is turned"
    assert 0.35 < told.float().mean() < 0.85 and 0.2 < covered[told].float().mean() < 0.8


def test_as_a_rule_turns_are_told_and_turned():
    assert 0.5 < module.TOLD < 1 and 0.5 < module.IN_SPACE < 1, "and now and then the denoiser must do without"


@pytest.mark.parametrize(("from_known", "start"), [(1.0, "known"), (0.0, "clean")])
def test_it_learns_the_steps_it_is_told_from_where_they_start(made, from_known, start):
    example, heard = made(), []

    def model(noisy, t, *_):
        heard.append((noisy, t))
        return example.clean + 1

    model.tokens = lambda *_: (None, None)
    inside, alphas = torch.ones(12, 1, 16, 16), torch.linspace(1, 0, 1000)
    for steps in ((0, 2), (840, 960)):
        found = view_loss(model, example, (None, None), inside, alphas, torch.Generator().manual_seed(0), steps=steps,
                          from_known=from_known)
        assert found["loss"].item() == pytest.approx(1) and found["inside"].item() == pytest.approx(1)
    (early, first), (_, late) = heard
    assert (early - getattr(example, start)).abs().max() < 0.3 and first.max() < 2
    assert 840 <= late.min() < late.max() < 960


def test_an_error_on_the_object_counts_as_much_more_as_it_is_told(made):
    example, alphas = made(), torch.linspace(1, 0, 1000)
    inside = torch.zeros(12, 1, 16, 16)
    inside[..., :4] = 1

    def model(*_):
        return example.clean + inside

    model.tokens = lambda *_: (None, None)
    for more in (0.0, 2.5):
        weight = 0.1 + example.region + more * inside
        found = view_loss(model, example, (None, None), inside, alphas, torch.Generator().manual_seed(0),
                          on_object=more)
        assert found["loss"].item() == pytest.approx(((weight * inside).sum() / weight.sum()).item(), rel=1e-4)
        assert found["inside"].item() == pytest.approx(1)


def test_the_denoiser_takes_them(toys, family, made):
    """The random family has 64 places for patches, of the upper left."""
    example, model = made(), family.view_unet
    side = torch.arange(256).view(16, 16)[:8, :8].flatten()
    tokens, seen = model.tokens(example.features[:, side], example.subject[:, side], example.turn)
    with torch.no_grad():
        found = model(example.clean, torch.full((12,), 500), torch.zeros(12, 5, TEXT), tokens, seen, example.known,
                      example.region, example.turned, example.covered, torch.full((12,), 0.5))
    assert found.shape == example.clean.shape and torch.isfinite(found).all()
