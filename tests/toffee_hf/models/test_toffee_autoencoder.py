"""The autoencoder: the interface of AutoencoderKL, a linear path that is a component analysis, round trips."""

import json

import pytest
import torch

from tests.tiny_family import small_autoencoder, stirred
from toffee_hf.models.toffee_autoencoder import ToffeeAutoencoder
from toffee_hf.toy.world import reference_shot, toy_subject


@pytest.fixture(scope="module")
def toys():
    """Eight reference pictures (8, 3, 64, 64) in [-1, 1]."""
    people = [toy_subject("train", i) for i in range(8)]
    return torch.cat([s.render([reference_shot(s)], 64).image for s in people]) * 2 - 1


def psnr(x, y):
    return (10 * torch.log10(4 / (x - y).square().mean())).item()


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_latents_are_an_eighth_of_the_picture(family, size):
    x = torch.rand(2, 3, *size) * 2 - 1
    z = family.vae.latents(x)
    assert z.shape == (2, 4, size[0] // 8, size[1] // 8)
    assert family.vae.pictures(z).shape == x.shape


def test_the_interface_is_that_of_autoencoder_kl(family, picture):
    vae = family.vae
    posterior = vae.encode(picture).latent_dist
    assert torch.equal(posterior.mode(), vae.latents(picture))
    assert torch.equal(posterior.mode(), vae.encode(picture, return_dict=False)[0].mode())
    assert torch.equal(posterior.sample(), posterior.mode()), "latents have no spread"
    again = vae.decode(posterior.mode())
    assert torch.equal(again.sample, vae.decode(posterior.mode(), return_dict=False)[0])
    assert torch.equal(vae(picture).sample, again.sample)
    assert 2 ** (len(vae.config.block_out_channels) - 1) == 8, "pipelines read the factor from here"


def test_saved_and_loaded_it_is_the_same(tmp_path, picture):
    model = stirred(small_autoencoder())
    model.calibrate(picture, torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    again = ToffeeAutoencoder.from_pretrained(tmp_path).eval()
    assert torch.equal(again.latents(picture), model.latents(picture))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["_class_name"] == "ToffeeAutoencoder" and saved["latent_channels"] == 4


def test_starting_from_components_beats_chance_and_the_mean(toys):
    torch.manual_seed(0)
    model = small_autoencoder().eval()
    chance = psnr(model.pictures(model.latents(toys)), toys)
    tiles = toys.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
    model.start_from_components(tiles)
    linear = model.decode_linear(model.encode_linear(toys))
    assert psnr(linear, toys) > 16 > chance + 3
    assert psnr(linear, toys) > psnr(toys.mean((0, 2, 3), keepdim=True), toys) + 3


def test_components_give_latents_of_unit_variance(toys):
    model = small_autoencoder().eval()
    tiles = toys.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
    model.start_from_components(tiles)
    z = model.encode_linear(toys)
    assert z.mean((0, 2, 3)).abs().max() < 0.05
    assert (z.std((0, 2, 3)) - 1).abs().max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize("exponent", [0.0, 0.4])
def test_calibration_scales_the_latents_and_leaves_the_pictures(toys, exponent):
    torch.manual_seed(0)
    model = stirred(small_autoencoder())
    before = model.pictures(model.latents(toys))
    model.calibrate(toys, torch.Generator().manual_seed(0), exponent)
    z = model.latents(toys)
    deviation = z.std((0, 2, 3))
    assert z.mean((0, 2, 3)).abs().max() < 1e-4
    assert abs(deviation.square().mean().sqrt() - 1) < 1e-3
    assert (model.pictures(z) - before).abs().max() < 1e-5
    model.calibrate(toys, torch.Generator().manual_seed(0), exponent)
    assert (model.latents(toys) - z).abs().max() < 1e-2, "measured twice is measured once"
    if exponent == 0:
        assert (deviation - 1).abs().max() < 1e-3, "whitened"


@torch.no_grad()
def test_what_is_seen_most_is_scaled_up_most(toys):
    torch.manual_seed(0)
    model = small_autoencoder().eval()
    tiles = toys.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
    model.start_from_components(tiles)                 # components come in the order of what they show
    model.calibrate(toys, torch.Generator().manual_seed(0), 0.4)
    deviation = model.latents(toys).std((0, 2, 3))
    assert deviation.argmax() == 0 and deviation[0] > 1.5 * deviation[-1]
