"""Tables, sheets and pairs of a comparison: from values and pictures that are made up."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from toffee_hf.errors import InputError
from toffee_hf.evaluation import comparison
from toffee_hf.evaluation.comparison import METHOD, Comparison, compare_all, on_sheets, strip
from toffee_hf.evaluation.method import (
    COLUMNS,
    GROUPS,
    JITTERED,
    KINDS,
    RELIT,
    STEPS,
    TUNED,
    TURNED,
    VIEW,
    VIEW_PASTED,
    Compared,
    Part,
)

TRUTH = "truth through the autoencoder"
LEVELS = {"draft": 10.0, "reference pasted": 12.0, RELIT: 14.0, "Refiner": 15.0, TRUTH: 20.0, "truth": 80.0}
OTHERS = {VIEW: {"reference copied": 14.0, "View Generator": 17.0, TRUTH: 20.0},
          TUNED: {"DreamBooth-LoRA": 13.0, **LEVELS}}


def made(group, first=0, count=2):
    """Every way's PSNR is its level plus the pair's number, every other score 0.5, every picture of one grey."""
    ways = OTHERS.get(group, LEVELS)
    values = {way: {column: [level + i if column == "PSNR" else 0.5 for i in range(count)] for column in COLUMNS}
              for way, level in ways.items()}
    if group == TUNED:
        values["DreamBooth-LoRA"] |= {"seconds": [20.0] * count, STEPS: [150.0] * count,
                                      TURNED: [float(first and 50)] * count}
    pictures = {way: np.full((count, 8, 8, 3), 10 * row, np.uint8) for row, way in enumerate(["reference", *ways])}
    return Compared(group, list(range(first, first + count)), [f"a mug {group} {i}" for i in range(count)], values,
                    pictures)


def whole():
    found = Comparison()
    for group in reversed(GROUPS):
        found.add(made(group))
    return found


def cells(text, first):
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_table_is_in_the_order_of_the_groups_and_all_is_every_prompt_once():
    lines = whole().table().splitlines()[2:]
    groups = list(dict.fromkeys(line.strip("| ").partition(":")[0] for line in lines))
    assert groups == ["photo", JITTERED, *KINDS[1:], "all", VIEW, TUNED]
    assert cells(whole().table(), "all: draft")[:3] == ["10", "2", "10.5 ± 1.0"], "five kinds of two subjects"
    assert cells(whole().table(), "photo: Refiner")[:4] == ["2", "2", "15.5 ± 1.0", "0.500 ± 0.000"]


def test_pairs_of_one_subject_count_as_one_value():
    found = Comparison()
    found.add(replace(made(TUNED, count=4), subjects=[5, 3, 5, 3]))
    assert found.column(TUNED, "Refiner", "PSNR").tolist() == [17.0, 16.0], "of subject 3, then of subject 5"
    assert cells(found.table(), f"{TUNED}: Refiner")[:2] == ["4", "2"]


def test_gains_are_pair_by_pair():
    text = whole().gains()
    assert cells(text, "photo: Refiner - draft") == ["5.0 ± 0.0", "50%", *["0.000 ± 0.000"] * 4]
    assert cells(text, f"{VIEW}: View Generator - reference copied")[:2] == ["3.0 ± 0.0", "50%"]
    assert cells(text, f"{TUNED}: Refiner - DreamBooth-LoRA")[0] == "2.0 ± 0.0"


def test_the_cost_of_tuning_is_told():
    text = whole().text()
    assert ("DreamBooth-LoRA took 150 steps" in text and "40 times the seconds" in text
            and "20.0 s against 0.50 s" in text and "(2 of 2 subjects had their best at the last one)" in text)
    alone = Comparison()
    alone.add(made("photo"))
    assert "DreamBooth" not in alone.text()


def test_sheets_hold_the_first_pairs_and_say_their_seeds(tmp_path):
    found = whole()
    found.add(made("photo", 16, 4))
    text = found.text(tmp_path)
    found.write_sheets(tmp_path / "tiny")
    with Image.open(tmp_path / "tiny" / "method.png") as sheet:
        assert sheet.size == (2 * 6 * 8, 7 * 8), "two pairs of six groups, seven rows"
        rows = np.asarray(sheet.convert("RGB"))[::8, 0, 0]
    assert (np.abs(rows - 10.0 * np.arange(7)) < 3).all()
    assert "photo 0 “a mug photo 0”; photo 1 “a mug photo 1”; photo, jittered reference 0" in text
    assert f"tiny/method.png), from top to bottom: reference, draft, reference pasted, {RELIT}, Refiner, " in text
    assert {p.name for p in (tmp_path / "tiny").iterdir()} == {"method.png", "method_views.png", "method_tuned.png"}


def test_a_way_of_one_group_alone_is_not_on_the_sheets():
    found = whole()
    more = made("pose", 2, 1)
    more.pictures[VIEW_PASTED] = more.pictures["draft"]
    assert strip(more, 0, on_sheets(more)).shape == strip(made("photo"), 0, on_sheets(made("photo"))).shape
    found.add(more)
    assert VIEW_PASTED not in found.ways["pose"]


def test_every_pair_is_written_with_its_seed_and_scores(tmp_path):
    (tmp_path / "pairs").mkdir()
    for group, count in (("photo", 2), (JITTERED, 1), (TUNED, 1)):
        comparison.write_pairs(made(group, 7, count), tmp_path / "pairs")
    lines = [json.loads(line) for line in (tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["photo-0007.png", "photo-0008.png", "photo_jittered_reference-0007.png",
                                               "tuned_subjects-0007-0.png"]
    assert (lines[1]["seed"], lines[1]["subject"], lines[1]["prompt"]) == (8, "toy-held-out-0008", "a mug photo 1")
    assert lines[1]["scores"]["Refiner"]["PSNR"] == 16.0 and lines[1]["ways"][0] == "reference"
    with Image.open(tmp_path / "pairs" / "photo-0008.png") as picture:
        assert picture.size == (8, 7 * 8)


def test_a_strip_is_every_way_of_one_pair():
    found = made("photo")
    assert (strip(found, 1, list(found.pictures))[::8, 0, 0] == 10 * np.arange(7)).all()


def test_all_goes_between_the_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "spread", lambda work, family, parts, *_: [[made(p.group)] for p in parts])
    document = tmp_path / "method.md"
    document.write_text(f"a\n<!-- {METHOD}: begin -->\nold\n<!-- {METHOD}: end -->\nb\n")
    text = compare_all(None, [Part("photo", 0, 2), Part(VIEW, 0, 2)], 1, tmp_path, tmp_path / "pairs")
    assert document.read_text() == f"a\n<!-- {METHOD}: begin -->\n{text}\n<!-- {METHOD}: end -->\nb\n"
    assert "photo: Refiner" in text and "(tiny/method_views.png)" in text
    assert (tmp_path / "tiny" / "method.png").exists()
    assert len(list((tmp_path / "pairs").glob("*.png"))) == 4


def test_a_document_without_markers_is_told_before_anything_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "spread", lambda *given: pytest.fail("compared"))
    with pytest.raises(InputError, match="has no lines"):
        compare_all(None, [Part("photo", 0, 2)], 1, tmp_path)
