"""Similarities: all in [-1, 1], 1 for equals, lower for others, blind to what they should not see."""

import pytest
import torch

from toffee_hf.perception import similarity as s


def test_a_cosine_stays_in_range_whatever_the_rounding():
    a = torch.randn(200, 192, generator=torch.Generator().manual_seed(0)) * 1e3
    assert s.cosine(a, a).max() <= 1 and s.cosine(a, a).min() > 1 - 1e-5
    assert s.cosine(a, -a).min() >= -1
    assert s.cosine(a, torch.zeros_like(a)).abs().max() == 0
    assert s.cosine(a.half() / 1e3, a.half() / 1e3).dtype == torch.float32


def test_a_subject_is_like_itself_whatever_surrounds_it(family, picture, mask):
    other = torch.where(mask > 0, picture, picture.flip(-1))
    same = s.subject_similarity(family.dino, family.domain.patch_means, picture, mask, other, mask)
    assert same.tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_a_subject_is_like_itself_wherever_it_stands(family, picture):
    where = torch.zeros(2, 1, 64, 64)
    where[:, :, 8:40, 8:40] = 1
    moved, there = picture.roll((16, 8), (2, 3)), where.roll((16, 8), (2, 3))
    assert s.subject_similarity(family.dino, family.domain.patch_means, picture, where, moved, there).min() > 0.999


def test_another_subject_is_less_alike(family, mask):
    stripes = (torch.arange(64) // 8 % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    red = torch.tensor([0.9, -0.8, -0.8])[None, :, None, None].expand(1, 3, 64, 64)
    found = s.subject_similarity(family.dino, family.domain.patch_means, stripes, mask[:1], red, mask[:1])
    assert -1 <= found.item() < 0.97


def test_an_empty_mask_is_no_trouble(family, picture, mask):
    found = s.subject_similarity(family.dino, family.domain.patch_means, picture, torch.zeros_like(mask), picture, mask)
    assert torch.isfinite(found).all() and found.abs().max() <= 1


def test_a_copy_repeats_place_by_place(family, picture):
    assert s.copy_score(family.dino, picture, picture).tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    shuffled = s.copy_score(family.dino, picture, picture.roll((8, 24), (2, 3)))
    assert shuffled.abs().max() < 0.5, "the same patches elsewhere are no copy"


def test_embeddings_are_of_pictures_and_words_in_one_space(family, picture):
    images = s.clip_images(family.clip, picture)
    texts = s.clip_texts(family.clip, family.tokenizer, ["a mug", "a red car on the moon"])
    assert images.shape == texts.shape == (2, 16)
    assert (texts[0] - texts[1]).abs().max() > 1e-4
    assert s.cosine(images, texts).abs().max() <= 1
    assert s.dino_images(family.dino, picture).shape == (2, 32)


def test_clip_pixels_are_clips():
    grey = torch.zeros(1, 3, 2, 2)
    expected = [(0.5 - m) / d for m, d in zip(s.CLIP_MEAN, s.CLIP_STD, strict=True)]
    assert s.clip_pixels(grey)[0, :, 0, 0].tolist() == pytest.approx(expected)
