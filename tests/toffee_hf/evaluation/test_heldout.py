"""The yardsticks measure what they say, and the shipped family stands up to them."""

import math

import pytest
import torch

from toffee_hf.evaluation.heldout import Figure, autoencoder_psnr, grid, pictures, psnr_inside, targets_of
from toffee_hf.family import open_family
from toffee_hf.toy.world import reference_shot, toy_subject


def test_a_figure_is_a_mean_with_its_interval():
    figure = Figure.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert figure.mean == 2.5 and figure.n == 4
    assert figure.half == pytest.approx(1.96 * math.sqrt(5 / 3) / 2, abs=1e-3)


def test_psnr_counts_the_mask_alone():
    truth = torch.zeros(1, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    outside, inside = truth.clone(), truth.clone()
    outside[..., 4:] = 1
    inside[..., :4] = 0.2                              # a tenth of the range of two
    assert psnr_inside(outside, truth, mask).item() == pytest.approx(80)
    assert psnr_inside(inside, truth, mask).item() == pytest.approx(20, abs=1e-4)


def test_the_shipped_autoencoder_passes_its_gate_loosely():
    assert autoencoder_psnr(open_family("tiny", "cpu").vae, 12).mean > 27


@torch.no_grad()
def test_the_shipped_refiner_beats_its_draft():
    people = [toy_subject("held-out", i) for i in (2, 8)]
    shown = pictures(people, [reference_shot(subject) for subject in people])
    prompts = ["a photo of a vase on the beach", "a photo of a rocket in a meadow"]
    found = targets_of(open_family("tiny", "cpu"), shown, prompts)
    near = {name: psnr_inside(x, shown.x, shown.mask).mean().item() for name, x in found.items()}
    assert near["refined"] > near["draft"] + 2, near
    assert grid([shown.x, found["refined"]]).size == (256, 256)
