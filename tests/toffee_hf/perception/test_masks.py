"""Masks: crumbs go, pin holes close, real holes stay; what touches the border is measured."""

import numpy as np
import pytest
import torch

from toffee_hf.perception.masks import border_touch, cleaned, components, name_embeddings, subject_masks


def disc(size=64, centre=(32, 32), radius=20):
    y, x = np.ogrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def test_pin_holes_are_filled_and_the_hole_of_a_handle_is_kept():
    ring = disc() & ~disc(radius=8)
    torn = ring.copy()
    torn[32, 14] = torn[15, 32] = False
    assert np.array_equal(cleaned(torn), ring)
    assert not cleaned(torn)[32, 32]


def test_crumbs_are_dropped_and_large_parts_are_kept():
    whole = disc(radius=15) | disc(centre=(55, 55), radius=8)
    assert components(whole) == 2
    crumbs = whole.copy()
    crumbs[2:5, 2:5] = crumbs[60, 3] = True
    assert components(crumbs) == 4
    assert np.array_equal(cleaned(crumbs), whole)


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay(value):
    mask = np.full((16, 16), value)
    assert np.array_equal(cleaned(mask), mask)
    assert components(mask) == int(value)


def test_cleaning_makes_noise_calmer_and_keeps_its_input():
    noisy = np.random.default_rng(0).random((64, 64)) < 0.45
    before = noisy.copy()
    once = cleaned(noisy)
    assert np.array_equal(noisy, before) and once.dtype == np.bool_
    assert components(once) < components(noisy) / 10


@pytest.mark.parametrize(("region", "share"), [((slice(None), slice(None)), 1.0), ((slice(8, 24), slice(8, 24)), 0.0),
                                               ((slice(0, 1), slice(None)), (32 + 1 + 1) / 128),
                                               ((slice(None), slice(0, 16)), (16 + 16 + 32) / 128)])  # fmt: skip
def test_the_touch_of_the_border_is_its_covered_part(region, share):
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0][region] = 1
    assert border_touch(mask).tolist() == pytest.approx([share])


def test_masks_of_named_things_are_binary_and_clean(family, picture):
    masks = subject_masks(family.segmenter, family.clip, family.tokenizer, picture, ["mug", "watering can"])
    assert masks.shape == (2, 1, 64, 64) and set(masks.unique().tolist()) <= {0.0, 1.0}
    text = name_embeddings(family.clip, family.tokenizer, ["mug", "watering can"])
    for found, soft in zip(masks[:, 0], family.segmenter.probability(picture, text)[:, 0], strict=True):
        assert np.array_equal(found.bool().numpy(), cleaned((soft > 0.5).numpy()))


def test_a_name_has_one_embedding_alone_or_in_a_batch(family):
    both = name_embeddings(family.clip, family.tokenizer, ["mug", "watering can"])
    assert both.shape == (2, 16) and (both[0] - both[1]).abs().max() > 1e-4
    assert (name_embeddings(family.clip, family.tokenizer, ["mug"])[0] - both[0]).abs().max() < 1e-5
