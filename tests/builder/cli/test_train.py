"""`toffee train tiny`: trains, installs and measures in this order, and refuses what cannot be before it begins."""

from pathlib import Path

import pytest

from builder.cli import main
from toffee_hf.evaluation.report import FIGURES
from toffee_hf.family import TINY
from toffee_hf.training.tiny import Budget


@pytest.fixture
def done(tmp_path, monkeypatch):
    """What was asked of the library, in order; nothing is trained."""
    calls = []
    monkeypatch.chdir(tmp_path)

    def told(name, answer=None):
        return lambda *given: calls.append((name, *given)) or answer

    monkeypatch.setattr("toffee_hf.training.tiny.train_tiny", told("train"))
    monkeypatch.setattr("toffee_hf.training.tiny.install", told("install", 63_600_000))
    monkeypatch.setattr("toffee_hf.evaluation.report.write_figures", told("figures", "| table |"))
    return calls


def status(*arguments):
    try:
        return main(["train", "tiny", *map(str, arguments)])
    except SystemExit as err:  # argparse
        return err.code


def test_it_trains_then_installs_then_measures_what_it_installed(done, tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "method.md").write_text(f"<!-- {FIGURES}: begin -->\n<!-- {FIGURES}: end -->\n")
    assert status("--minutes", 30, "--seed", 4, "--workers", 2, "--folder", "work", "--only", "clip,dino", "--install",
                  "family", "--docs", "docs") == 0  # fmt: skip
    assert done == [
        ("train", Path("work"), Budget(minutes=30.0, seed=4), 2, ("clip", "dino")),
        ("install", Path("work"), Path("family"), None),
        ("figures", Path("family"), Path("docs")),
    ]
    assert "family: 63.6 MB" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "start"), [([], None), (["--start", "tiny"], TINY), (["--start", "x"], Path("x"))])
def test_a_start_reaches_the_training_and_the_bill(done, given, start):
    assert status("--install", "family", *given) == 0
    assert done[0][2].start == start == done[1][3]
    assert [call[0] for call in done] == ["train", "install"]


@pytest.mark.parametrize("given", ["cpu", "cuda"])
def test_a_device_reaches_the_training(done, given):
    assert status("--device", given) == 0 and done[0][2].device == given


def test_docs_need_an_installed_family(done, capsys):
    assert status("--docs", "docs") == 2
    assert "--docs measures the family that --install writes" in capsys.readouterr().err
    assert done == []


@pytest.mark.parametrize(("given", "says"), [
    (["--start", "nowhere"], "nowhere is no family to start from"), (["--only", "dinosaur"], "dinosaur"),
    (["--install", "family", "--docs", "docs"], f"method.md has no lines <!-- {FIGURES}: begin -->"),
    *((["--minutes", wrong], f"--minutes: must be a finite number > 0, got '{wrong}'")
      for wrong in ("0", "-1", "nan", "inf", "soon")),
    *((["--workers", wrong], "--workers: must be") for wrong in ("0", "-2", "two")),
    *((["--seed", wrong], "--seed: must be") for wrong in ("-1", str(2**63), "x")),
])  # fmt: skip
def test_a_bad_argument_is_one_sentence_and_nothing_is_written(tmp_path, monkeypatch, capsys, given, says):
    monkeypatch.chdir(tmp_path)
    assert status(*given) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
