import pytest

from builder.columns import SCORES
from builder.judge import KEEP, Verdict, invalid_scores, judge, reject
from builder.reasons import KEPT, REASONS, RETRIED


def at_least(name, least, reason):
    return lambda scores, category: KEEP if scores[name] >= least else reject(reason)


RULES = (at_least("seg_dino", 0.6, "identity_lost"), at_least("clip_t", 0.2, "prompt_missed"))


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"seg_dino": 0.7, "clip_t": 0.3}, "kept"),
        ({"seg_dino": 0.5, "clip_t": 0.3}, "identity_lost"),
        ({"seg_dino": 0.7, "clip_t": 0.1}, "prompt_missed"),
        ({"seg_dino": 0.5, "clip_t": 0.1}, "identity_lost"),
        ({"seg_dino": float("nan"), "clip_t": 0.3}, "score_invalid"),
        ({"seg_dino": 131_184.0, "clip_t": 0.3}, "score_invalid"),
        ({"seg_dino": 0.7, "clip_t": 0.3, "beauty": 0.5}, "score_invalid"),
        ({"seg_dino": 0.7, "clip_t": 0.3, "dino": None}, "kept"),
        ({"seg_dino": 0.7, "clip_t": "high"}, "score_invalid"),
    ],
)
def test_the_first_rule_that_fails_gives_the_reason(scores, reason):
    assert judge(RULES, scores, "style") == Verdict(reason == KEPT, reason)


def test_bounds_themselves_are_scores():
    assert invalid_scores(dict.fromkeys(SCORES, 1.0)) == invalid_scores(dict.fromkeys(SCORES, -1.0)) == []


@pytest.mark.parametrize(("keep", "reason"), [(True, "view_mismatch"), (False, "kept"), (False, "ugly")])
def test_a_verdict_and_its_reason_agree(keep, reason):
    with pytest.raises(ValueError):
        Verdict(keep, reason)


def test_reasons_are_sentences_and_retried_ones_are_among_them():
    assert set(REASONS) > RETRIED
    assert KEPT not in RETRIED
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in REASONS.values())
