"""Captions and prompts: words of one vocabulary, which a tokenizer learned from captions knows."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from builder.prompts import TURNS, toy_prompt
from toffee_hf.toy.captions import POSES, Wish, article, caption, corpus, pose_word, understood
from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS, Design
from toffee_hf.toy.render import Camera
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import CLASSES, reference_shot, toy_subject
from toffee_hf.training.text import MAX_TOKENS, train_tokenizer

CATEGORIES = ("background", "style", "pose", "colour", "texture")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(corpus(600), tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(("yaw", "word"), [(0.0, "front"), (0.7, "front"), (6.2, "front"), (1.5, "right"),
                                           (-1.5, "left"), (3.1, "back"), (-3.1, "back")])  # fmt: skip
def test_a_pose_is_its_nearest_quarter_turn(yaw, word):
    assert pose_word(yaw) == word and word in POSES


def test_left_and_right_are_the_viewers():
    """The subject's front (its z axis) points to the side of the picture that the words name."""
    subject = toy_subject("train", 0)
    for words, turn in TURNS:
        shot = replace(reference_shot(subject), camera=Camera(yaw=turn))
        shown = subject.render([shot], 64)
        inside, across = shown.mask[0, 0] > 0.9, torch.linspace(-1, 1, 64).expand(64, 64)
        lean = torch.corrcoef(torch.stack([shown.coords[0, 2][inside], across[inside]]))[0, 1].item()
        assert words == POSES["right" if lean > 0 else "left"] == POSES[pose_word(turn)] and abs(lean) > 0.3


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


@pytest.fixture
def picked(monkeypatch):
    """Everything that the last prompt chose, in its order: scene, its phrase, the category's own word, wording."""
    found = []

    class Recorder(random.Random):
        def choice(self, options):
            found.append(super().choice(options))
            return found[-1]

    monkeypatch.setattr("builder.prompts.random", SimpleNamespace(Random=Recorder))
    return found


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_prompt_is_understood_as_it_was_meant(picked, category):
    poses = {words: name for name, words in POSES.items()}
    for seed in range(300):
        picked.clear()
        prompt = toy_prompt(seed, category, CLASSES[seed % len(CLASSES)])
        scene, own = picked[0], picked[2]
        assert understood(prompt) == {
            "background": Wish(scene, "photo", None, None, None),
            "style": Wish(scene, own, None, None, None),
            "pose": Wish(scene, "photo", poses.get(own[0]), None, None),
            "colour": Wish(scene, "photo", None, own, None),
            "texture": Wish(scene, "photo", None, None, own),
        }[category], prompt
        assert category != "pose" or own in TURNS


@pytest.mark.parametrize("words", ["cat", "watering can", "orange boat", "wooden lamp", "moon-lit golden mug"])
def test_every_wording_of_every_scene_and_style_is_understood(words):
    """No phrase hides in another: «a photo of» ends «an old sepia photo of», and a table may be wooden."""
    said = understood(article(words))
    assert (said.scene, said.style) == (None, "photo")
    for scene in SCENES.values():
        for phrase in scene.phrases:
            for style in STYLES.values():
                for wording in style.phrases:
                    prompt = wording.format(f"{article(words)} {phrase}")
                    wanted = Wish(scene.name, style.name, None, said.colour, said.surface)
                    assert understood(prompt) == wanted, prompt


@pytest.mark.parametrize("word", [*COLOURS, *DESIGNS, *MATERIALS])
def test_every_colour_and_surface_is_understood_beside_every_scene(word):
    for scene in SCENES.values():
        for phrase in scene.phrases:
            said = understood(f"a photo of {article(word)} mug {phrase}")
            assert said == Wish(scene.name, "photo", None, word if word in COLOURS else None,
                                word if word not in COLOURS else None), phrase


@pytest.mark.parametrize(("prompt", "scene"), [
    ("a mug in space, on the grey moon", "moon"), ("a mug on a table in a quiet room", "table"),
    ("a mug on a desk in a library", "library"), ("a mug on an old wooden table", "table"),
    ("a mug on the bottom of the sea", "underwater"), ("a mug on a sandy beach by the sea", "beach"),
    ("a mug in front of snowy mountains", "mountains"), ("a mug in front of a night skyline", "city"),
    ("a mug in nothing that this world knows", None),
])  # fmt: skip
def test_the_longest_phrase_names_the_scene(prompt, scene):
    said = understood(prompt)
    assert said.scene == scene
    assert said.colour is said.surface is None, "the words of a place are not the subject's"


@pytest.mark.parametrize("pose", POSES)
def test_every_pose_is_understood(pose):
    assert understood(f"an oil painting of a boot {POSES[pose]} under autumn trees").pose == pose


@pytest.mark.parametrize(("words", "design"), [("grey moon", "polka-dot"), ("red and white striped", "striped")])
def test_a_caption_is_understood_but_for_its_second_colour(words, design):
    colours = [word for word in words.split() if word in COLOURS]
    made = Design(design, (0.5,) * 4, (*colours, "pink", "teal")[:3])
    for seed in range(100):
        said = understood(caption("teapot", made, "moon", "pencil", 0.0, random.Random(seed)))
        assert said.style == "pencil" and said.scene in ("moon", None)
        assert said.surface in (design, None) and said.pose in ("front", None)
