"""Light on a subject: its side is taken over from another picture, and nothing else."""

import pytest
import torch

from tests.toffee_hf.pipelines.test_turning import CAMERA, ball
from toffee_hf.evaluation.figures import psnr_inside
from toffee_hf.evaluation.heldout import asked, pictures, references, subjects
from toffee_hf.perception.light import FOLLOWED, Surface, lit_like, side_lit
from toffee_hf.pipelines.pipeline_toffee_view import light_of


def lit_ball(side):
    """A grey ball (2, 3, H, W) with light from one side or the other."""
    mask, depth, facing = ball()
    grey = 0.4 * (torch.tensor(side)[:, None, None, None] * facing[:, :1]).exp()
    return Surface(grey.expand(-1, 3, -1, -1) * 2 - 1, mask.expand(2, -1, -1, -1), depth.expand(2, -1, -1, -1)), facing


@pytest.mark.parametrize("wanted", [(0.5, -0.3), (0.0, 0.0)])
def test_a_ball_takes_the_side_that_is_wanted_and_keeps_its_brightness(wanted):
    shown, facing = lit_ball((0.4, -0.2))
    facing = facing.expand(2, -1, -1, -1)
    found = side_lit(shown.x, shown.mask, facing, torch.tensor(wanted))
    light = light_of(found, shown.mask, facing)
    assert (light[:, 0] - torch.tensor(wanted)).abs().max() < 0.08, "a part is left, since the fit is held back"
    assert (light[:, 1:] - light_of(shown.x, shown.mask, facing)[:, 1:]).abs().max() < 0.02
    log = [(((x + 1) / 2).log() * shown.mask).sum((1, 2, 3)) / shown.mask.sum((1, 2, 3)) for x in (shown.x, found)]
    assert (log[0] - log[1]).abs().max() < 0.02
    off = (shown.mask == 0).expand_as(found)
    assert torch.equal(found[off], shown.x[off]), "what is around it stays"


def test_a_part_of_a_drafts_side_is_followed():
    shown, _ = lit_ball((0.4, -0.2))
    draft, facing = lit_ball((-0.5, 0.5))
    found, own = (light_of(x, shown.mask, facing.expand(2, -1, -1, -1))[:, 0]
                  for x in (lit_like(shown, draft, **CAMERA), draft.x))
    assert own[0] < -0.2 and own[1] > 0.2
    assert (found / own - FOLLOWED).abs().max() < 0.35 and (found / own).min() > 0.25


def test_a_subject_in_another_place_comes_nearer_to_the_truth():
    people = subjects("train", 0, 12)
    shown, wish = references(people), asked(people, "photo")
    truth = pictures(people, wish.shots)
    found = lit_like(Surface(shown.x, shown.mask, shown.depth), Surface(truth.x, truth.mask, truth.depth), **CAMERA)
    before, after = (psnr_inside(x, truth.x, truth.mask) for x in (shown.x, found))
    assert after.mean() > before.mean() + 0.5
    assert found.abs().max() <= 1 + 1e-5


def test_a_batch_is_its_single_pictures_and_nothing_is_seen_in_an_empty_mask():
    shown, draft = lit_ball((0.4, -0.2))[0], lit_ball((-0.5, 0.5))[0]
    both = lit_like(shown, draft, **CAMERA)
    alone = lit_like(*(Surface(s.x[1:], s.mask[1:], s.depth[1:]) for s in (shown, draft)), **CAMERA)
    assert torch.allclose(both[1:], alone, atol=1e-5)
    empty = Surface(shown.x, torch.zeros_like(shown.mask), shown.depth)
    assert torch.isfinite(lit_like(empty, draft, **CAMERA)).all()
