"""Ways to make a picture: laid by boxes, seeded by subject, and not dependent on the batch."""

import pytest
import torch

from toffee_hf.evaluation import ways
from toffee_hf.evaluation.heldout import Pictures, references, subjects, turned_by
from toffee_hf.evaluation.ways import (
    DRAFT,
    STYLED_DRAFT,
    Drafts,
    drafts,
    generators,
    lit,
    pasted,
    posed_as,
    refined,
    steered,
    text_to_image,
    through_autoencoder,
)
from toffee_hf.evaluation.ways import views as new_views
from toffee_hf.toy.world import ToySubject

pytestmark = pytest.mark.usefixtures("few_steps")
PROMPTS = ["a mug on the moon", "a pencil sketch of a teapot in the snow"]
STYLES = ["photo", "pencil"]


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 2)


@pytest.fixture(scope="module")
def shown():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToySubject.render, "__defaults__", (64, "cpu"))
        return references(subjects("held-out", 0, 2))


def only(shown, i):
    """Picture `i` as a batch of one."""
    return Pictures(shown.subjects[i : i + 1], shown.shots[i : i + 1], shown.x[i : i + 1], shown.mask[i : i + 1],
                    shown.depth[i : i + 1])


def box(x0, y0, x1, y1):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., y0:y1, x0:x1] = 1
    return mask


def flat(mask, colour):
    """A picture of one colour under a mask."""
    return Pictures([], [], torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 64, 64), mask, mask)


def test_a_pasted_reference_fills_the_box_of_the_pose():
    draft = Drafts(torch.full((1, 3, 64, 64), -0.5), torch.zeros(1))
    found = pasted(draft, flat(box(16, 24, 48, 40), (0.0, 0.0, 0.0)), flat(box(4, 8, 20, 40), (1.0, -1.0, 0.25)))
    inside = found[..., 25:39, 17:47]
    assert (inside - torch.tensor((1.0, -1.0, 0.25)).view(1, 3, 1, 1)).abs().max() < 1e-5
    outside = found.clone()
    outside[..., 22:42, 14:50] = -0.5
    assert torch.allclose(outside, torch.tensor(-0.5))


def test_a_reference_pasted_in_its_own_pose_is_itself_in_the_mask_and_the_draft_beyond(shown):
    draft = Drafts(torch.rand(shown.x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.zeros(1))
    found = pasted(draft, shown, shown)
    truth = draft.x * (1 - shown.mask) + shown.x * shown.mask
    assert (found - truth).abs().max() < 1e-3


def test_a_subject_has_its_own_noise_wherever_it_stands(shown):
    both, second = generators(shown), generators(only(shown, 1))
    first, again = (torch.randn(4, generator=g) for g in (both[1], second[0]))
    assert torch.equal(first, again) and not torch.equal(first, torch.randn(4, generator=both[0]))


def test_text_to_image_does_not_depend_on_its_batch(family):
    found = text_to_image(family, PROMPTS, [0, 1])
    assert found.shape == (2, 3, 64, 64) and -1 <= found.min() < found.max() <= 1
    assert (text_to_image(family, PROMPTS[1:], [1]) - found[1:]).abs().max() < 1e-3
    assert (text_to_image(family, PROMPTS[1:], [2]) - found[1:]).abs().max() > 1e-2


@torch.no_grad()
def test_drafts_follow_depth_and_do_not_depend_on_their_batch(family, shown):
    found = drafts(family, shown, PROMPTS, STYLES)
    assert found.latents.shape == (2, 4, 8, 8)
    assert torch.equal(found.x, family.vae.pictures(found.latents).clamp(-1, 1))
    assert (drafts(family, only(shown, 1), PROMPTS[1:], STYLES[1:]).latents - found.latents[1:]).abs().max() < 1e-3
    moved = Pictures(shown.subjects, shown.shots, shown.x, shown.mask, shown.depth.flip(-1))
    assert torch.equal(drafts(family, shown, PROMPTS, STYLES).latents, found.latents)
    assert (drafts(family, moved, PROMPTS, STYLES).latents - found.latents).abs().max() > 5e-5


@torch.no_grad()
def test_photographs_are_steered_in_one_way_and_other_styles_in_another(family, shown):
    assert steered(["photo", "pencil", "photo"]) == [DRAFT, STYLED_DRAFT, DRAFT]
    found, photos = (drafts(family, shown, PROMPTS, styles).latents for styles in (STYLES, ["photo", "photo"]))
    assert (found[0] - photos[0]).abs().max() < 1e-3 and (found[1] - photos[1]).abs().max() > 1e-3


@torch.no_grad()
def test_refining_starts_from_the_drafts_latents_and_settings_override_the_recipe(family, shown):
    one = only(shown, 0)
    z = family.vae.latents(one.x)
    draft = Drafts(family.vae.pictures(z).clamp(-1, 1), z)
    found = refined(family, draft, one, one, PROMPTS[:1])
    assert found.shape == one.x.shape and -1 <= found.min() < found.max() <= 1
    assert torch.equal(found, refined(family, draft, one, one, PROMPTS[:1]))
    assert not torch.equal(found, refined(family, draft, one, one, PROMPTS[:1], strength=0.2))
    assert not torch.equal(found, refined(family, Drafts(draft.x, z + 1), one, one, PROMPTS[:1]))
    relit = refined(family, draft, one, one, PROMPTS[:1], relight=True)
    under = lit(family, draft, one, one)
    assert not torch.equal(found, relit) and not torch.equal(under.x, one.x)
    assert torch.equal(relit, refined(family, draft, one, under, PROMPTS[:1]))


@torch.no_grad()
def test_references_are_turned_to_the_pose_that_drafts_follow(family, shown, monkeypatch):
    """By whatever depth the family sees: here the true one, of a subject on which a turn shows."""
    monkeypatch.setattr(ToySubject.render, "__defaults__", (64, "cpu"))
    person = subjects("train", 1, 1)
    same, moved = references(person), turned_by(person, [0.35])
    monkeypatch.setattr(ways, "estimate_depth", lambda _, x: moved.depth if x is moved.x else same.depth)
    monkeypatch.setattr(family, "axis", None)
    found = posed_as(family, same, moved)
    assert found.subjects == person and found.x.abs().max() <= 1 + 1e-4

    def within(mask):
        return (torch.minimum(mask, same.mask).sum() / mask.sum()).item()

    assert within(found.mask) > within(moved.mask) + 0.04
    still = posed_as(family, same, same)
    assert torch.allclose(still.mask, same.mask, atol=1e-3)
    assert ((still.x - same.x) * (same.mask == 1)).abs().max() < 1e-3
    draft = Drafts(torch.zeros_like(same.x), family.vae.latents(same.x))
    assert (pasted(draft, same, found, placed=True) - found.x * found.mask).abs().max() < 1e-5, "it is not moved again"


@torch.no_grad()
def test_views_with_and_without_depth_are_two_ways(family, shown):
    one = only(shown, 0)
    found = new_views(family, one, [0.9])
    assert found.shape == one.x.shape and -1 <= found.min() < found.max() <= 1
    assert torch.equal(found, new_views(family, one, [0.9]))
    assert not torch.equal(found, new_views(family, one, [0.9], in_space=False))
    assert not torch.equal(found, new_views(family, one, [-0.9]))


@torch.no_grad()
def test_through_the_autoencoder_stays_in_range(family, shown):
    found = through_autoencoder(family, shown.x)
    assert found.shape == shown.x.shape and found.abs().max() <= 1
    assert torch.equal(found[:1], through_autoencoder(family, shown.x)[:1])
    assert not torch.equal(found[0], found[1])
