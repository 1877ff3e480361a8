"""A bad argument costs exit status 2 and one sentence; nothing is written."""

import json
import os
import subprocess
import sys

import pytest

from builder.cli import main
from builder.lease import Lease, Part
from builder.run import RunRequest, open_run
from tests.builder.report.made_folder import make_folder
from tests.conftest import ROOT

BAD = {
    "pairs zero": (["--pairs", "0"], "at least 1"),
    "pairs negative": (["--pairs", "-4"], "at least 1"),
    "pairs text": (["--pairs", "many"], "whole number"),
    "pairs fraction": (["--pairs", "1.5"], "whole number"),
    "pairs many": (["--pairs", "1000000001"], "at most 1,000,000,000"),
    "recipe exits": (["--recipe", "exits.py:recipe"], "raised SystemExit"),
    "output pattern": (["--output", "a[b]*"], "must have no [ ] * ? { } in its name"),
    "output long": (["--output", "y/" + "x" * 300], "cannot be made"),
    "subjects long": (["--subjects", "x" * 300], "File name too long"),
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
    (tmp_path / "exits.py").write_text("raise SystemExit(0)")
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
def test_one_sentence_and_nothing_written(place, photos, flat, capsys, command, name):
    given, says = BAD[name]
    if command == "plan" and says == "cannot be made":
        pytest.skip("a plan makes nothing")
    before = sorted(place.rglob("*"))
    arguments = ["--recipe", flat("recipe"), "--subjects", photos, "--pairs", "4", "--output", "out", *given]
    assert status(command, *arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""
    assert sorted(place.rglob("*")) == before


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


def test_a_family_that_is_not_there_is_told_before_anything_is_written(place, photos, capsys):
    (place / "mine.py").write_text(FAMILY)
    assert status("build", "--recipe", "mine.py:recipe", "--subjects", photos, "--output", "new/out") == 2
    assert "nowhere lacks vae" in capsys.readouterr().err
    assert not (place / "new").exists()


FAMILY = """from dataclasses import dataclass
from tests.builder.flat_recipe import recipe as flat
@dataclass(frozen=True)
class Loads:
    family: str = "nowhere"
    name: str = "loads"
    reads: frozenset = frozenset()
    writes: frozenset = frozenset()
def recipe():
    made = flat()
    return flat(stages=(*made.stages, Loads()))
"""


@pytest.mark.parametrize("call", ["builder.run.index_subjects", "builder.run_record.read_record"])
def test_what_may_not_be_read_is_one_sentence(place, photos, flat, capsys, monkeypatch, call):
    def locked(*_):
        raise PermissionError(13, "Permission denied", "/somewhere/locked")

    monkeypatch.setattr(call, locked)
    assert status("build", "--recipe", flat("recipe"), "--subjects", photos, "--output", "out") == 2
    assert "/somewhere/locked: Permission denied" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_a_folder_that_lost_its_record_belongs_to_the_run_of_its_receipts(place, photos, flat, capsys):
    make_folder(place / "out", {"generation": 1}, shards=1)
    (place / "out" / "recipe.json").unlink()
    assert status("build", "--recipe", flat("recipe"), "--subjects", photos, "--output", "out") == 2
    assert "has no recipe.json and holds run 0a1b2c3d" in capsys.readouterr().err


def test_nobody_reads_the_rest_of_a_plan(place, photos, flat):
    command = f"{sys.executable} -m builder.cli plan --recipe '{flat('recipe')}' --subjects '{photos}'"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command} | true"], cwd=place, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
