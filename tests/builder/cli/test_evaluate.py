"""`toffee evaluate`: figures and truth tables on the screen or in a document, and one sentence about a bad argument."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from builder.cli import main
from builder.cli.evaluate import JUDGE
from builder.prompts import TURNS
from builder.report import write_report
from tests.builder.report.made_folder import make_folder
from toffee_hf.evaluation.figures import Figure
from toffee_hf.family import MEMBERS
from toffee_hf.toy.captions import POSES

BAD = {
    "count one": (["family", "--count", "1"], "--count of at least 2"),
    "count negative": (["family", "--count", "-3"], "--count of at least 2"),
    "count text": (["family", "--count", "many"], "invalid int value: 'many'"),
    "group": (["family", "--only", "views,vibes"], "--only out of autoencoder, perception, "),
    "family": (["family", "--family", "absent"], "absent lacks vae"),
    "no classifier": (["family", "--family", "bare"], "bare has no classifier, by which scenes and styles are judged"),
    "no classifier, some": (["family", "--family", "bare", "--only", "views,targets"], "bare has no classifier"),
    "judge absent": (["judge", "absent"], "absent holds no rows with scores; build some"),
    "judge empty": (["judge", "empty"], "empty holds no rows with scores; build some"),
    "judge family": (["judge", "empty", "--family", "absent"], "absent lacks vae"),
    "judge unjudged": (["judge", "empty", "--family", "bare"], "bare has no classifier"),
    "judge nothing": (["judge"], "required: DIR"),
    "nothing": ([], "required: WHAT"),
    "option": (["family", "--docks", "docs"], "unrecognized arguments"),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for member in MEMBERS:
        (tmp_path / "bare" / member).mkdir(parents=True)
    return tmp_path


def status(*arguments):
    try:
        return main(["evaluate", *map(str, arguments)])
    except SystemExit as err:  # argparse
        return err.code


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_sentence(place, capsys, name):
    given, says = BAD[name]
    assert status(*given) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.strip().splitlines()) == 1 and said.out == ""
    assert sorted(path.name for path in place.iterdir()) == ["bare", "empty"]


def test_figures_are_printed(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("toffee_hf.evaluation.report.open_measured", lambda name, only: name)
    monkeypatch.setattr("toffee_hf.evaluation.measure.measure",
                        lambda *given: asked.append(given) or {"IoU": Figure(0.9, 0.01, 8)})
    assert status("family", "--family", "mine", "--count", "8", "--only", "views,perception") == 0
    assert asked == [("mine", 8, ("views", "perception"))]
    assert "| IoU | 0.900 ± 0.010 | 8 |" in capsys.readouterr().out
    assert status("family") == 0 and asked[1] == ("tiny", 304, ())


def test_figures_that_need_no_classifier_are_measured_without_one(monkeypatch, capsys):
    monkeypatch.setattr("toffee_hf.evaluation.measure.measure", lambda *given: {"IoU": Figure(0.9, 0.01, 8)})
    assert status("family", "--family", "bare", "--only", "autoencoder,views") == 0
    assert "| IoU |" in capsys.readouterr().out


def test_figures_are_written_where_asked(place, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("toffee_hf.evaluation.report.write_figures", lambda *given: asked.append(given) or "the table")
    assert status("family", "--docs", place, "--count", "20") == 0
    assert asked == [("tiny", place, 20, ())] and capsys.readouterr().out == "the table\n"


def row(index, kept, category="background", **scores):
    """A row of a toy car, whose target is black or the truth."""
    return {"subject_id": "toy-held-out-0004", "prompt": "a photo of a car on the beach", "category": category,
            "reason": "kept" if kept else "view_mismatch", "target": Image.new("RGB", (128, 128)),
            "scores": {"seg_dino": index / 10, "outside": None if index % 2 else 0.0, **scores}}


@pytest.fixture
def opened():
    """Names of the families that were opened."""
    return []


@pytest.fixture
def four_rows(monkeypatch, opened):
    """Rows 0 to 3 of which the last two are true; 1 and 3 are kept."""
    rows = [row(0, False), row(1, True), row(2, False, "style"), row(3, True)]
    monkeypatch.setattr("toffee_hf.evaluation.judged.rows_of", lambda folder: iter(rows))
    monkeypatch.setattr("toffee_hf.evaluation.judged.psnr_inside",
                        lambda x, truth, mask: torch.tensor([10.0, 11.0, 20.0, 22.0]))
    answers = {"scene": ["beach"] * 4, "style": ["photo", "oil", "photo", "photo"]}
    family = SimpleNamespace(classifier=SimpleNamespace(answers=lambda x: answers))
    monkeypatch.setattr("toffee_hf.evaluation.report.open_measured", lambda name: opened.append(name) or family)
    return rows


def cells(text, first):
    """The cells of the table row that begins with `first`."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_judge_is_held_against_the_truth(four_rows, opened, capsys):
    assert status("judge", "some/rows") == 0 and opened == ["tiny"]
    said = capsys.readouterr().out
    assert said.startswith("rows: 4 rows\n")
    assert cells(said, "category") == ["rows", "true", "kept", "precision", "recall", "median dB in the mask"]
    assert cells(said, "all") == ["4", "0.50", "0.50", "0.50", "0.50", "11.0"]
    assert cells(said, "background") == ["3", "0.33", "0.67", "0.50", "1.00", "11.0"]
    assert cells(said, "style") == ["1", "1.00", "0.00", "0.00", "0.00", "20.0"]
    assert cells(said, "score") == ["rows", "true", "subject (15 dB)", "scene", "style"]
    assert cells(said, "seg_dino") == ["4", "1.00", "1.00", "–", "0.67"]
    assert cells(said, "outside") == ["2", "0.50", "0.50", "–", "–"], "of the rows that have it"


def test_the_judge_asks_the_family_that_is_given(four_rows, opened):
    assert status("judge", "some/rows", "--family", "mine") == 0 and opened == ["mine"]


def test_a_score_that_no_row_has_is_told_as_such(four_rows, capsys):
    for made in four_rows:
        made["scores"]["view_dino"] = None
    assert status("judge", "some/rows") == 0
    assert cells(capsys.readouterr().out, "view_dino") == ["0", "–", "–", "–", "–"]


def test_the_tables_go_between_the_markers_of_the_thresholds(four_rows, place, capsys):
    document = place / "docs" / "thresholds.md"
    document.parent.mkdir()
    document.write_text(f"top\n<!-- {JUDGE}: begin -->\nold\n<!-- {JUDGE}: end -->\nbottom\n")
    assert status("judge", "some/rows", "--docs", "docs") == 0
    text = capsys.readouterr().out
    assert document.read_text() == f"top\n<!-- {JUDGE}: begin -->\n{text}<!-- {JUDGE}: end -->\nbottom\n"


def test_a_document_without_markers_is_one_sentence(four_rows, place, capsys):
    assert status("judge", "some/rows", "--docs", ".") == 2
    assert f"thresholds.md has no lines <!-- {JUDGE}: begin -->" in capsys.readouterr().err


def test_rows_of_other_subjects_are_refused(place, monkeypatch, capsys):
    monkeypatch.setattr("toffee_hf.evaluation.report.open_measured", lambda name: None)
    write_report(make_folder(place / "photos", {"generation": 2}, shards=1))
    assert status("judge", "photos") == 2
    said = capsys.readouterr()
    assert "the truth is known of toy subjects and prompts only, got 'subject-" in said.err and said.out == ""


def test_the_judge_turns_by_what_prompts_say(four_rows, monkeypatch):
    seen = []
    monkeypatch.setattr("toffee_hf.evaluation.judged.judged",
                        lambda rows, family, turns: seen.append(turns) or [])
    assert status("judge", "some/rows") == 2, "no rows"
    assert {POSES[name]: turn for name, turn in seen[0].items()} == dict(TURNS)
    assert not any(math.isclose(turn, 0) for turn in seen[0].values())
