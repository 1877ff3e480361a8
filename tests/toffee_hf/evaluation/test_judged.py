"""The judge held against the truth: which picture a prompt asks for, and how good a choice among rows was."""

import math
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from builder.report import write_report
from tests.builder.report.made_folder import make_folder
from toffee_hf.evaluation import judged as judging
from toffee_hf.evaluation.judged import TRUE_DB, Judged, Quality, area_under_roc, judged, rows_of, truth_of
from toffee_hf.toy.world import reference_shot, toy_subject

TURNS = {"left": -1.1, "right": 1.1}
CAR = toy_subject("held-out", 4)
NAN = math.nan


def test_a_background_or_style_prompt_keeps_the_subject_and_its_camera():
    subject, shot = truth_of("toy-held-out-0004", "a pencil sketch of a car on the moon", TURNS)
    assert subject == CAR
    assert (shot.scene, shot.style, shot.camera) == ("moon", "pencil", reference_shot(CAR).camera)
    assert truth_of("toy-train-0004", "a photo of a car on the moon", TURNS)[0] == toy_subject("train", 4)


@pytest.mark.parametrize(("words", "turn"), [("turned to the left", -1.1), ("turned to the right", 1.1)])
def test_a_pose_prompt_turns_the_reference(words, turn):
    subject, shot = truth_of("toy-held-out-0004", f"a photo of a car {words} in the snow", TURNS)
    was = reference_shot(CAR).camera
    assert subject == CAR and shot.style == "photo"
    assert shot.camera.yaw == pytest.approx(was.yaw + turn)
    assert (shot.camera.distance, shot.camera.shift) == (was.distance, was.shift)


def test_a_colour_or_texture_prompt_changes_the_design():
    recoloured, shot = truth_of("toy-held-out-0004", "a photo of a teal car in the snow", TURNS)
    assert recoloured == CAR.recoloured("teal") != CAR and shot.camera == reference_shot(CAR).camera
    assert truth_of("toy-held-out-0004", "a photo of a wooden car on a wooden table", TURNS)[0].design.name == "wooden"
    same, _ = truth_of("toy-held-out-0004", "a photo of a car on a wooden table", TURNS)
    assert same == CAR, "the table is wooden, not the car"


@pytest.mark.parametrize(("subject_id", "prompt"), [
    ("mug-3", "a mug on the moon"), ("toy-held-out-", "a mug on the moon"), ("toy-test-0001", "a mug on the moon"),
    ("toy-train-0001x", "a mug on the moon"), ("toy-train-0001", "a mug on Mars"), ("toy-train-0001", ""),
])  # fmt: skip
def test_the_truth_of_other_things_is_not_known(subject_id, prompt):
    with pytest.raises(ValueError, match="toy subjects and prompts"):
        truth_of(subject_id, prompt, TURNS)


def row(prompt, target, **changes):
    picture = Image.fromarray(((target[0] * 255).round().byte().permute(1, 2, 0)).numpy())
    return {"subject_id": "toy-held-out-0004", "prompt": prompt, "category": "background", "reason": "kept",
            "scores": {"seg_dino": 0.5}, "target": picture, **changes}


@pytest.fixture
def car_on_the_beach(small_toys):
    subject, shot = truth_of("toy-held-out-0004", "a photo of a car on the beach", TURNS)
    return subject.render([shot]).image


def test_the_true_picture_is_true_if_the_classifier_agrees(car_on_the_beach, classifier, monkeypatch):
    monkeypatch.setattr(judging, "BATCH", 2)
    rows = [row("a photo of a car on the beach", car_on_the_beach, reason=reason)
            for reason in ("kept", "kept", "view_mismatch", "kept")]
    answers = classifier(["beach", "moon", "beach", "beach"], ["photo", "photo", "photo", "oil"])
    found = judged(rows, SimpleNamespace(classifier=answers), TURNS)
    assert all(f.near_db > 40 for f in found), "what is lost is the rounding to bytes"
    assert [f.true for f in found] == [True, False, True, False]
    assert [f.kept for f in found] == [True, True, False, True] and found[2].reason == "view_mismatch"
    assert [(f.scene, f.style) for f in found] == [(True, True), (False, True), (True, True), (True, False)]
    assert found[0].scores == {"seg_dino": 0.5} and found[0].category == "background"


def test_another_picture_is_not_true_whatever_the_classifier_says(car_on_the_beach, classifier):
    negative = 1 - car_on_the_beach
    rows = [row("a photo of a car on the beach", negative),
            row("a photo of a black car on the beach", car_on_the_beach),
            row("a photo of a car turned to the left on the beach", car_on_the_beach)]
    found = judged(rows, SimpleNamespace(classifier=classifier(["beach"] * 3, ["photo"] * 3)), TURNS)
    assert [f.true for f in found] == [False] * 3, [f.near_db for f in found]


def test_a_background_alone_does_not_make_a_row_untrue(car_on_the_beach, classifier):
    """Pixels count inside the subject's mask; the scene is the classifier's to name."""
    subject, shot = truth_of("toy-held-out-0004", "a photo of a car on the beach", TURNS)
    mask = subject.render([shot]).mask > 0
    other = torch.where(mask, car_on_the_beach, 0.0)
    answers = classifier(["beach"], ["photo"])
    [found] = judged([row("a photo of a car on the beach", other)], SimpleNamespace(classifier=answers), TURNS)
    assert found.near_db > 40 and found.true


def test_pictures_become_pixels_without_alpha():
    picture = Image.fromarray(np.array([[[0, 128, 255, 0], [255, 0, 51, 9]]], dtype=np.uint8), "RGBA")
    wanted = torch.tensor([[-1, 128 / 127.5 - 1, 1], [1, -1, -0.6]])
    assert torch.allclose(judging._pixels(picture)[:, 0].T, wanted, atol=1e-6)


@pytest.mark.parametrize(("near_db", "scene", "style", "true"), [
    (TRUE_DB, True, True, True), (TRUE_DB - 0.01, True, True, False), (30, False, True, False),
    (30, True, False, False), (NAN, True, True, False),
])  # fmt: skip
def test_a_row_is_true_if_all_of_it_is(near_db, scene, style, true):
    assert Judged("style", True, "kept", {}, near_db, scene, style).true is true


@pytest.mark.parametrize(("kept", "true", "quality"), [
    ("1100", "1010", (0.5, 0.5, 0.5)), ("1111", "1000", (0.25, 1.0, 1.0)), ("1000", "1111", (1.0, 0.25, 0.25)),
    ("0000", "1100", (0.0, 0.0, 0.0)), ("1100", "0000", (0.0, 0.0, 0.5)), ("1", "1", (1.0, 1.0, 1.0)),
])  # fmt: skip
def test_precision_recall_and_share(kept, true, quality):
    found = Quality.of(*(torch.tensor([c == "1" for c in word]) for word in (kept, true)))
    assert (found.precision, found.recall, found.kept) == pytest.approx(quality) and found.n == len(kept)


@pytest.mark.parametrize(("score", "true", "area"), [
    ([1, 2, 3, 4], "0011", 1.0), ([4, 3, 2, 1], "0011", 0.0), ([1, 1, 1, 1], "0101", 0.5),
    ([1, 2, 2, 3], "0011", 0.875), ([1, 3, 2, 4], "0011", 0.75), ([1, 2], "11", NAN), ([1, 2], "00", NAN),
])  # fmt: skip
def test_area_under_roc(score, true, area):
    told = torch.tensor([c == "1" for c in true])
    found = area_under_roc(torch.tensor(score, dtype=torch.float32), told)
    assert found == pytest.approx(area, nan_ok=True)
    assert area_under_roc(torch.tensor(score).float().exp(), told) == pytest.approx(area, nan_ok=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = make_folder(tmp_path_factory.mktemp("judged") / "toffee", {"generation": 3, "editing": 2, "rejected": 12})
    write_report(made)
    return made


def test_rows_are_all_that_have_a_target_with_their_verdict(folder):
    rejected = [r for path in sorted((folder / "rejected").glob("*.parquet")) for r in pq.read_table(path).to_pylist()]
    drawn = {r["id"]: r["reason"] for r in rejected if r["target"]}
    assert 0 < len(drawn) < len(rejected), "some fell before there was a target"
    rows = list(rows_of(folder))
    assert [r["reason"] for r in rows[:5]] == ["kept"] * 5
    assert {r["id"]: r["reason"] for r in rows[5:]} == drawn and len(rows) == 5 + len(drawn)
    assert rows[0]["target"].size == (128, 128) and -1 <= rows[0]["scores"]["seg_dino"] <= 1


def test_a_folder_without_rows_gives_none(tmp_path):
    assert list(rows_of(tmp_path)) == list(rows_of(tmp_path / "absent")) == []
