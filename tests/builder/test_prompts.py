"""Prompts: seeded, of one category each, and always about the class."""

import pytest

from builder.prompts import TURNS, toy_prompt
from builder.recipes.tiny import tiny
from toffee_hf.toy.captions import POSES
from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.world import CLASSES

CATEGORIES = tiny().prompts.categories
PLACES = [phrase for scene in SCENES.values() for phrase in scene.phrases]


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_prompt_names_its_class_and_a_place(category):
    for seed in range(60):
        name = CLASSES[seed % len(CLASSES)]
        prompt = toy_prompt(seed, category, name)
        assert name in prompt and any(place in prompt for place in PLACES), prompt
        assert prompt == prompt.strip() and "{" not in prompt and "  " not in prompt


@pytest.mark.parametrize(
    ("category", "words"),
    [("pose", [words for words, _ in TURNS]), ("colour", [f"{c} mug" for c in COLOURS]),
     ("texture", [f"{d} mug" for d in (*DESIGNS, *MATERIALS)])],
)  # fmt: skip
def test_a_category_says_what_changes_and_all_of_it_comes_up(category, words):
    prompts = [toy_prompt(seed, category, "mug") for seed in range(300)]
    assert all(any(word in prompt for word in words) for prompt in prompts)
    used = {word for word in words if any(word in prompt for prompt in prompts)}
    assert len(used) >= min(len(words), 7)
    others = [toy_prompt(seed, "background", "mug") for seed in range(100)]
    assert not [prompt for prompt in others if any(word in prompt for word in words)]


def test_one_seed_is_one_prompt_and_seeds_vary():
    prompts = [toy_prompt(seed, "style", "cat") for seed in range(100)]
    assert prompts == [toy_prompt(seed, "style", "cat") for seed in range(100)]
    assert len(set(prompts)) > 60


def test_turns_are_said_in_the_words_of_captions_and_go_their_way():
    assert {words for words, _ in TURNS} <= set(POSES.values())
    assert dict(TURNS)[POSES["left"]] < 0 < dict(TURNS)[POSES["right"]]


@pytest.mark.parametrize("class_name", ["octopus", "rubber duck", "läptop", "x"])
def test_any_class_word_of_a_user_will_do(class_name):
    assert all(class_name in toy_prompt(3, category, class_name) for category in CATEGORIES)
