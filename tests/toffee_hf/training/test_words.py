"""The text tower that names what captions say: what is taken for said, what moves, and what must not."""

import copy
import json
import random

import pytest
import torch

from toffee_hf.toy.captions import colours_of
from toffee_hf.training import tiny, words
from toffee_hf.training.loop import Schedule, logged
from toffee_hf.training.text import new_clip, tokens
from toffee_hf.training.tiny import SPENT, Budget, _Desk
from toffee_hf.training.words import NAMED, UNSAID, train_words


@pytest.mark.parametrize(("prompt", "colours"), [
    ("a red mug by a red brick wall", ["red"]), ("a photo of a mug on pink silk", []),
    ("a teal and white striped duck on a flowery green meadow in watercolour", ["teal", "white"]),
])
def test_colours_are_those_of_the_subject_and_not_of_its_place(prompt, colours):
    assert colours_of(prompt) == colours


def test_what_a_caption_names_is_what_stands_in_it(toys):
    captions, truth = words._captions(toys, 200, random.Random(1))
    assert captions == words._captions(toys, 200, random.Random(1))[0]
    assert all(truth["class"] != UNSAID) and {*truth} == {*NAMED}
    for name in ("class", "colour", "second colour", "surface"):
        said = [(line, NAMED[name][i]) for line, i in zip(captions, truth[name].tolist(), strict=True) if i != UNSAID]
        assert said and all(word in line for line, word in said), name
    assert any(truth["surface"] == UNSAID) and any(truth["pose"] == UNSAID)


def test_the_tower_learns_to_name_and_still_tells_clip_the_same(tmp_path, toys, family):
    torch.manual_seed(0)
    clip = new_clip(family.tokenizer)
    before = copy.deepcopy(clip)
    train_words(clip, toys, family.tokenizer, Schedule(steps=60, learning_rate=2e-3, batch_size=24, ema=0.9), tmp_path,
                0)
    rows = logged(tmp_path)
    assert rows[-1]["right"] > 2 * rows[0]["right"] and rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    moved = {name for name, p in clip.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    assert moved and all(name.startswith("text_model") for name in moved)
    ids = tokens(family.tokenizer, ["a red mug on the moon", "a duck in the snow in sepia"])
    with torch.no_grad():
        said, was = (model.get_text_features(**ids).pooler_output for model in (clip.eval(), before.eval()))
    assert torch.cosine_similarity(said, was).min() > 0.8


@pytest.mark.parametrize("taught", [False, True])
def test_a_family_that_was_taught_once_keeps_its_tower(tmp_path, monkeypatch, family, taught):
    for folder in ("start", "work/models"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "start" / SPENT).write_text(json.dumps({"words": {"samples": 1, "minutes": 1.0}} if taught else {}))
    for part, name in ((family.tokenizer, "tokenizer"), (family.clip, "clip")):
        part.save_pretrained(tmp_path / "work" / "models" / name)
    called = []
    monkeypatch.setattr(words, "train_words", lambda clip, *_: called.append(1) or clip)
    desk = _Desk(tmp_path / "work", None, None, Budget(start=tmp_path / "start"))
    tiny._words(desk)
    assert called == ([] if taught else [1])
