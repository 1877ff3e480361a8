"""Captions and prompts: words of one vocabulary, which a tokenizer learned from captions knows."""

import random

import pytest

from builder.prompts import toy_prompt
from toffee_hf.toy.captions import POSES, article, caption, corpus, pose_word
from toffee_hf.toy.designs import Design
from toffee_hf.toy.world import CLASSES
from toffee_hf.training.text import MAX_TOKENS, train_tokenizer

CATEGORIES = ("background", "style", "pose", "colour", "texture")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(corpus(600), tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(("yaw", "word"), [(0.0, "front"), (0.7, "front"), (6.2, "front"), (1.5, "left"),
                                           (-1.5, "right"), (3.1, "back"), (-3.1, "back")])  # fmt: skip
def test_a_pose_is_its_nearest_quarter_turn(yaw, word):
    assert pose_word(yaw) == word and word in POSES


@pytest.mark.parametrize(("words", "said"), [("mug", "a mug"), ("orange car", "an orange car")])
def test_articles(words, said):
    assert article(words) == said


def test_a_caption_names_its_class_and_one_seed_is_one_wording():
    design = Design("zigzag", (0.5,) * 4, ("red", "blue", "grey"))
    said = [caption("teapot", design, "moon", "pencil", 0.0, random.Random(i)) for i in range(40)]
    assert all("teapot" in words for words in said) and len(set(said)) > 15
    assert said[3] == caption("teapot", design, "moon", "pencil", 0.0, random.Random(3))
    assert sum("moon" in words for words in said) > 25


def test_the_corpus_is_seeded():
    assert corpus(50) == corpus(50) and len(corpus(50)) == 50


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("class_name", CLASSES)
def test_prompts_of_every_category_are_known_words_that_fit(tokenizer, category, class_name):
    for seed in range(5):
        prompt = toy_prompt(seed, category, class_name)
        ids = tokenizer(prompt).input_ids
        assert class_name in prompt
        assert len(ids) <= MAX_TOKENS, prompt
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == prompt.lower().replace(" ", "")
        assert tokenizer.unk_token_id not in ids[1:-1], prompt


def test_captions_tokenise_without_unknowns_and_fit(tokenizer):
    for words in corpus(300):
        ids = tokenizer(words).input_ids
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids[1:-1] and len(ids) <= MAX_TOKENS, words


def test_a_saved_tokenizer_is_the_same_one(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert [again(w).input_ids for w in corpus(20)] == [tokenizer(w).input_ids for w in corpus(20)]
