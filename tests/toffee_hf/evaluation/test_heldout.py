"""Held-out pictures: subjects nobody trained on, true shots, and jitter within its stated bounds."""

import dataclasses
import math

import pytest
import torch

from builder.prompts import TURNS
from toffee_hf.evaluation.heldout import (
    JITTER_SHIFT,
    JITTER_SIZE,
    JITTER_TURN,
    POSE_TURN,
    Asked,
    any_pictures,
    asked,
    jittered,
    pictures,
    references,
    subjects,
    turned_by,
)
from toffee_hf.evaluation.judged import truth_of
from toffee_hf.toy.captions import POSES
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import reference_shot

pytestmark = pytest.mark.usefixtures("small_toys")
MANY = subjects("held-out", 0, 200)


@pytest.fixture
def unseen(monkeypatch):
    """Shots without the work of rendering them."""
    monkeypatch.setattr("toffee_hf.evaluation.heldout.pictures", lambda people, shots: shots)


def test_subjects_are_of_the_split_in_order_and_go_on_from_the_last():
    assert [(s.split, s.index) for s in subjects("held-out", 3, 2)] == [("held-out", 3), ("held-out", 4)]
    assert subjects("held-out", 0, 5) == subjects("held-out", 0, 3) + subjects("held-out", 3, 2)


def test_pictures_are_in_range_and_of_one_subject_each():
    people = subjects("held-out", 0, 2)
    shown = references(people)
    assert shown.x.shape == (2, 3, 64, 64) and shown.mask.shape == shown.depth.shape == (2, 1, 64, 64)
    assert -1 <= shown.x.min() < -0.2 and 0.2 < shown.x.max() <= 1
    assert shown.mask.min() >= 0 and shown.mask.max() <= 1
    assert shown.names == ["mug", "teapot"]
    assert torch.equal(pictures(people[1:], [reference_shot(people[1])]).x, shown.x[1:])
    with pytest.raises(ValueError, match="shorter|longer"):
        pictures(people, [reference_shot(people[0])])


def test_references_are_the_reference_shots(unseen):
    assert references(MANY) == [reference_shot(subject) for subject in MANY]


def test_jitter_keeps_within_its_bounds_and_reaches_them(unseen):
    turns, sizes, shifts = [], [], []
    for subject, shot in zip(MANY, jittered(MANY), strict=True):
        was, now = reference_shot(subject).camera, shot.camera
        turns.append(abs(now.yaw - was.yaw))
        sizes.append(abs(now.distance / was.distance - 1))
        shifts += [abs(a - b) for a, b in zip(now.shift, was.shift, strict=True)]
        assert shot == dataclasses.replace(reference_shot(subject), camera=now), "the camera alone has moved"
        assert now.elevation == was.elevation
    assert jittered(MANY[5:6]) == jittered(MANY)[5:6], "a jitter does not depend on its batch"
    assert 0.9 * JITTER_TURN < max(turns) <= JITTER_TURN and min(turns) < 0.1 * JITTER_TURN
    assert 0.9 * JITTER_SIZE < max(sizes) <= JITTER_SIZE
    assert 0.4 * JITTER_SHIFT < max(shifts) <= JITTER_SHIFT


def test_jittered_pictures_differ_from_the_references():
    people = subjects("held-out", 0, 2)
    assert ((jittered(people).x - references(people).x).abs().mean((1, 2, 3)) > 0.01).all()


def test_turning_turns_the_subject_and_nothing_else(unseen):
    for subject, shot in zip(MANY, turned_by(MANY, [0.9] * len(MANY)), strict=True):
        was = reference_shot(subject)
        assert shot.camera.yaw == pytest.approx(was.camera.yaw + 0.9)
        assert dataclasses.replace(shot, camera=was.camera) == was
        assert dataclasses.replace(shot.camera, yaw=was.camera.yaw) == was.camera


def test_any_pictures_show_every_scene_and_style(unseen):
    shots = any_pictures(MANY)
    assert {shot.scene for shot in shots} == set(SCENES) and {shot.style for shot in shots} == set(STYLES)
    assert shots == any_pictures(MANY)


@pytest.mark.parametrize("kind", ["photo", "style", "pose", "colour", "texture"])
def test_a_prompt_says_what_its_shot_and_subject_show(kind):
    """What the judge's truth makes of a prompt is what was asked, but for the seed of the scene."""
    wish, turns = asked(MANY, kind), {name: dict(TURNS).get(words, math.nan) for name, words in POSES.items()}
    for subject, prompt, shot, become in zip(MANY, wish.prompts, wish.shots, wish.become, strict=True):
        assert subject.class_name in prompt
        truth, shown = truth_of(f"toy-held-out-{subject.index:04d}", prompt, turns)
        assert (truth, dataclasses.replace(shown, scene_seed=shot.scene_seed)) == (become, shot), prompt
        assert (become != subject) == (kind in ("colour", "texture"))
        assert (shot.camera != reference_shot(subject).camera) == (kind == "pose")
    assert {shot.style for shot in wish.shots} == (set(STYLES) - {"photo"} if kind == "style" else {"photo"})
    assert {shot.scene for shot in wish.shots} == set(SCENES)
    assert len({shot.scene_seed for shot in wish.shots}) == len(MANY)


def test_a_wish_depends_on_its_subject_kind_and_variant_alone():
    wish = asked(MANY[:8], "style")
    assert asked(MANY[3:5], "style") == Asked(wish.prompts[3:5], wish.shots[3:5], wish.become[3:5])
    assert asked(MANY[:3], "style").and_also(asked(MANY[3:8], "style")) == wish
    others = [asked(MANY[:8], "photo"), asked(MANY[:8], "style", "/1"), asked(MANY[:8], "style", "/2")]
    assert len({tuple(w.prompts) for w in (wish, *others)}) == 4


def test_the_turns_that_are_asked_are_those_of_a_build():
    assert sorted(turn for _, turn in TURNS) == [-POSE_TURN, POSE_TURN]
