"""`toffee evaluate method` and `ablations`: what is handed on, what is printed, one sentence about a bad argument."""

import pytest

from builder.machine import cpu_cores
from tests.builder.cli.test_evaluate import status
from toffee_hf.evaluation.ablations import ABLATIONS
from toffee_hf.evaluation.dreambooth import Tuning
from toffee_hf.evaluation.method import plan

BAD = {
    "count": (["method", "--count", "1"], "--count of at least 2"),
    "tuned": (["method", "--tuned", "-1"], "--tuned of at least 0, got 208, -1"),
    "workers": (["method", "--workers", "0"], "must be at least 1"),
    "pictures": (["method", "--pictures", "full"], "--pictures needs a new or empty folder"),
    "pictures file": (["method", "--pictures", "full/note"], "--pictures needs a new or empty folder"),
    "family": (["method", "--family", "absent"], "absent lacks vae"),
    "markers": (["method", "--docs", "full"], "method.md has no lines <!-- method against its rivals: begin -->"),
    "ablations count": (["ablations", "--count", "1"], "--count of at least 2"),
    "ablations steps": (["ablations", "--train-steps", "-1"], "--train-steps of at least 0, got 96, -1"),
    "ablations family": (["ablations", "--family", "absent"], "absent lacks vae"),
    "ablations markers": (["ablations", "--docs", "full"], f"method.md has no lines <!-- {ABLATIONS}: begin -->"),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_sentence_and_nothing_is_written(place, capsys, name):
    given, says = BAD[name]
    assert status(*given) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.strip().splitlines()) == 1 and said.out == ""
    assert [path.name for path in place.rglob("*")] == ["full", "note"]


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setattr("toffee_hf.evaluation.report.open_measured", lambda name: name)


def test_the_method_is_compared_with_its_rivals(place, opened, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("toffee_hf.evaluation.comparison.compare_all", lambda *given: asked.append(given) or "tables")
    assert status("method") == 0 and capsys.readouterr().out == "tables\n"
    assert status("method", "--family", "mine", "--count", "8", "--tuned", "0", "--workers", "3", "--docs", "docs",
                  "--pictures", "new") == 0
    assert asked[0] == ("tiny", plan(208, 12, Tuning()), cpu_cores(), None, None)
    family, parts, workers, docs, pictures = asked[1]
    assert (family, parts, workers, docs.name, pictures.name) == ("mine", plan(8, 0, Tuning()), 3, "docs", "new")


def test_by_default_enough_pairs_are_compared_for_every_target():
    people = {group: sum(p.count for p in plan(208, 12, Tuning()) if p.group == group)
              for group in ("photo", "style", "view", "tuned subjects")}
    assert min(people["photo"], people["style"], people["view"]) >= 200 and people["tuned subjects"] == 12


def test_ablations_are_printed_and_written(place, opened, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("toffee_hf.evaluation.ablations.ablate", lambda *given: asked.append(given) or "| table |")
    (place / "method.md").write_text(f"<!-- {ABLATIONS}: begin -->\n<!-- {ABLATIONS}: end -->\n")
    assert status("ablations", "--count", "8", "--workers", "1", "--train-steps", "300", "--docs", ".") == 0
    assert asked == [("tiny", 8, 1, 300)] and capsys.readouterr().out == "| table |\n"
    assert "| table |" in (place / "method.md").read_text()
    assert status("ablations") == 0 and asked[1] == ("tiny", 96, cpu_cores(), 0)
