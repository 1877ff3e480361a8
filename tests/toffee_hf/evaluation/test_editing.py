"""Figures of an editor: tasks with a known truth, scores that know the truth from anything else, one table."""

from dataclasses import replace

import pytest
import torch

from tests.tiny_family import write_family
from toffee_hf.evaluation import editing
from toffee_hf.evaluation.editing import (
    EDIT,
    NEW,
    PAINTED,
    POSED,
    Judge,
    Way,
    as_lines,
    measure_editors,
    measure_part,
    task_of,
)
from toffee_hf.evaluation.figures import Figure
from toffee_hf.evaluation.heldout import subjects
from toffee_hf.family import TINY, Family
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet

PEOPLE = subjects("held-out", 3, 2)


@pytest.fixture(scope="module")
def family():
    return Family(TINY, "cpu")


@pytest.fixture(scope="module")
def task():
    return task_of(PEOPLE, "photo")


def test_the_source_is_the_truth_outside_its_mask_and_shows_another_subject_inside(task):
    outside, inside = task.mask == 0, task.truth.mask > 0.5
    difference = (task.source - task.truth.x).abs().amax(1, keepdim=True)
    assert difference[outside].max() == 0
    assert difference[inside].mean() > 0.1
    assert (task.mask[inside] == 1).all(), "the whole subject may be drawn"
    for subject in PEOPLE:
        other = editing._another(subject)
        assert other.class_name == subject.class_name and other.index > subject.index


def test_the_truth_scores_best(family, task):
    judge = Judge(family, task)
    true = judge.scores({NEW: task.truth.x, POSED: task.truth.x})
    false = judge.scores({NEW: task.source, POSED: task.source.flip(0)})
    assert true[f"{POSED}: PSNR in the mask"].min() >= 79, "identical pictures"
    for name in (f"{NEW}: Seg-DINO", f"{POSED}: Seg-DINO", f"{POSED}: PSNR in the mask"):
        assert (true[name] > false[name]).all(), name
    assert f"{NEW}: PSNR in the mask" not in true, "without a pose no pixel has a truth"


def test_a_change_outside_the_mask_is_seen(family, task):
    judge = Judge(family, task)
    name = f"{EDIT}: change outside the mask"
    inside = task.source * (1 - task.mask)
    assert judge.scores({EDIT: inside})[name].tolist() == [0, 0]
    row, column = (task.mask[1, 0] == 0).nonzero()[0].tolist()
    touched = task.source.clone()
    touched[1, 0, row, column] += 3 / 127.5
    assert judge.scores({EDIT: touched})[name].tolist() == [0, 3]


def test_a_painted_mask_holds_the_other_and_its_surroundings_are_judged(family, task):
    extra = (task.painted - task.mask).flatten(1)
    assert extra.min() == 0 and (extra.sum(1) > 50).all() and (task.painted.mean((1, 2, 3)) < 0.9).all()
    judge, inside = Judge(family, task), task.truth.x * (1 - (task.painted > task.mask).float())
    true, false = (judge.scores({PAINTED: x}) for x in (task.truth.x, inside))
    name = f"{PAINTED}: PSNR around the subject"
    assert true[name].min() >= 79 and false[name].max() < 30
    assert false[f"{PAINTED}: PSNR in the mask"].min() >= 79 and not false[f"{PAINTED}: change outside the mask"].any()


def _truth(family, way, task, what):
    return task.truth.x if way.scale else torch.zeros_like(task.truth.x)


def test_figures_of_every_way_and_rival(family, monkeypatch):
    monkeypatch.setattr(editing, "drawn_by", _truth)
    monkeypatch.setattr(editing, "BATCH", 2)
    ways = [Way("good"), Way("grey", scale=0.0, draws=(POSED,))]
    found = measure_editors(family, ways, 2, 1)
    assert list(found) == ["text alone", "reference pasted", "the source", "truth", "good", "grey"]
    assert set(found["grey"]) < set(found["good"])
    name = f"{POSED}: PSNR in the mask"
    assert found["good"][name].mean >= 79 > 40 > found["reference pasted"][name].mean > found["grey"][name].mean
    assert all(figure.n == 2 for values in found.values() for figure in values.values()), "one value a subject"
    lines = as_lines(found)
    assert isinstance(lines[f"editor, good, {name}"], Figure)
    assert all(line.startswith("editor, ") for line in lines), "as cards look for them"
    for what in (POSED, EDIT):
        ahead = found["good"].pop(f"{what}: ahead of the reference pasted, PSNR in the mask")
        apart = [found[way][f"{what}: PSNR in the mask"].mean for way in ("good", "reference pasted")]
        assert ahead.mean == pytest.approx(apart[0] - apart[1], abs=1e-3), "subject by subject"
    alone = measure_editors(family, ways[:1], 2, 1, rivals=False)
    assert alone == {"good": found["good"]}, "a figure does not depend on what is measured beside it"


def test_an_editor_draws_the_same_whatever_its_batch(tmp_path):
    """By the real pipeline, of a small family with an editor of random weights."""
    family = Family(write_family(tmp_path / "family"), "cpu")
    unet = ToffeeEditorUNet.from_unet(family.unet, subject_dim=2 * family.dino.config.hidden_size, patches=64)
    unet.save_pretrained(tmp_path / "editor")
    way = Way("small", tmp_path / "editor", steps=2)
    whole, one = task_of(PEOPLE, "photo"), task_of(PEOPLE[1:], "photo")
    small = [editing.Task(_half(t.reference), _half(t.posed), t.wish, _half(t.truth), _down(t.source),
                          _down(t.mask).round(), _down(t.painted).round()) for t in (whole, one)]
    for what in (NEW, POSED, EDIT, PAINTED):
        both, alone = (editing.drawn_by(family, way, t, what) for t in small)
        assert torch.allclose(both[1:], alone, atol=1e-4), what


def _down(x):
    return torch.nn.functional.avg_pool2d(x, 2)


def _half(shown):
    return replace(shown, x=_down(shown.x), mask=_down(shown.mask), depth=_down(shown.depth))


def test_a_part_averages_over_both_kinds_of_prompt(family, monkeypatch):
    monkeypatch.setattr(editing, "drawn_by", _truth)
    part = editing.Part("held-out", 3, 2, (Way("good", draws=(NEW,)),), rivals=False)
    whole = measure_part(family, part)["good"]
    monkeypatch.setattr(editing, "KINDS", ("photo",))
    photo = measure_part(family, part)["good"]
    monkeypatch.setattr(editing, "KINDS", ("style",))
    style = measure_part(family, part)["good"]
    for name in whole:
        assert torch.allclose(whole[name], (photo[name] + style[name]) / 2), name
