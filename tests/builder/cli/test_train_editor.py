"""`toffee train editor`: from a dataset to a model, and one sentence for what is wrong."""

import json

import pytest

from builder.cli import main
from tests.tiny_family import write_family
from tests.toffee_hf.training.pair_data import write_dataset


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pairs"))


def status(*arguments):
    try:
        return main(["train", "editor", *map(str, arguments)])
    except SystemExit as err:
        return err.code


def test_from_a_dataset_to_a_model(tmp_path, data, base, capsys):
    command = ("--data", data, "--base", base, "--output", tmp_path / "out", "--steps", 2, "--lora-rank", 2,
               "--limit", 9, "--editing-share", 0.25, "--reconstruction", 0, "--ema", 0.9, "--batch-size", 2)
    assert status(*command) == 0
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["samples"] == 4 and told["data"]["rows"] == {"generation": 6, "editing": 4}
    assert [told["config"][name] for name in ("editing", "reconstruction", "ema", "rebase")] == [0.25, 0, 0.9, False]
    assert f"model: {tmp_path / 'out' / 'editor'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "editor" / "config.json").is_file()
    assert status(*command) == 0, "the same command again"
    assert status(*command[:-1], 3) == 2, "another configuration"
    assert "batch_size 2 there, 3 given" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "says"), [
    (["--data", "nowhere"], "neither a folder nor a dataset"), (["--base", "no/such-model"], "cannot be opened"),
    (["--size-px", "40"], "multiple of 16"), (["--tasks", "both"], "invalid choice"),
    (["--editing-share", "2"], "editing 2.0"), (["--reconstruction", "-1"], "reconstruction -1.0"),
    (["--limit", "0"], "at least 1"), (["--start", "nowhere"], "--start nowhere holds no editor"),
    (["--output", __file__], "is not a folder"), (["--install", "."], "--install needs --lora-rank, and the folder"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(tmp_path, data, base, capsys, given, says):
    assert status("--data", data, "--base", base, "--output", tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_data_and_output_must_be_given(capsys):
    assert status() == 2 and "--data" in capsys.readouterr().err
