"""The View Generator's denoiser: patches, camera and surroundings are all heard, and only where they should be."""

import math

import pytest
import torch

from tests.tiny_family import FEATURES, LATENTS, SIDE, TEXT, small_unet, stirred
from toffee_hf.models.toffee_view_unet import CAMERA_FREQUENCIES, ToffeeViewUNet, camera_features

PATCHES = SIDE * SIDE


def inputs(seed=0):
    g = torch.Generator().manual_seed(seed)
    grid = (2, LATENTS, SIDE, SIDE)
    return {
        "noisy_BChw": torch.randn(grid, generator=g), "timestep_B": torch.tensor([700, 20]),
        "text_BNT": torch.randn(2, 5, TEXT, generator=g), "known_BChw": torch.randn(grid, generator=g),
        "region_B1hw": (torch.rand(2, 1, SIDE, SIDE, generator=g) < 0.5).float(),
        "turned_BChw": torch.randn(grid, generator=g), "covered_B1hw": torch.rand(2, 1, SIDE, SIDE, generator=g),
        "alpha_B": torch.tensor([0.4, 0.99]),
    }


def seen_as(model, turn, features=None, subject=None):
    g = torch.Generator().manual_seed(1)
    features = torch.randn(2, PATCHES, 2 * FEATURES, generator=g) if features is None else features
    tokens, seen = model.tokens(features, torch.ones(2, PATCHES) if subject is None else subject, torch.tensor(turn))
    return {"tokens_BPT": tokens, "seen_BP": seen}


def test_camera_features_are_those_of_an_angle():
    assert camera_features(torch.zeros(3)).shape == (3, 2 * CAMERA_FREQUENCIES)
    a, b = camera_features(torch.tensor([0.7])), camera_features(torch.tensor([0.7 + 2 * math.pi]))
    assert torch.allclose(a, b, atol=1e-5)
    assert (camera_features(torch.tensor([0.7])) - camera_features(torch.tensor([-0.7]))).abs().max() > 0.5


@torch.no_grad()
def test_tokens_are_patches_and_a_camera(family):
    model = family.view_unet
    subject = torch.zeros(2, PATCHES)
    subject[:, :5] = 1
    found = seen_as(model, [0.5, math.nan], subject=subject)
    assert found["tokens_BPT"].shape == (2, PATCHES + 1, TEXT) and found["seen_BP"].dtype == torch.bool
    assert found["seen_BP"].sum(1).tolist() == [6, 6], "the camera token is always seen"
    assert torch.equal(found["tokens_BPT"][1, -1], model.no_camera)
    assert not torch.equal(found["tokens_BPT"][0, -1], model.no_camera)
    assert torch.isfinite(found["tokens_BPT"]).all()


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(inputs()))
def test_every_condition_has_a_say(family, name):
    model, x = family.view_unet, {**inputs(), **seen_as(family.view_unet, [0.3, 0.3])}
    changed = {**x, name: x[name] + (7 if name == "timestep_B" else -0.1 if name == "alpha_B" else 1.0)}
    assert (model(**x) - model(**changed)).abs().max() > 1e-4


@torch.no_grad()
def test_turn_and_seen_patches_have_a_say_and_hidden_ones_have_none(family):
    model, x, subject = family.view_unet, inputs(), torch.zeros(2, PATCHES)
    subject[:, :8] = 1
    g = torch.Generator().manual_seed(1)
    features = torch.randn(2, PATCHES, 2 * FEATURES, generator=g)
    base = model(**x, **seen_as(model, [0.3, 0.3], features, subject))
    other_turn = model(**x, **seen_as(model, [0.9, math.nan], features, subject))
    assert (base - other_turn).abs().amax((1, 2, 3)).min() > 1e-5
    hidden, shown = features.clone(), features.clone()
    hidden[:, 8:] += 3
    shown[:, :8] = shown[:, :8].roll(1, -1)
    assert (base - model(**x, **seen_as(model, [0.3, 0.3], hidden, subject))).abs().max() < 1e-4
    assert (base - model(**x, **seen_as(model, [0.3, 0.3], shown, subject))).abs().max() > 1e-4


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = stirred(ToffeeViewUNet.from_unet(small_unet(), feature_dim=2 * FEATURES, patches=PATCHES))
    model.save_pretrained(tmp_path)
    again = ToffeeViewUNet.from_pretrained(tmp_path).eval()
    x = {**inputs(), **seen_as(model, [0.3, math.nan])}
    assert torch.equal(again(**x), model(**x)) and again.config.patches == PATCHES


def fresh():
    torch.manual_seed(0)
    return ToffeeViewUNet.from_unet(small_unet(), feature_dim=2 * FEATURES, patches=PATCHES).eval()


@torch.no_grad()
def test_at_first_it_is_the_base_models_own_clean_prediction_halfway_to_the_turned_picture():
    model = fresh()
    x, told = inputs(), seen_as(model, [0.3, math.nan])
    context = torch.cat([x["text_BNT"], told["tokens_BPT"]], 1)
    attend = torch.cat([torch.ones(2, 5, dtype=torch.bool), told["seen_BP"]], 1)
    velocity = model.unet(x["noisy_BChw"], x["timestep_B"], context, encoder_attention_mask=attend).sample
    alpha = x["alpha_B"][:, None, None, None]
    clean = alpha * x["noisy_BChw"] - (1 - alpha**2).sqrt() * velocity
    halfway = clean + 0.5 * x["covered_B1hw"] * (x["turned_BChw"] - clean)
    assert (model(**x, **told) - halfway).abs().max() < 1e-5
    bare = {**x, "covered_B1hw": torch.zeros_like(x["covered_B1hw"])}
    assert (model(**bare, **told) - clean).abs().max() < 1e-5
    noise_free = model(**{**bare, "alpha_B": torch.ones(2)}, **told)
    assert torch.equal(noise_free, x["noisy_BChw"]), "without noise there is nothing to take away"


@torch.no_grad()
@pytest.mark.parametrize(("bias", "taken"), [(50.0, 1.0), (-50.0, 0.0)])
def test_the_gate_takes_the_turned_picture_where_it_covers(bias, taken):
    model, covered = fresh(), (torch.rand(2, 1, SIDE, SIDE) < 0.5).float()
    x = {**inputs(), "covered_B1hw": covered, **seen_as(model, [0.3, 0.3])}
    drawn = model(**{**x, "covered_B1hw": torch.zeros_like(covered)})
    model.gate.bias.fill_(bias)
    expected = torch.where(covered > 0, x["turned_BChw"], drawn) if taken else drawn
    assert covered.any() and (model(**x) - expected).abs().max() < 1e-5


@torch.no_grad()
def test_surroundings_and_turn_start_at_zero_and_no_hook_stays_behind():
    model = fresh()
    x = {**inputs(), "covered_B1hw": torch.zeros(2, 1, SIDE, SIDE), **seen_as(model, [0.3, 0.3])}
    for name in ("known_BChw", "turned_BChw", "region_B1hw"):
        assert torch.equal(model(**x), model(**{**x, name: x[name] + 1})), name
    assert not model.unet.conv_in._forward_hooks and not model.unet.time_embedding._forward_hooks


def test_an_unknown_turn_does_not_spoil_the_gradients():
    model = ToffeeViewUNet.from_unet(small_unet(), feature_dim=2 * FEATURES, patches=PATCHES)
    features, turn = torch.randn(2, PATCHES, 2 * FEATURES), torch.tensor([0.3, math.nan])
    tokens, _ = model.tokens(features, torch.ones(2, PATCHES), turn)
    tokens.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.camera.parameters())
    assert model.no_camera.grad is not None and model.camera[0].weight.grad.abs().max() > 0


def test_gradients_reach_every_parameter():
    model = fresh().requires_grad_(True)
    torch.nn.init.normal_(model.turn.weight, std=0.1)
    model(**inputs(), **seen_as(model, [0.3, math.nan])).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert not [name for name in ("no_camera", "place", "known.weight", "gate.weight", "turn.weight")
                if model.get_parameter(name).grad.abs().max() == 0]
