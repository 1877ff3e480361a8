"""CLIP of the tiny family: what its pictures are held against, and what stays as it is when only one tower trains."""

import random

import torch

from toffee_hf.toy.captions import understood
from toffee_hf.training import text
from toffee_hf.training.loop import Schedule


def test_the_twisted_captions_differ_in_style_scene_and_subject(toys):
    differ = {"style": 0, "scene": 0}
    for i in range(len(toys)):
        right, style, scene, _ = (understood(words) for words in text._wordings(toys, i, random.Random(i)))
        assert style.scene == right.scene and (scene.style, scene.pose) == (right.style, right.pose)
        differ["style"] += style.style != right.style
        differ["scene"] += scene.scene != right.scene
    assert min(differ.values()) > len(toys) / 2


def test_with_a_locked_text_tower_only_the_other_one_learns(tmp_path, toys, family):
    model = text.new_clip(family.tokenizer)
    before = {name: p.clone() for name, p in model.named_parameters()}
    text.train_clip(model, toys, family.tokenizer, Schedule(steps=3, learning_rate=1e-2, batch_size=2), tmp_path, 0,
                    locked=True)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and not any(name.startswith(("text_model", "text_projection")) for name in moved)
    assert any(name.startswith("vision_model") for name in moved)
