"""Stage 7: scores in range, a copy recognised, and what is outside the mask measured."""

import pytest
import torch

from builder.columns import SCORES
from builder.stages.score import Score, TargetMask
from tests.builder.stages.conftest import box, noise


def columns(count, **changed):
    made = {"shown": noise(count, 1), "shown_mask": box(count), "target": noise(count, 2), "target_mask": box(count),
            "given": noise(count, 1), "posed_mask": box(count),
            "source": noise(count, 2), "mask": box(count, 16, 48)}
    return {**made, **changed}


def test_every_score_is_known_and_in_range(family, batch):
    done = Score(family=family).run(batch("style", "pose", **columns(2)))
    for scores in done["scores"]:
        assert set(scores) == {"seg_dino", "detail", "dino", "clip_i", "clip_t", "copy", "outside"} <= set(SCORES)
        assert all(isinstance(value, float) and -1 <= value <= 1 for value in scores.values())


def test_the_reference_of_the_row_is_the_one_that_was_judged(family, batch):
    done = Score(family=family).run(batch("style", **columns(1), reference=noise(1, 5), reference_mask=box(1, 0, 9)))
    assert torch.equal(done["reference"], noise(1, 1)) and torch.equal(done["reference_mask"], box(1))


def test_a_copy_of_the_reference_scores_one(family, batch):
    scores = Score(family=family).run(batch("style", **columns(1, target=noise(1, 1), source=noise(1, 1))))["scores"][0]
    for name in ("seg_dino", "detail", "dino", "clip_i", "copy"):
        assert scores[name] == pytest.approx(1.0, abs=1e-4)
    assert scores["clip_t"] < 1


def test_what_changed_outside_the_mask_is_measured(family, batch):
    made = columns(2)
    target = made["target"].clone()
    target[1, :, :8] = 255 - target[1, :, :8]
    inside = made["target"].clone()
    inside[0, :, 20:40, 20:40] = 0
    target[0] = inside[0]
    scores = Score(family=family).run(batch("style", "style", **{**made, "target": target}))["scores"]
    assert scores[0]["outside"] == 0 and scores[1]["outside"] > 0.02


def test_the_target_has_a_mask_and_its_area(family, batch):
    done = TargetMask(family=family).run(batch("style", "style", target=noise(2)))
    assert done["target_mask"].shape == (2, 64, 64) and set(done["target_mask"].unique().tolist()) <= {0, 255}
    for mask, scores in zip(done["target_mask"], done["scores"], strict=True):
        assert scores["mask_area"] == pytest.approx((mask > 0).float().mean().item())


def test_a_pair_is_scored_by_itself_and_not_by_its_neighbours(family, batch):
    made, stage = batch("style", "pose", **columns(2)), Score(family=family)
    together = stage.run(made)["scores"]
    for k in range(2):
        alone = stage.run(made.select([k]))["scores"][0]
        assert alone == pytest.approx(together[k], abs=1e-5)


def test_detail_is_held_against_what_the_refiner_was_given_and_not_what_the_pair_shows(family, batch):
    given = noise(1, 1).int()
    lighter, other = (given + 30).clamp(max=255).byte(), noise(1, 2)
    stage = Score(family=family)
    scores = [stage.run(batch("style", **columns(1, target=target, shown=noise(1, 3))))["scores"][0]["detail"]
              for target in (noise(1, 1), lighter, other)]
    assert scores[0] == pytest.approx(1, abs=1e-6) and scores[0] > scores[1] > scores[2]
