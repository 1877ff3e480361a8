"""Bounds by tables: what passes, what falls and why, and which bounds are no bounds."""

from dataclasses import replace

import pytest

from builder.judge import KEEP, reject
from builder.recipes.tiny import tiny
from builder.rules import Bounds
from toffee_hf.errors import RecipeError

RULE = Bounds(score="seg_dino", low=0.6, high=0.9, below="identity_lost", above="copy_paste", lows=(("colour", 0.2),))


@pytest.mark.parametrize(
    ("scores", "category", "verdict"),
    [
        ({"seg_dino": 0.75}, "style", KEEP),
        ({"seg_dino": 0.6}, "style", KEEP),
        ({"seg_dino": 0.9}, "style", KEEP),
        ({"seg_dino": 0.59}, "style", reject("identity_lost")),
        ({"seg_dino": 0.91}, "style", reject("copy_paste")),
        ({"seg_dino": 0.3}, "colour", KEEP),
        ({"seg_dino": 0.1}, "colour", reject("identity_lost")),
        ({"seg_dino": 0.95}, "colour", reject("copy_paste")),
        ({"seg_dino": None}, "style", KEEP),
        ({"clip_t": -1.0}, "style", KEEP),
    ],
)
def test_a_score_lies_within_its_bounds_or_the_pair_falls(scores, category, verdict):
    assert RULE(scores, category) == verdict


@pytest.mark.parametrize("wrong", [{"low": 0.95}, {"high": 1.1}, {"low": -1.1}, {"lows": (("colour", 0.91),)},
                                   {"lows": (("colour", -2.0),)}, {"low": float("nan")}])  # fmt: skip
def test_bounds_that_are_none_are_refused(wrong):
    with pytest.raises(RecipeError, match="seg_dino"):
        replace(RULE, **wrong)


@pytest.mark.parametrize("rule", tiny().rules, ids=lambda rule: rule.score)
def test_the_tiny_recipe_judges_scores_that_exist_by_reasons_that_exist(rule):
    from builder.columns import SCORES

    assert rule.score in SCORES
    for value in (-1.0, 1.0):
        for category in (*tiny().prompts.categories, "another"):
            rule({rule.score: value}, category)
    assert {category for category, _ in rule.lows} <= set(tiny().prompts.categories)
