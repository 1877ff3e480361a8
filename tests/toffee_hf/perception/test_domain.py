"""Familiarity: 1 for a denoiser that knows the picture, 0 for one that knows its mean, never out of range."""

import pytest
import torch
from torch import Tensor

from toffee_hf.perception.domain import familiarity
from toffee_hf.training.diffusion import noise_schedule


class Knows:
    """A denoiser that always sees `clean` behind the noise, as a velocity."""

    def __init__(self, clean: Tensor) -> None:
        self.clean, self.alphas = clean, noise_schedule().alphas_cumprod

    def __call__(self, noisy: Tensor, t: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor]:
        a, s = (v[t][:, None, None, None] for v in (self.alphas.sqrt(), (1 - self.alphas).sqrt()))
        return ((a * noisy - self.clean) / s,)


def seeds():
    return [torch.Generator().manual_seed(n) for n in (1, 2)]


@pytest.fixture
def measure(family, picture):
    return lambda unet: familiarity(family.vae, unet, noise_schedule(), torch.zeros(2, 5, 32), picture, seeds())


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.75), (9.0, -1.0)])
def test_it_is_the_part_of_the_variance_that_is_restored(family, picture, measure, share, value):
    z = family.vae.encode(picture).latent_dist.mode()
    off = z + share * (z.mean((2, 3), keepdim=True) - z)
    assert measure(Knows(off)).tolist() == pytest.approx([value, value], abs=1e-3)


def test_a_random_denoiser_knows_nothing_and_one_seed_is_one_answer(family, measure):
    found = measure(family.unet)
    assert found.shape == (2,) and found.abs().max() <= 1 and found.max() < 0.5
    assert torch.equal(found, measure(family.unet))
