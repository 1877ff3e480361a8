"""The method against its rivals: what each group compares, whose details and layout it takes, and what it costs."""

import math
from dataclasses import replace

import pytest
import torch

from toffee_hf.evaluation import method, ways
from toffee_hf.evaluation.dreambooth import Tuned, Tuning
from toffee_hf.evaluation.figures import psnr_inside
from toffee_hf.evaluation.heldout import jittered, references, subjects
from toffee_hf.evaluation.method import (
    COLUMNS,
    JITTERED,
    KINDS,
    PASTED,
    RELIT,
    STEPS,
    TRULY_LIT,
    TUNED,
    TURNED,
    VIEW,
    VIEW_PASTED,
    Part,
    compare,
    plan,
    relit_paste,
    task_of,
)
from toffee_hf.evaluation.ways import Drafts, pasted

pytestmark = pytest.mark.usefixtures("small_toys", "one_step")
TARGETS = ["draft", PASTED, RELIT, TRULY_LIT, "Refiner", "truth through the autoencoder", "truth"]


@pytest.fixture
def one_step(monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 1)


def test_the_plan_has_every_group_and_begins_with_the_slow_parts():
    parts = plan(40, 3, Tuning())
    assert [p.group for p in parts[:3]] == [TUNED] * 3 and [p.first for p in parts[:3]] == [0, 1, 2]
    people = {group: sum(p.count for p in parts if p.group == group) for group in (*KINDS, VIEW)}
    assert people == {"photo": 40, "style": 40, "pose": 10, "colour": 10, "texture": 10, VIEW: 40}
    assert [(p.first, p.count) for p in parts if p.group == "photo"] == [(0, 16), (16, 16), (32, 8)]
    assert plan(2, 0, Tuning())[0].group == "photo" and {p.count for p in plan(2, 0, Tuning())} == {2}


def test_photo_prompts_come_with_the_reference_as_it_is_and_jittered_over_the_same_drafts(family):
    as_is, moved = compare(family, Part("photo", 0, 2))
    assert (as_is.group, moved.group) == ("photo", JITTERED)
    assert list(as_is.values) == TARGETS == list(moved.values) and list(as_is.pictures) == ["reference", *TARGETS]
    assert as_is.subjects == [0, 1] and as_is.prompts == moved.prompts and len(set(as_is.prompts)) == 2
    assert (as_is.pictures["draft"] == moved.pictures["draft"]).all()
    for way in ("reference", "reference pasted", "Refiner"):
        assert (as_is.pictures[way] != moved.pictures[way]).any(), way
    assert all(picture.shape == (2, 64, 64, 3) for picture in as_is.pictures.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_of_every_pair_is_there(family, kind):
    found = compare(family, Part(kind, 0, 2))[0]
    both = [PASTED, VIEW_PASTED] if kind == "pose" else [PASTED]
    assert found.group == kind and list(found.values) == [TARGETS[0], *both, *TARGETS[2:]]
    for way, values in found.values.items():
        assert tuple(values) == COLUMNS
        assert all(len(some) == 2 and all(map(math.isfinite, some)) for some in values.values()), way
    assert found.values["truth"]["PSNR"] == pytest.approx([80.0] * 2) and found.values["truth"]["seconds"] == [0, 0]
    seconds = [found.values[way]["seconds"][0] for way in ("draft", "reference pasted", "Refiner")]
    assert 0 < seconds[0] <= min(seconds[1:])


def test_subjects_without_a_colour_are_left_out_of_colour_prompts(family, monkeypatch):
    monkeypatch.setattr(method, "MATERIALS", {p.design.name for p in subjects("held-out", 0, 2)})
    assert compare(family, Part("colour", 0, 2)) == []


def test_a_pose_takes_layout_and_details_from_the_new_view_and_pays_for_it(family):
    task = task_of(family, subjects("held-out", 0, 2), "pose")
    assert task.posed is task.source and task.seconds > 0
    assert (task.source.x - task.reference.x).abs().mean() > 0.01


def test_views_are_held_against_copies(family):
    found = compare(family, Part(VIEW, 0, 2))[0]
    assert list(found.values) == ["reference copied", "View Generator", "truth through the autoencoder", "truth"]
    for same in ("copy", "Seg-DINO"):
        assert found.values["reference copied"][same] == pytest.approx([1, 1], abs=1e-3), same
    assert (found.pictures["reference copied"] != found.pictures["truth"]).any()


def test_tuning_is_shared_by_five_prompts_and_paid_by_each(family, monkeypatch):
    seen = []

    def dreambooth(opened, reference, posed, prompts, truth, tuning):
        seen.append((len(reference.x), prompts, tuning))
        return Tuned(truth.x, 150, 45.0, 5.0, 50)

    monkeypatch.setattr(method, "dreambooth", dreambooth)
    found = compare(family, Part(TUNED, 3, 1, Tuning(steps=200)))[0]
    assert [(n, len(set(prompts)), tuning.steps) for n, prompts, tuning in seen] == [(5, 5, 200)]
    assert list(found.values) == ["DreamBooth-LoRA", *TARGETS] and found.subjects == [3] * 5
    values = found.values["DreamBooth-LoRA"]
    assert values["seconds"] == [10.0] * 5 and values[STEPS] == [150.0] * 5 and STEPS not in found.values["draft"]
    assert values["PSNR"] == pytest.approx([80.0] * 5) and values[TURNED] == [50.0] * 5


def test_figures_do_not_depend_on_the_batch(family):
    both = compare(family, Part("style", 0, 2))[0]
    alone = compare(family, Part("style", 1, 1))[0]
    assert alone.prompts == both.prompts[1:]
    for way, values in alone.values.items():
        for column in set(COLUMNS) - {"seconds"}:
            assert values[column][0] == pytest.approx(both.values[way][column][1], abs=2e-2), (way, column)


def test_under_its_own_light_a_paste_stays_as_it_is():
    shown = references(subjects("held-out", 0, 2))
    same = relit_paste(Drafts(shown.x, torch.zeros(1)), shown, shown, shown.x)
    assert psnr_inside(same, shown.x, torch.ones_like(shown.mask)).min() > 40
    assert (same - shown.x)[(shown.mask > 0.99).expand_as(same)].abs().max() < 0.05


def test_relighting_gives_a_dimmed_paste_its_brightness_back_where_the_reference_lies():
    people = subjects("held-out", 0, 2)
    shown, moved = references(people), jittered(people)
    ground = Drafts(torch.full_like(shown.x, -0.8), torch.zeros(1))
    plain = pasted(ground, shown, moved)
    dim = replace(moved, x=(moved.x + 1) * 0.7 - 1)
    relit = relit_paste(ground, shown, dim, plain)
    before, after = (psnr_inside(x, plain, shown.mask).mean() for x in (pasted(ground, shown, dim), relit))
    assert before + 6 < after
    beyond = (method._laid_mask(shown, moved) == 0).expand_as(plain)
    assert (relit_paste(ground, shown, moved, plain) - ground.x)[beyond].abs().max() < 1e-5
