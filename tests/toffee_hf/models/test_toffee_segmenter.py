"""The text-to-mask model: a mask the size of the picture, and another one for another word."""

import pytest
import torch

from toffee_hf.models.toffee_segmenter import ToffeeSegmenter


def model():
    torch.manual_seed(0)
    made = ToffeeSegmenter(text_dim=16, widths=(16, 16, 16)).eval()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    return made


@pytest.mark.parametrize("size", [(64, 64), (32, 80)])
@torch.no_grad()
def test_a_mask_has_the_size_of_its_picture(size):
    soft = model().probability(torch.rand(2, 3, *size) * 2 - 1, torch.randn(2, 16))
    assert soft.shape == (2, 1, *size) and soft.min() >= 0 and soft.max() <= 1


@torch.no_grad()
def test_the_words_matter_and_their_length_does_not(picture):
    made, text = model(), torch.randn(2, 16)
    assert (made(picture, text) - made(picture, text.flip(0))).abs().max() > 1e-3
    assert (made(picture, text) - made(picture, 5 * text)).abs().max() < 1e-3


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(tmp_path, picture):
    made, text = model(), torch.randn(2, 16)
    made.save_pretrained(tmp_path)
    again = ToffeeSegmenter.from_pretrained(tmp_path).eval()
    assert torch.equal(again(picture, text), made(picture, text)) and again.config.text_dim == 16
