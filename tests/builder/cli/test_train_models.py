"""`toffee train refiner` and `view-generator`: from a folder to a model, and one sentence for what is wrong."""

import json

import pytest

from builder.cli import main
from tests.builder.test_training_data import dataset, masks_of
from tests.tiny_family import write_family
from tests.toffee_hf.training.real_data import THINGS, VIEWS, mask, photo


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def photos(tmp_path):
    """A metadata.csv whose subject_id groups views; a mask beside each picture; one broken picture, one lone view."""
    home = tmp_path / "photos"
    (home / "masks").mkdir(parents=True)
    lines = ["file_name,class_name,subject_id"]
    for thing in range(THINGS):
        for view in range(VIEWS):
            name = f"{thing}-{view}.png"
            (home / name).write_bytes(photo(thing, view))
            (home / "masks" / name).write_bytes(mask(view))
            lines.append(f"{name},mug,{thing if thing < 3 else f'{thing}-{view}'}")
    (home / "broken.png").write_bytes(b"no picture")
    (home / "metadata.csv").write_text("\n".join([*lines, "broken.png,mug,0"]))
    return home


def status(model, *arguments):
    try:
        return main(["train", model, *map(str, arguments)])
    except SystemExit as err:
        return err.code


MODELS = {"refiner": "refiner", "view-generator": "view"}


@pytest.mark.parametrize("model", MODELS)
def test_from_a_folder_of_photos_to_a_model(tmp_path, photos, base, capsys, model):
    command = (model, "--data", photos, "--base", base, "--output", tmp_path / "out", "--steps", 2, "--batch-size", 2)
    assert status(*command) == 0
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    left_out = {"not_a_picture": 1} if model == "refiner" else {"not_a_picture": 1, "single_view": 3}
    assert told["data"]["skipped"] == left_out and told["samples"] == 4 and told["data"]["dataset"] == "photos"
    assert "from `photos`" in (tmp_path / "out" / MODELS[model] / "README.md").read_text()
    assert f"model: {tmp_path / 'out' / MODELS[model]}" in capsys.readouterr().out
    assert (tmp_path / "out" / MODELS[model] / "config.json").is_file()
    assert status(*command) == 0, "the same command again"
    assert status(*command[:-1], 3) == 2, "another configuration"
    assert "batch_size 2 there, 3 given" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("given", "says"), [
    (["--data", "nowhere"], "does not exist"), (["--base", "no/such-model"], "--base 'no/such-model' cannot be opened"),
    (["--size-px", "40"], "multiple of 16"), (["--steps", "0"], "at least 1"), (["--every", "soon"], "whole number"),
    (["--precision", "fp8"], "invalid choice"), (["--lora-rank", "0"], "at least 1"),
    (["--learning-rate", "-1"], "learning_rate"), (["--data", "toy:held-out"], "is for measuring"),
    (["--output", __file__], "is not a folder"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(tmp_path, photos, base, capsys, model, given, says):
    before = sorted(tmp_path.iterdir())
    assert status(model, "--data", photos, "--base", base, "--output", tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("model", MODELS)
def test_a_dataset_without_masks_and_class_words_is_told(tmp_path, base, capsys, model):
    spec = dataset(tmp_path / "d", label=[1, 2, 3, 4])
    assert status(model, "--data", spec, "--base", base, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "neither class words nor masks" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_cameras_may_be_missing_for_some(tmp_path, base):
    spec = dataset(tmp_path / "d", class_name=["mug"] * 4, subject_id=["a", "a", "b", "b"], mask=masks_of(),
                   yaw=[0.0, 0.5, None, 1.0])  # fmt: skip
    assert status("view-generator", "--data", spec, "--base", base, "--output", tmp_path / "out", "--steps", 2,
                  "--batch-size", 2) == 0
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (told["data"]["pictures"], told["data"]["with_camera"]) == (4, 3)
    assert "4 pictures of 2 things (3 with a camera)" in (tmp_path / "out" / "view" / "README.md").read_text()


def test_a_loss_that_is_no_number_ends_the_training_and_says_how_to_go_on(tmp_path, photos, base, capsys, monkeypatch):
    monkeypatch.setattr("toffee_hf.training.refiner.refiner_loss",
                        lambda model, *_: {"loss": next(model.parameters()).sum() * float("nan")})
    assert status("refiner", "--data", photos, "--base", base, "--output", tmp_path / "out", "--steps", 2) == 3
    said = capsys.readouterr().err
    assert "loss is nan at step 0" in said and "--learning-rate" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "refiner").exists()


def test_objects_with_single_views_are_told(tmp_path, photos, base, capsys):
    lines = (photos / "metadata.csv").read_text().splitlines()
    (photos / "metadata.csv").write_text("\n".join([lines[0], *lines[-4:]]))
    assert status("view-generator", "--data", photos, "--base", base, "--output", tmp_path / "out") == 2
    assert "single view" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", MODELS)
def test_folders_without_pictures_are_told(tmp_path, base, capsys, model):
    (tmp_path / "d" / "mug" / "a" / "images").mkdir(parents=True)
    assert status(model, "--data", tmp_path / "d", "--base", base, "--output", tmp_path / "out") == 2
    assert "no usable" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_output_must_be_given(capsys):
    assert status("refiner") == 2 and "--output" in capsys.readouterr().err
