"""The Refiner's denoiser: starts as the text-to-image UNet it is made from, and hears every condition."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.tiny_family import FEATURES, LATENTS, SIDE, TEXT, small_unet, stirred
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet


def inputs(seed=0):
    g = torch.Generator().manual_seed(seed)
    grid = (2, LATENTS, SIDE, SIDE)
    return {
        "noisy_BChw": torch.randn(grid, generator=g), "timestep_B": torch.tensor([700, 20]),
        "text_BNT": torch.randn(2, 5, TEXT, generator=g), "draft_BChw": torch.randn(grid, generator=g),
        "mask_B1hw": torch.rand(2, 1, SIDE, SIDE, generator=g),
        "features_BFhw": torch.randn(2, FEATURES, SIDE, SIDE, generator=g),
        "reference_BChw": torch.randn(grid, generator=g),
        "known_B1hw": (torch.rand(2, 1, SIDE, SIDE, generator=g) < 0.5).float(), "alpha_B": torch.tensor([0.4, 0.99]),
    }


@torch.no_grad()
def test_at_first_it_is_the_base_models_own_clean_prediction_halfway_to_the_reference():
    torch.manual_seed(0)
    unet = small_unet().eval()
    model = ToffeeRefinerUNet.from_unet(unet, feature_dim=FEATURES, hint_channels=16).eval()
    x = inputs()
    velocity = unet(x["noisy_BChw"], x["timestep_B"], x["text_BNT"]).sample
    alpha = x["alpha_B"][:, None, None, None]
    clean = alpha * x["noisy_BChw"] - (1 - alpha**2).sqrt() * velocity
    halfway = clean + 0.5 * x["mask_B1hw"] * x["known_B1hw"] * (x["reference_BChw"] - clean)
    assert (model(**x) - halfway).abs().max() < 1e-5
    unknown = {**x, "known_B1hw": torch.zeros_like(x["known_B1hw"])}
    assert (model(**unknown) - clean).abs().max() < 1e-5
    noise_free = model(**{**unknown, "alpha_B": torch.ones(2)})
    assert torch.equal(noise_free, x["noisy_BChw"]), "without noise there is nothing to take away"


@torch.no_grad()
@pytest.mark.parametrize(("bias", "taken"), [(50.0, 1.0), (-50.0, 0.0)])
def test_the_gate_takes_the_references_latents_where_they_are_known_of_the_subject(bias, taken):
    torch.manual_seed(0)
    model = ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=16).eval()
    inside = (torch.rand(2, 1, SIDE, SIDE) < 0.5).float()
    x = {**inputs(), "mask_B1hw": inside}
    drawn = model(**{**x, "known_B1hw": torch.zeros_like(inside)})
    model.gate.bias.fill_(bias)
    where = (inside * x["known_B1hw"]).expand_as(drawn) > 0
    expected = torch.where(where, x["reference_BChw"], drawn) if taken else drawn
    assert where.any() and (model(**x) - expected).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(inputs()) - {"known_B1hw"}))
def test_every_condition_has_a_say(family, name):
    x = inputs()
    changed = x[name] + (7 if name == "timestep_B" else -0.1 if name == "alpha_B" else 1.0)
    assert (family.refiner_unet(**x) - family.refiner_unet(**{**x, name: changed})).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("told", ["features_BFhw", "reference_BChw"])
def test_features_and_latents_reach_the_result_by_a_straight_line_inside_the_mask(told):
    torch.manual_seed(0)
    model = ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=16).eval()
    mask = torch.zeros(2, 1, SIDE, SIDE)
    mask[..., :4] = 0.5
    x = {**inputs(), "mask_B1hw": mask, "known_B1hw": torch.ones_like(mask)}
    silent = model(**x)
    torch.nn.init.normal_(model.to_latents.weight)
    heard, doubled = model(**x) - silent, model(**{**x, told: 2 * x[told]}) - silent
    assert heard[..., 4:].abs().max() == 0 and heard[..., :4].abs().mean() > 0.1
    assert (doubled - heard)[..., 4:].abs().max() == 0 and (doubled - heard)[..., :4].abs().mean() > 0.1
    thrice = model(**{**x, told: 3 * x[told]}) - silent
    assert torch.allclose(thrice - doubled, doubled - heard, atol=1e-4), "no bend in it"


@torch.no_grad()
def test_features_that_are_not_known_are_not_seen(family):
    x = {**inputs(), "known_B1hw": torch.zeros(2, 1, SIDE, SIDE)}
    other = {**x, "features_BFhw": torch.randn_like(x["features_BFhw"])}
    assert torch.equal(family.refiner_unet(**x), family.refiner_unet(**other))


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = stirred(ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=16))
    model.save_pretrained(tmp_path)
    again = ToffeeRefinerUNet.from_pretrained(tmp_path).eval()
    assert torch.equal(again(**inputs()), model(**inputs()))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["feature_dim"] == FEATURES and saved["unet_config"]["block_out_channels"] == [32, 64]


@torch.no_grad()
def test_no_hook_stays_behind(family):
    family.refiner_unet(**inputs())
    assert not family.refiner_unet.unet.conv_in._forward_hooks
    with pytest.raises(RuntimeError):
        family.refiner_unet(**{**inputs(), "text_BNT": torch.randn(2, 5, TEXT + 1)})
    assert not family.refiner_unet.unet.conv_in._forward_hooks


def test_gradients_reach_every_parameter():
    model = ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=16)
    model.requires_grad_(True)
    with torch.no_grad():
        model.to_latents.weight.add_(0.1)
    model(**inputs()).square().mean().backward()
    assert isinstance(model.unet, UNet2DConditionModel)
    assert not [name for name, p in model.named_parameters() if p.grad is None]
