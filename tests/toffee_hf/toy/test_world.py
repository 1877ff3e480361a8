"""The toy world: the same for ever, held-out apart from training, and true about every subject."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS
from toffee_hf.toy.subjects import toy_subject_class, toy_subject_picture
from toffee_hf.toy.world import CLASSES, POSE_LIMIT, reference_shot, toy_shot, toy_subject

MANY = 2000


def looks(split):
    return {(s.design.name, *s.design.palette[:2]) for s in (toy_subject(split, i) for i in range(MANY))}


def test_training_and_held_out_subjects_share_no_combination_of_design_and_colours():
    train, held_out = looks("train"), looks("held-out")
    assert not train & held_out
    assert len(train) > 500 and len(held_out) > 200


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_every_class_design_material_and_colour_is_there(split):
    people = [toy_subject(split, i) for i in range(MANY)]
    assert {s.class_name for s in people} == set(CLASSES)
    assert {s.design.name for s in people} == {*DESIGNS, *MATERIALS}
    assert {colour for s in people for colour in s.design.palette} == set(COLOURS)
    assert len({(s.params, s.design) for s in people}) == MANY
    assert len(CLASSES) >= 12


def test_a_subject_does_not_depend_on_what_was_asked_before():
    first = toy_subject("held-out", 5)
    toy_subject("train", 5)
    toy_subject("held-out", 4)
    random.seed(1)
    assert toy_subject("held-out", 5) == first != toy_subject("train", 5)


def test_a_reference_is_the_same_photo_in_another_process_and_order():
    mine = [toy_subject_picture("held-out", i, 32) for i in (3, 1)]
    code = ("import hashlib, torch; torch.set_num_threads(1)\n"
            "from toffee_hf.toy.subjects import toy_subject_picture as t\n"
            "print(*[hashlib.sha256(t('held-out', i, 32)).hexdigest() for i in (1, 3)])")  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [hashlib.sha256(data).hexdigest() for data in reversed(mine)]
    assert mine[0].startswith(b"\x89PNG")


def test_the_class_word_is_the_subjects():
    assert all(toy_subject_class(i) == toy_subject("train", i).class_name for i in range(len(CLASSES) + 2))


def test_a_reference_is_a_photo_of_the_front_with_nothing_before_it():
    for i in range(50):
        shot = reference_shot(toy_subject("held-out", i))
        assert shot.style == "photo" and shot.occluder is None and abs(shot.camera.yaw) <= POSE_LIMIT


def test_a_shot_keeps_what_is_asked_and_varies_the_rest():
    shots = [toy_shot(random.Random(i), scene="moon", yaw=0.25) for i in range(60)]
    assert {s.scene for s in shots} == {"moon"} and {s.camera.yaw for s in shots} == {0.25}
    assert len({s.style for s in shots}) > 3 and len({s.scene_seed for s in shots}) == 60
    assert 0 < sum(s.occluder is not None for s in shots) < 30


def pictures_of(subject, *others):
    shot = replace(reference_shot(subject), scene="kitchen")
    return [s.render([shot], 64) for s in (subject, *others)]


@pytest.mark.parametrize("design", ["striped", "polka-dot", "heart", "checkered"])
def test_another_colour_changes_the_body_and_not_the_mask(design):
    subject = toy_subject("held-out", 0).resurfaced(design)
    colour = next(c for c in COLOURS if c not in subject.design.palette)
    changed = subject.recoloured(colour)
    assert changed.design.palette[0] == colour and len(set(changed.design.palette)) == 3
    assert changed.params == subject.params
    old, new = pictures_of(subject, changed)
    assert torch.equal(old.mask, new.mask) and torch.equal(old.depth, new.depth)
    moved = (old.photo - new.photo).abs().amax(1, keepdim=True)
    assert moved[old.mask == 0].max() == 0
    assert moved[old.mask == 1].mean() > 0.05


@pytest.mark.parametrize("colour", COLOURS)
def test_recolouring_with_any_colour_leaves_three_different_ones(colour):
    for i in range(30):
        palette = toy_subject("train", i).recoloured(colour).design.palette
        assert palette[0] == colour and len(set(palette)) == 3


@pytest.mark.parametrize("surface", ["wooden", "checkered"])
def test_another_surface_changes_the_body_and_not_the_mask(surface):
    subject = toy_subject("held-out", 3)
    assert subject.design.name != surface
    old, new = pictures_of(subject, subject.resurfaced(surface))
    assert torch.equal(old.mask, new.mask) and torch.equal(old.coords, new.coords)
    assert (old.photo - new.photo).abs()[:, :, old.mask[0, 0] == 1].mean() > 0.02
    assert subject.resurfaced(surface).design.palette == subject.design.palette
