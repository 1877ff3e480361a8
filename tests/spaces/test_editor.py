"""Wishes are checked, drawn apart from each other, and refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

editor = pytest.importorskip("editor")
gr = pytest.importorskip("gradio")
THING = Image.linear_gradient("L").convert("RGB")
SCENE, MASK = Image.new("RGB", (96, 64), "teal"), Image.new("L", (96, 64), 255)


@pytest.fixture(scope="module")
def loaded(model):
    assert editor.load(str(model)) and editor.missing() == ""


def wish(**changes):
    return editor.Wish(**{"prompt": "a mug", "subjects": (THING,), "steps": 2, **changes})


@pytest.mark.parametrize(("changes", "says"), [
    ({"subjects": ()}, "Add a photo"), ({"subjects": (THING,) * 5}, "at most 4"), ({"prompt": " \n"}, "Write a prompt"),
    ({"prompt": "a" * 10_000}, "10,000 characters"), ({"scene": SCENE}, "Paint on the scene"),
    ({"steps": 0}, "from 1 to 50"), ({"steps": 2.5}, "whole number"), ({"steps": None}, "Steps must be"),
    ({"count": 5}, "from 1 to 4"), ({"seed": -1}, "Seed must be"), ({"subject_scale": float("nan")}, "from 0.0 to 2.0"),
    ({"subject_scale": "much"}, "a number"), ({"prompt": None}, "Write a prompt"),
])  # fmt: skip
def test_what_is_wrong_with_a_wish_is_said(changes, says):
    with pytest.raises(editor.Unusable, match=says):
        wish(**changes)


def test_a_picture_depends_on_its_own_seed_alone(loaded):
    row = [np.array(picture, float) for picture in editor.drawn(wish(count=3, seed=7))]
    alone = np.array(editor.drawn(wish(seed=8))[0], float)
    assert np.abs(row[1] - alone).max() <= 2 < np.abs(row[0] - alone).max()


def test_outside_the_mask_a_scene_stays(loaded):
    mask = Image.new("L", SCENE.size)
    mask.paste(255, (0, 0, 48, 64))
    (picture,) = editor.drawn(wish(scene=SCENE, mask=mask, prompt="<b>a mug</b>", subject_scale=0))
    assert picture.size == SCENE.size
    assert (np.array(picture)[:, 48:] == np.array(SCENE)[:, 48:]).all()


def test_several_subjects_and_transparent_ones(loaded):
    cut_out = THING.convert("RGBA")
    cut_out.putalpha(Image.linear_gradient("L").rotate(90))
    assert len(editor.drawn(wish(subjects=(THING, cut_out)))) == 1


def test_what_the_pipeline_refuses_is_said_as_plain_text(loaded):
    with pytest.raises(gr.Error) as caught:
        editor.drawn(wish(subjects=(Image.new("RGB", (64, 64)),)))
    assert "nothing to see in the subject's photo" in caught.value.message and not caught.value.print_exception


@pytest.mark.parametrize("name", ["nowhere/at all", "/", "no-such/model"])
def test_a_model_that_does_not_load_is_a_sentence(name, monkeypatch):
    monkeypatch.setattr(editor, "_pipeline", None)
    assert not editor.load(name)
    assert "TOFFEE_MODEL" in editor.missing() and "Traceback" not in editor.missing()
    with pytest.raises(gr.Error, match="No model could be loaded"):
        editor.drawn(wish())


@pytest.mark.parametrize(("sent", "means"), [(20.0, 20), (20, 20), (1.5, 1.5), ("x", "x"), (1e400, 1e400)])
def test_numbers_as_browsers_send_them(sent, means):
    assert editor.number(sent) == means and type(editor.number(sent)) is type(means)
