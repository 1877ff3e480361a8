"""`toffee publish model`: lists, writes, refuses."""

from __future__ import annotations

import json

import pytest

from builder.cli import main
from tests.tiny_family import write_family

LINES = ("| what | figure | n |\n| --- | --- | --- |\n| photo prompts: refined, PSNR in the mask | 1.0 ± 0.1 | 4 |\n"
         "| view by 0.9 rad: view, PSNR in the mask | 1.0 ± 0.1 | 4 |\n")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = write_family(tmp_path_factory.mktemp("to-publish") / "family")
    (folder / "training.json").write_text(json.dumps(
        {name: {"samples": 10, "minutes": 1.0} for name in ("refiner", "view", "base")}))
    (folder / "figures.md").write_text(LINES)
    return folder


def publish(family, target, *more, model="refiner"):
    return main(["publish", "model", "--model", model, "--from", str(family), "--to", str(target), "--figures",
                 str(family / "figures.md"), *more])


def test_a_dry_run_lists_every_file_and_writes_none(family, tmp_path, capsys):
    assert publish(family, tmp_path / "model", "--dry-run") == 0
    listed = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert publish(family, tmp_path / "model") == 0
    written = capsys.readouterr().out
    files = {path.relative_to(tmp_path / "model").as_posix(): path.stat().st_size
             for path in (tmp_path / "model").rglob("*") if path.is_file()}
    for told in (listed, written):
        rows = dict(reversed(line.split(maxsplit=1)) for line in told.splitlines()[: len(files)])
        assert {name: int(size.replace(",", "")) for name, size in rows.items()} == files
    assert "nothing was written" in listed and f"{tmp_path / 'model'}" in written


def test_a_view_generator_goes_by_both_names(family, tmp_path):
    assert publish(family, tmp_path / "view", "--half", model="view-generator") == 0
    assert (tmp_path / "view" / "pipeline_toffee_view.py").exists()
    assert publish(family, tmp_path / "view", "--replace", model="view") == 0


@pytest.mark.parametrize(("more", "sentence"), [
    ((), "is not empty"), (("--replace",), "no model of ours"), (("--dry-run",), "is not empty")])
def test_a_folder_with_something_else_is_refused(family, tmp_path, capsys, more, sentence):
    (tmp_path / "notes.txt").write_text("mine")
    assert publish(family, tmp_path, *more) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_figures_that_are_not_there_fail_before_anything_is_written(family, tmp_path, capsys):
    done = main(["publish", "model", "--model", "refiner", "--from", str(family), "--to", str(tmp_path / "model"),
                 "--figures", str(tmp_path / "none.md")])
    assert done == 2 and "cannot be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_licence_without_its_text_is_refused(family, tmp_path, capsys):
    assert publish(family, tmp_path / "model", "--license", "openrail++") == 2
    assert "--license-file" in capsys.readouterr().err
