"""A bad argument costs exit status 2 and one sentence; nothing is written."""

import json
import os

import pytest

from builder.cli import main
from builder.lease import Lease, Part
from builder.run import RunRequest, open_run

BAD = {
    "pairs zero": (["--pairs", "0"], "at least 1"),
    "pairs negative": (["--pairs", "-4"], "at least 1"),
    "pairs text": (["--pairs", "many"], "whole number"),
    "pairs fraction": (["--pairs", "1.5"], "whole number"),
    "workers zero": (["--workers", "0"], "at least 1"),
    "seed negative": (["--seed", "-1"], "must be in"),
    "seed too large": (["--seed", str(2**63)], "must be in"),
    "shards order": (["--shards", "2/2"], "0 <= I < N"),
    "shards text": (["--shards", "first"], "0 <= I < N"),
    "shards zero": (["--shards", "0/0"], "0 <= I < N"),
    "recipe": (["--recipe", "huge"], "unknown recipe 'huge'; give one of tiny"),
    "recipe file": (["--recipe", "absent.py:recipe"], "no recipe file"),
    "subjects missing": (["--subjects", "./absent"], "does not exist"),
    "subjects empty": (["--subjects", "empty"], "no usable picture in empty"),
    "subjects file": (["--subjects", "file"], "is not a folder"),
    "subjects toys": (["--subjects", "toy:bears"], "unknown subjects"),
    "output file": (["--output", "file"], "is a file"),
    "output below file": (["--output", "file/below"], "cannot be made"),
    "output foreign": (["--output", "foreign"], "is not empty and has no recipe.json"),
    "output broken": (["--output", "broken"], "cannot be read"),
    "output kernel": (["--output", "/proc/nothing"], "cannot be made"),
    "output empty name": (["--output", ""], "must name a folder"),
    "option": (["--pears", "3"], "unrecognized arguments"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.json").write_text("{")
    return tmp_path


def status(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as err:  # argparse
        return err.code


@pytest.mark.parametrize("command", ["build", "plan"])
@pytest.mark.parametrize("name", BAD)
def test_one_sentence_and_nothing_written(place, photos, flat, every_file, capsys, command, name):
    given, says = BAD[name]
    if command == "plan" and says == "cannot be made":
        pytest.skip("a plan makes nothing")
    before = every_file(place)
    arguments = ["--recipe", flat("recipe"), "--subjects", photos, "--pairs", "4", "--output", "out", *given]
    assert status(command, *arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""
    assert every_file(place) == before
    assert not (place / "out").exists()


def test_a_folder_in_use(place, photos, flat, capsys):
    arguments = ["build", "--recipe", flat("recipe"), "--subjects", photos, "--pairs", "4", "--output", "out"]
    (place / "out").mkdir()
    run = open_run(RunRequest(recipe=flat("recipe"), subjects=str(photos), pairs=4))
    with Lease(place / "out", run.run8, Part()):
        assert status(*arguments) == 2
        said = capsys.readouterr().err
        assert f"in use by process {os.getpid()}" in said
        assert len(list((place / "out").iterdir())) == 1
    assert status(*arguments) == 0


def test_an_output_of_another_run(place, photos, flat, capsys):
    (place / "out").mkdir()
    (place / "out" / "recipe.json").write_text(json.dumps({"runs": [{"run8": "00000000", "seed": 0}]}))
    assert status("build", "--recipe", flat("recipe"), "--subjects", photos, "--output", "out") == 2
    assert "holds run 00000000" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["empty", "absent", "foreign", "file"])
def test_a_report_needs_a_finished_shard(place, capsys, folder):
    assert status("report", folder) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_no_command_is_an_error(capsys):
    assert status() == 2
