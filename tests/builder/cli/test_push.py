"""`toffee build --push-to` and `toffee publish dataset`, against a Hub on this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from builder.cli import main
from builder.lease import Lease, Part
from builder.published import mirror
from tests import hub_stand_in as wrong
from tests.builder.test_publication import check_whole, titles
from tests.conftest import ROOT


@pytest.fixture
def place(hub, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.write)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def build(flat, place, capsys):
    """Run `toffee build --push-to org/rows` in this process; returns the status and what was said."""

    def run(*more, name="recipe", pairs=22, output="out", to="org/rows", licence="cc0-1.0"):
        capsys.readouterr()
        arguments = ["build", "--recipe", flat(name), "--subjects", "photos", "--pairs", pairs, "--output", output,
                     "--push-to", to, "--workers", 2, *(["--license", licence] if licence else []), *more]
        return _status(arguments), capsys.readouterr()

    return run


def _status(arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as err:  # argparse
        return err.code


def test_a_build_is_published_while_it_runs_and_loads(hub, build, place, parquet):
    status, said = build()
    assert (status, said.err) == (0, "")
    assert f"published: {hub.endpoint}/datasets/org/rows at " in said.out
    assert 'load_dataset("org/rows", "generation", split="train")' in said.out
    assert check_whole(hub) == 22
    assert {path: hub.content("org/rows", path) for path in parquet(place / "out")} == parquet(place / "out")
    code = ("import datasets\nfor config in ('generation', 'editing', 'rejected'):\n"
            " print(len(datasets.load_dataset('org/rows', config, split='train')))")
    done = hub.python(code, token=None)
    assert sum(map(int, done.stdout.split())) == 22, done.stderr
    assert build()[0] == 0 and len(titles(hub)) == 3, "the same command again commits nothing"


def test_it_grows_while_nothing_stays_on_the_disk(hub, build, place):
    assert build(pairs=22)[0] == 0
    before = {path: entry.sha256 for path, entry in hub.repository("org/rows").files.items() if "-00001." in path}
    assert build("--no-keep-local", pairs=40)[0] == 0
    assert check_whole(hub) == 40
    assert not list((place / "out").glob("*/*.parquet"))
    assert before.items() <= {path: entry.sha256 for path, entry in hub.repository("org/rows").files.items()}.items()
    assert _status(["report", "out"]) == 0
    assert build("--no-keep-local", pairs=40)[0] == 0 and check_whole(hub) == 40


def test_a_new_machine_goes_on_and_another_seed_needs_append(hub, build):
    assert build(pairs=10)[0] == 0
    assert build(pairs=22, output="elsewhere")[0] == 0
    assert check_whole(hub) == 22
    status, said = build("--seed", 1, output="third")
    assert status == 2 and "org/rows holds run" in said.err and "another --push-to, or --append" in said.err
    assert build("--seed", 1, "--append", output="third", pairs=6)[0] == 0
    assert check_whole(hub) == 28


def test_failed_shards_are_status_3_and_the_rest_is_published(hub, build):
    status, said = build(name="dies")
    assert status == 3 and "1 shards failed" in said.err
    assert check_whole(hub) == 18
    assert "**Being made: 18 of 22 pairs are tried" in hub.content("org/rows", "README.md").decode()


def test_a_hub_that_says_no_in_the_middle_is_status_3_and_all_is_kept(hub, build, place):
    hub.faults.inject("commit", wrong.status(403, "storage limit reached"), times=None)
    status, said = build()
    assert status == 3 and "cannot commit to org/rows: the Hub answers 403: storage limit reached" in said.err
    assert "Traceback" not in said.err and len(list((place / "out" / "receipts").iterdir())) == 6
    hub.faults.clear()
    assert build()[0] == 0 and check_whole(hub) == 22


BAD = {
    "name": ({"to": "rows"}, {}, "'rows' is no name of a repository: give ORG/NAME"),
    "organisation": ({"to": "orgg/rows"}, {}, "the Hub has no organisation or user 'orgg'"),
    "no token": ({}, {"HF_TOKEN": ""}, "there is no token of the Hub; run `hf auth login` or set HF_TOKEN"),
    "unknown token": ({}, {"HF_TOKEN": "hf_other"}, "the Hub does not know the token"),
    "no rights": ({}, {"HF_TOKEN": "hf_read"}, "the token of 'ada' may not make org/rows"),
    "not a member": ({}, {"HF_TOKEN": "hf_stranger"}, "'bob', whose token this is, has no part in 'org'"),
    "taken": ({"to": "org/taken"}, {}, "org/taken holds thesis.txt and is no dataset of `toffee build`"),
    "others": ({"to": "org/taken"}, {"HF_TOKEN": "hf_stranger"}, "the name is taken"),
    "no licence": ({"licence": None}, {}, "the card's field 'license' cannot be filled"),
    "strange licence": ({"licence": "all mine"}, {}, "--license must be a name as the Hub lists it"),
    "unlisted licence": ({"licence": "cc-by-9.0"}, {}, "the Hub does not take the card: \"license\" must be one of"),
}
OPTIONS = {
    "revision": (["--revision", "dev"], "does not exist yet, so it has no branch 'dev'"),
    "part": (["--shards", "0/2"], "--push-to publishes whole runs"),
    "most local": (["--most-local", "0"], "must be at least 1"),
    "too many shards": (["--pairs", "50000"], "12,500 shards are more than the 10,000 files that one folder"),
}


@pytest.fixture
def refused(hub, build, place, monkeypatch, tmp_path):
    """Nothing is written here or there, and one sentence is said."""
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    hub.api().create_repo("org/taken", repo_type="dataset")
    hub.api().upload_file(path_or_fileobj=b"mine", path_in_repo="thesis.txt", repo_id="org/taken", repo_type="dataset")
    there = titles(hub, "org/taken")

    def run(*more, **options):
        status, said = build(*more, **options)
        assert status == 2 and len(said.err.strip().splitlines()) == 1 and said.out == ""
        assert not any(token in said.err for token in (hub.write, hub.read, hub.stranger, "hf_other"))
        assert not (place / "out").exists()
        assert list(hub.store.repositories) == [("dataset", "org/taken")]
        assert titles(hub, "org/taken") == there
        return said.err

    return run


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_before_anything_is_made(refused, monkeypatch, name):
    options, environment, says = BAD[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert says in refused(**options)


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_too(refused, name):
    more, says = OPTIONS[name]
    assert says in refused(*more)


def test_offline(refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused()


def test_no_keep_local_needs_a_place(flat, place, capsys):
    assert _status(["build", "--recipe", flat("recipe"), "--subjects", "photos", "--no-keep-local"]) == 2
    assert "--no-keep-local needs --push-to" in capsys.readouterr().err


def test_a_folder_is_published_afterwards(hub, build, place, flat, capsys):
    plain = ["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", "22", "--output", "out"]
    assert _status([*plain, "--license", "cc0-1.0"]) == 0
    capsys.readouterr()
    assert _status(["publish", "dataset", "out", "--to", "org/rows", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "commit 1: 6 shards" in told and "nothing was written" in told and not hub.store.repositories
    assert all(path.relative_to(place / "out").as_posix() in told for path in (place / "out").glob("*/*.parquet"))
    assert not mirror(place / "out").exists()
    assert _status(["publish", "dataset", "out", "--to", "org/rows"]) == 0
    assert check_whole(hub) == 22 and len(titles(hub)) == 2
    hub.api().delete_repo("org/rows", repo_type="dataset")
    capsys.readouterr()
    assert _status(["publish", "dataset", "out", "--to", "org/rows", "--dry-run"]) == 0
    assert "commit 1: 6 shards" in capsys.readouterr().out, "there, not as the folder remembers"
    assert _status(["publish", "dataset", "out", "--to", "org/rows"]) == 0
    assert check_whole(hub) == 22 and len(titles(hub)) == 2
    assert _status(["publish", "dataset", "out", "--to", "org/rows", "--no-keep-local"]) == 0
    assert len(titles(hub)) == 2 and not list((place / "out").glob("*/*.parquet"))


@pytest.mark.parametrize(("folder", "licence", "says"), [
    ("absent", None, "holds no finished shard"), ("photos", None, "holds no finished shard"),
    ("built", [], "the card's field 'license' cannot be filled"),
    ("built", ["--license", "cc-by-9.0"], "the Hub does not take the card: \"license\" must be one of"),
    ("built", ["--license", "cc0-1.0"], "holds 2 shards, more than the 1 files that one folder on the Hub may hold")])
def test_folders_that_cannot_be_published(hub, place, flat, capsys, monkeypatch, folder, licence, says):
    monkeypatch.setattr("builder.cli.publish_dataset.MOST_SHARDS_A_FOLDER", 1 if licence == ["--license", "cc0-1.0"]
                        else 10_000)
    if folder == "built":
        _status(["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", "8", "--output", folder,
                 *licence])
    for more in (["--dry-run"], []):
        capsys.readouterr()
        assert _status(["publish", "dataset", folder, "--to", "org/rows", *more]) == 2
        assert says in capsys.readouterr().err and not hub.store.repositories
    assert not mirror(place / folder).exists()


def test_two_runs_of_one_seed_are_never_put_together(hub, place, flat, capsys):
    for output, recipe in (("a", "recipe"), ("b", "mostly_rejected")):
        assert _status(["build", "--recipe", flat(recipe), "--subjects", "photos", "--pairs", "8", "--output", output,
                        "--license", "cc0-1.0"]) == 0
    assert _status(["publish", "dataset", "a", "--to", "org/rows"]) == 0
    capsys.readouterr()
    assert _status(["publish", "dataset", "b", "--to", "org/rows", "--append"]) == 2
    assert "org/rows has seed 0 already, by another run" in capsys.readouterr().err
    assert check_whole(hub) == 8


def test_a_run_beside_one_of_no_licence_is_not_begun(hub, build, place, flat):
    assert _status(["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", 8, "--output", "out"]) == 0
    status, said = build("--seed", 1, "--append", pairs=8)
    assert status == 2 and "has no licence, and is published beside this one" in said.err
    assert not hub.store.repositories and len(list((place / "out" / "receipts").iterdir())) == 2


def test_a_folder_in_use_makes_no_repository(hub, place, flat, capsys):
    assert _status(["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", "8", "--output", "out",
                    "--license", "cc0-1.0"]) == 0
    with Lease(place / "out", "0a1b2c3d", Part()):
        assert _status(["publish", "dataset", "out", "--to", "org/rows"]) == 2
    assert not hub.store.repositories


def test_an_interrupted_build_says_how_to_go_on_and_does(hub, build, place, flat):
    arguments = ["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", "60", "--output", "out",
                 "--push-to", "org/rows", "--workers", "2", "--license", "cc0-1.0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "builder.cli", *arguments], cwd=place, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(HF_HUB_DISABLE_XET="1", FLAT_PAUSE_S="0.1")},
    )
    while not hub.count("commit", 200) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 143 and "the same command goes on from here" in said and "Traceback" not in said
    assert 0 < check_whole(hub) < 60
    assert build(pairs=60)[0] == 0 and check_whole(hub) == 60


def test_no_file_and_no_message_holds_the_token(hub, build, place):
    status, said = build()
    assert hub.write not in said.out + said.err
    for path in (path for path in (place / "out").rglob("*") if path.is_file()):
        assert hub.write.encode() not in path.read_bytes()
    for path in hub.repository("org/rows").files:
        assert hub.write.encode() not in hub.content("org/rows", path)
    assert json.loads(hub.content("org/rows", "publishing.json"))["done"] is True
