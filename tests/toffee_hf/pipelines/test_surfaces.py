"""A part of a drawn subject gives way to its own pixels, where it is drawn much as they are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.toffee_hf.pipelines.conftest import TOLD, box, photo, seeded
from toffee_hf.pipelines import pipeline_toffee
from toffee_hf.pipelines.pipeline_toffee import surfaced


@pytest.fixture
def laid():
    """A subject with fine stripes in the middle of a picture of 128 pixels, and where it shows."""
    shown = torch.zeros(1, 1, 128, 128)
    shown[..., 32:96, 32:96] = 1
    stripes = (torch.arange(128) // 2 % 2 * 0.6 - 0.3).expand(1, 3, 128, 128)
    return stripes * shown, shown


def test_a_blurred_subject_gets_its_own_pixels_back(laid):
    picture, shown = laid
    drawn = F.avg_pool2d(picture, 9, 1, 4)
    deep = (slice(None), slice(None), slice(40, 88), slice(40, 88))
    for part in (0.0, 0.25, 1.0):
        found = surfaced(drawn, picture, shown, part)
        assert torch.allclose(found[deep], torch.lerp(drawn, picture, part)[deep], atol=0.02)
        assert torch.equal(found[..., :32], drawn[..., :32]) and torch.equal(found[..., 96:, :], drawn[..., 96:, :])


def test_the_more_it_differs_the_less_it_gets(laid):
    picture, shown = laid
    kept = []
    for apart in (0.0, 0.2, 0.4, 0.9):
        drawn = (picture + apart) * shown
        kept.append((surfaced(drawn, picture - 0.05, shown, 1.0) - drawn)[..., 60:70, 60:70].abs().mean().item()
                    / (apart + 0.05))
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.9 and kept[-1] < 0.01


def test_its_edge_is_left_soft(laid):
    picture, shown = laid
    steps = surfaced(torch.zeros_like(picture), torch.full_like(picture, 0.02), shown, 1.0)[0, 0, 64, 28:64]
    assert (steps[1:] >= steps[:-1] - 1e-6).all() and steps[:4].eq(0).all() and steps[4] < 0.005 < 0.015 < steps[12]


def test_half_precision_stays(laid):
    found = surfaced(laid[0].half(), *laid, 0.5)
    assert found.dtype == torch.float16 and found.isfinite().all()


@pytest.mark.parametrize("edit", [{}, TOLD], ids=["new picture", "edit"])
def test_each_picture_shows_its_own_subject(draw, monkeypatch, edit):
    monkeypatch.setattr(pipeline_toffee, "LIKE", 1e6)
    subjects, outline = [photo(1), photo(2)], box(part=(0.2, 0.2, 0.8, 0.8))
    asked = {"prompt": ["a mug", "a car"], "subject_image": subjects, "subject_mask": [outline] * 2,
             "num_images_per_prompt": 2, "output_type": "pt", **edit}

    def with_part(part, **changes):
        return draw(**asked, surface=part, generator=seeded(1, 2, 3, 4), **changes)

    bare, half, shown = with_part(0.0), with_part(0.5), with_part(1.0)
    assert torch.equal(with_part(1.0, subject_scale=0.0), with_part(0.0, subject_scale=0.0))
    assert (shown - half).abs().amax((1, 2, 3)).min() > 0.05 and (half - bare).abs().amax((1, 2, 3)).min() > 0.05
    assert torch.equal(shown[..., :8, :], bare[..., :8, :]), "around the subject nothing is changed"
    if not edit:
        middle = (slice(None), slice(20, 44), slice(20, 44))
        for i in range(4):
            own = torch.from_numpy(np.array(subjects[i // 2])).permute(2, 0, 1) / 255
            assert (shown[i][middle] - own[middle]).abs().max() < 0.01


def test_latents_have_nothing_of_it(draw):
    assert torch.equal(draw(surface=0.0), draw(surface=1.0))


def test_a_recombined_pipeline_may_lay_nothing(pipe, draw):
    with torch.no_grad():
        bare = pipe._pictures(draw(), None, 1.0, None, 1)
    assert torch.equal((bare / 2 + 0.5).clamp(0, 1), draw(surface=0.0, output_type="pt"))
