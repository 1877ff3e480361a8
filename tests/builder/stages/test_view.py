"""Stage 5: who is shown from another side, what happens where the view lost the subject, and what a pose pair needs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from builder.prompts import TURNS
from builder.stages import pixels
from builder.stages.view import View
from tests.builder.stages.conftest import box, noise

ALL = View(family="unused", pose_category="pose", turns=TURNS, share=1.0, widest_turn=0.9, min_similarity=0.8)


def references(count):
    return {"reference": noise(count), "reference_mask": box(count)}


@pytest.fixture
def drawn(monkeypatch):
    """Replaces the drawing: views of noise, a larger mask, and the similarities given; records what was asked."""
    asked = {}

    def use(*similarities):
        def draw(self, family, batch, turns):
            asked["numbers"], asked["turns"] = [pair.number for pair in batch.pairs], turns
            return noise(len(batch), 9), box(len(batch), 10, 50), torch.tensor(similarities)

        monkeypatch.setattr(View, "_draw", draw)
        monkeypatch.setattr("toffee_hf.family.open_family", lambda name: None)
        return asked

    return use


def test_a_good_view_is_shown_and_the_layout_stays(batch, drawn):
    drawn(0.9, 0.95)
    made = batch("style", "colour", **references(2))
    done = ALL.run(made)
    assert torch.equal(done["shown"], noise(2, 9)) and torch.equal(done["shown_mask"], box(2, 10, 50))
    assert torch.equal(done["posed"], made["reference"]) and torch.equal(done["posed_mask"], made["reference_mask"])
    assert [scores["view_dino"] for scores in done["scores"]] == pytest.approx([0.9, 0.95])
    assert torch.equal(made["reference"], noise(2)), "the column read is not written to"


def test_where_the_view_lost_the_subject_the_picture_stays_the_reference(batch, drawn):
    drawn(0.9, 0.1)
    made = batch("style", "style", **references(2))
    done = ALL.run(made)
    assert len(done) == 2 and not done.rejected
    assert torch.equal(done["shown"][0], noise(2, 9)[0]) and torch.equal(done["shown"][1], made["reference"][1])
    assert torch.equal(done["shown_mask"][1], box(1)[0])
    assert done["scores"][1]["view_dino"] is None, "nothing of that view is in the pair"


def test_a_pose_pair_follows_the_view_and_shows_the_picture(batch, drawn):
    drawn(0.9)
    made = batch("pose", **references(1))
    done = ALL.run(made)
    assert torch.equal(done["posed"], noise(1, 9)) and torch.equal(done["posed_mask"], box(1, 10, 50))
    assert torch.equal(done["shown"], made["reference"]) and torch.equal(done["shown_mask"], made["reference_mask"])


def test_a_pose_pair_whose_view_lost_the_subject_falls_with_its_score(batch, drawn):
    drawn(0.9, 0.79, 0.2)
    done = ALL.run(batch("style", "pose", "style", **references(3)))
    assert [(fallen.pair.number, fallen.reason) for fallen in done.rejected] == [(1, "view_mismatch")]
    assert done.rejected[0].columns["scores"]["view_dino"] == pytest.approx(0.79)
    assert [pair.number for pair in done.pairs] == [0, 2]


def test_without_a_share_only_pose_pairs_are_drawn(batch, drawn):
    asked = drawn(0.9)
    done = replace(ALL, share=0.0).run(batch("style", "pose", "colour", **references(3)))
    assert asked["numbers"] == [1] and asked["turns"] == [dict(TURNS)["turned to the left"]]
    assert [scores["view_dino"] for scores in done["scores"]] == [None, pytest.approx(0.9), None]


def test_with_nothing_to_draw_no_model_is_opened(batch, monkeypatch):
    monkeypatch.setattr("toffee_hf.family.open_family", None)
    made = batch("style", "colour", **references(2))
    done = replace(ALL, share=0.0).run(made)
    assert torch.equal(done["shown"], made["reference"]) and torch.equal(done["posed"], made["reference"])


def test_turns_follow_the_words_and_the_seed(batch):
    pair = batch("pose").pairs[0]
    for words, turn in TURNS:
        assert ALL._turn(replace(pair, prompt=f"a mug {words} on the moon")) == turn
    assert ALL._turn(replace(pair, prompt="a mug")) == ALL.widest_turn
    half = replace(ALL, share=0.5)
    turns = [half._turn(replace(pair, category="style", seed=seed)) for seed in range(400)]
    some = [turn for turn in turns if turn is not None]
    assert 0.4 < len(some) / 400 < 0.6
    assert all(0.4 * 0.9 <= abs(turn) <= 0.9 for turn in some)
    assert 0.35 < sum(turn > 0 for turn in some) / len(some) < 0.65
    assert turns == [half._turn(replace(pair, category="style", seed=seed)) for seed in range(400)]


def test_the_drawing_is_told_the_turn_and_the_depth_of_the_picture(batch, monkeypatch):
    seen = {}

    def pipeline(prompts, image, mask, turn, depth, **settings):
        seen.update(settings, prompts=prompts, image=image, mask=mask, turn=turn, depth=depth)
        return SimpleNamespace(images=torch.zeros(len(prompts), 3, 64, 64))

    family = SimpleNamespace(device="cpu", view_pipeline=pipeline, depth="estimator", dino=None, clip=None,
                             tokenizer=None, segmenter=None, domain=SimpleNamespace(patch_means=None))
    monkeypatch.setattr("toffee_hf.perception.depth.depth_looks", lambda *asked: asked)
    monkeypatch.setattr("toffee_hf.perception.masks.subject_masks", lambda *_: torch.ones(2, 1, 64, 64))
    monkeypatch.setattr("toffee_hf.perception.similarity.subject_similarity", lambda *_: torch.ones(2))
    made = batch("pose", "style", **references(2))
    view, mask, similarity = replace(ALL, looks=3)._draw(family, made, [1.1, -0.4])
    assert seen["turn"] == [1.1, -0.4] and seen["prompts"] == ["a photo of a mug"] * 2
    assert torch.equal(seen["image"], pixels(made["reference"], "cpu"))
    assert seen["depth"][0] == "estimator" and torch.equal(seen["depth"][1], seen["image"])
    assert (seen["depth"][2], seen["looks"]) == (3, 3)
    assert (seen["strength"], seen["num_inference_steps"]) == (ALL.strength, ALL.steps)
    assert view.max() == 0 and mask.min() == 255 and similarity.tolist() == [1, 1]


def test_the_drawing_itself(family, opened, batch):
    made = batch("pose", "style", **references(2))
    view, mask, similarity = ALL._draw(opened, made, [1.1, float("nan")])
    assert view.shape == (2, 3, 64, 64) and view.dtype == torch.uint8
    assert mask.shape == (2, 64, 64) and set(mask.unique().tolist()) <= {0, 255}
    assert similarity.shape == (2,) and similarity.abs().max() <= 1
