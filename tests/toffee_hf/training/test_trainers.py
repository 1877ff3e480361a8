"""Both trainers on real data: they learn, go on bit for bit after SIGKILL, and refuse or survive what goes wrong."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.toffee_hf.training.real_data import SETTINGS, TRAINERS, pictures, train
from toffee_hf.errors import DiskFull, FolderInUse, InputError, RunError
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.training import loop, trainer
from toffee_hf.training.backbone import open_backbone
from toffee_hf.training.loop import logged
from toffee_hf.training.pictures import prepare

KINDS = ("refiner", "view")
ROOT = Path(__file__).parents[3]
CLASSES = {"refiner": ToffeeRefinerUNet, "view": ToffeeViewUNet}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, family):
    """Each trainer's folder after an uninterrupted training."""
    folders = {kind: tmp_path_factory.mktemp("whole") / kind for kind in KINDS}
    for kind, folder in folders.items():
        train(kind, family.folder, folder)
    return folders


def losses(folder):
    return [(row["step"], row["loss"], row["inside"]) for row in logged(folder)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_leaves_a_model_a_log_pictures_and_what_a_card_needs(whole, kind):
    folder = whole[kind]
    assert {p.name for p in folder.iterdir()} == {"config.json", "training.json", "log.jsonl", "state.safetensors",
                                                  "grids", "pictures", kind}  # fmt: skip
    assert [step for step, *_ in losses(folder)] == list(range(SETTINGS["steps"]))
    grid = Image.open(folder / "grids" / "000008.png")
    assert grid.size == (64 * {"refiner": 4, "view": 3}[kind], 64 * 4)
    told = json.loads((folder / "training.json").read_text())
    assert told["data"] == {"dataset": "boxes", "pictures": 12, "things": 4, "with_camera": 9, "skipped": {}}
    assert (told["steps"], told["samples"], told["device"]) == (8, 16, "cpu") and told["seconds"] > 0
    assert told["versions"].keys() >= {"torch", "diffusers", "accelerate"} and told["final_losses"]["loss"] > 0
    assert told["config"]["base"]["sources"]["base"].keys() == {"repository", "revision", "licence"}
    model = CLASSES[kind].from_pretrained(folder / kind)
    assert model.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_kill_the_same_call_goes_on_to_the_same_losses_and_weights(tmp_path, family, whole, kind):
    killed = subprocess.run(
        [sys.executable, "-m", "tests.toffee_hf.training.real_data", kind, str(family.folder), str(tmp_path), "6"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(logged(tmp_path)) == 6 and loop.state_of(tmp_path).step == 4
    train(kind, family.folder, tmp_path)
    assert losses(tmp_path) == losses(whole[kind])
    found, wanted = (CLASSES[kind].from_pretrained(folder / kind).state_dict() for folder in (tmp_path, whole[kind]))
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(tmp_path, family, kind):
    train(kind, family.folder, tmp_path, steps=60, batch_size=4, learning_rate=3e-3, every=0)
    rows = [row["loss"] for row in logged(tmp_path)]
    assert sum(rows[-15:]) < 0.8 * sum(rows[:15])


def test_a_finished_training_is_not_trained_again(whole, family, monkeypatch):
    before = (whole["refiner"] / "refiner" / "diffusion_pytorch_model.safetensors").read_bytes()
    monkeypatch.setattr(TRAINERS["refiner"][2], "loss", None)
    train("refiner", family.folder, whole["refiner"])
    assert (whole["refiner"] / "refiner" / "diffusion_pytorch_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("changed", "says"), [({"learning_rate": 1e-4}, "learning_rate 0.001 there, 0.0001 given"),
                                               ({"steps": 9}, "steps"), ({"lora_rank": 2}, "lora_rank"),
                                               ({"size_px": 96}, "other pictures")])  # fmt: skip
def test_another_configuration_is_refused_and_the_checkpoint_stays(whole, family, changed, says):
    before = (whole["refiner"] / "state.safetensors").read_bytes()
    with pytest.raises(InputError, match=says):
        train("refiner", family.folder, whole["refiner"], **changed)
    assert (whole["refiner"] / "state.safetensors").read_bytes() == before


def test_a_folder_of_the_other_trainer_is_refused(whole, family):
    with pytest.raises(InputError, match="other pictures|another configuration"):
        train("view", family.folder, whole["refiner"])


def test_a_checkpoint_of_another_fingerprint_is_refused(tmp_path, family, whole):
    train("refiner", family.folder, tmp_path / "a", steps=1, every=1)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps({**config, "steps": 8, "batch_size": 2}))
    with pytest.raises(InputError, match="checkpoint of another configuration"):
        train("refiner", family.folder, tmp_path / "a", steps=8)


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"nonsense" * 10])
def test_a_damaged_checkpoint_is_told(tmp_path, family, damage):
    tmp_path.joinpath("state.safetensors").write_bytes(damage)
    with pytest.raises(InputError, match=r"state.safetensors is no checkpoint.*remove it"):
        train("refiner", family.folder, tmp_path)


def test_nonsense_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, family, monkeypatch):
    task = TRAINERS["refiner"][2]
    loss = task.loss

    def broken(self, step, generator):
        return {name: value * (float("nan") if step >= 5 else 1) for name, value in loss(self, step, generator).items()}

    monkeypatch.setattr(task, "loss", broken)
    with pytest.raises(RunError, match=r"loss is nan at step 5.*checkpoint there is still good.*--learning-rate"):
        train("refiner", family.folder, tmp_path)
    assert loop.state_of(tmp_path).step == 4 and not (tmp_path / "refiner").exists()


def test_nonsense_before_any_checkpoint_promises_none(tmp_path, family, monkeypatch):
    monkeypatch.setattr(TRAINERS["refiner"][2], "loss", lambda self, step, generator: {"loss": torch.tensor(torch.nan)})
    with pytest.raises(RunError, match=r"loss is nan at step 0.*there is no checkpoint yet") as told:
        train("refiner", family.folder, tmp_path)
    assert "last checkpoint" not in str(told.value) and "still good" not in str(told.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_grid_is_drawn_by_the_model_that_is_saved(tmp_path, family, whole, kind):
    run, config, task = TRAINERS[kind]
    backbone = open_backbone(str(family.folder))
    data = prepare(pictures(), tmp_path / "p", 64, backbone, views=2 if kind == "view" else 1)
    model = CLASSES[kind].from_pretrained(whole[kind] / kind)
    rows = torch.linspace(0, len(data) - 1, trainer.GRID_ROWS).long()
    with torch.no_grad():
        trainer.write_grid(tmp_path / "again.png", task(model, data, backbone, config(**SETTINGS)).grid(model, rows))
    assert (tmp_path / "again.png").read_bytes() == (whole[kind] / "grids" / "000008.png").read_bytes()


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_finished_training_without_its_log_is_told_and_stays_as_it_was(tmp_path, family, text):
    train("refiner", family.folder, tmp_path, steps=1)
    model = (tmp_path / "refiner" / "config.json").stat().st_mtime_ns
    (tmp_path / "log.jsonl").unlink()
    if text is not None:
        (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"log.jsonl is missing or empty.*put it back"):
        train("refiner", family.folder, tmp_path, steps=1)
    assert (tmp_path / "refiner" / "config.json").stat().st_mtime_ns == model


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_an_output_that_is_a_file_is_told(tmp_path, family, inside):
    (tmp_path / "out").write_text("notes")
    with pytest.raises(InputError, match="--output .*out.* is not a folder"):
        train("refiner", family.folder, tmp_path / "out" / inside)
    assert (tmp_path / "out").read_text() == "notes"


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    loop.SafetensorError("I/O error: No space left on device (os error 28)")])  # fmt: skip
def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later(tmp_path, family, whole, monkeypatch, error):
    save, calls = loop.save_file, []

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half of it")
            raise error
        save(tensors, path, metadata)

    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(DiskFull, match=f"no space left in {tmp_path}.*same command"):
        train("refiner", family.folder, tmp_path)
    assert loop.state_of(tmp_path).step == 4 and not list(tmp_path.glob("*.part"))
    train("refiner", family.folder, tmp_path)
    assert losses(tmp_path) == losses(whole["refiner"])


def test_a_folder_in_use_is_refused(tmp_path, family):
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(FolderInUse, match="in use by another training"):
        train("refiner", family.folder, tmp_path)
    os.close(holder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"precision": "fp8"},
                                   {"seed": -1}, {"lora_rank": -1}, {"ema": 2.0}, {"redrawn": 1.5},
                                   {"redrawn_from": (500, 400)}, {"size_px": 40}, {"size_px": 16}])  # fmt: skip
def test_a_wrong_setting_is_told_and_nothing_is_written(tmp_path, family, wrong):
    with pytest.raises(InputError, match="size-px" if "size_px" in wrong else next(iter(wrong))):
        train("refiner", family.folder, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used_leaves_nothing_behind(tmp_path, family):
    run, config, _ = TRAINERS["view"]
    singles = [picture for picture in pictures() if picture.file.endswith("-0")]
    with pytest.raises(InputError, match=r"4 single_view.*several views of each object"):
        run(singles, open_backbone(str(family.folder)), config(**SETTINGS), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bf16_and_checkpointing_train(tmp_path, family):
    train("refiner", family.folder, tmp_path / "r", steps=2, precision="bf16", checkpointing=True)
    train("view", family.folder, tmp_path / "v", steps=2, precision="bf16", checkpointing=True)
    assert all(row["loss"] > 0 for kind in "rv" for row in logged(tmp_path / kind))


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_on_bf16_weights(tmp_path, family, kind):
    model = train(kind, family.folder, tmp_path, steps=2, every=1, precision="bf16", lora_rank=2)
    assert model.unet.dtype == torch.bfloat16 and model.gate.weight.dtype == torch.float32
    assert all(row["loss"] > 0 for row in logged(tmp_path)) and (tmp_path / "grids" / "000002.png").exists()
    assert CLASSES[kind].from_pretrained(tmp_path / kind).unet.conv_in.weight.dtype == torch.float32


def test_starts_are_redrawn_by_the_base_inside_the_subject_only(tmp_path, family):
    backbone = open_backbone(str(family.folder))
    from toffee_hf.training.refiner import RefinerConfig, RefinerTask, new_refiner
    from toffee_hf.training.refiner_examples import RefinerExample

    data, config = prepare(pictures(), tmp_path / "p", 64, backbone), RefinerConfig(redrawn=1.0)
    task = RefinerTask(new_refiner(backbone, config), data, backbone, config)
    z, inside = torch.randn(2, 4, 8, 8), torch.zeros(2, 1, 8, 8)
    inside[:, :, 3:5, 3:5] = 1
    example = RefinerExample(z, z + 1, inside, z, z, inside)
    text = backbone.text(["a photo of a mug"] * 2, 64)
    found = task._redrawn(example, torch.tensor([0, 1]), text, torch.Generator().manual_seed(0))
    assert torch.equal(found.draft[1], example.draft[1]), "another transfer than the full one keeps its start"
    assert torch.equal(found.draft[0, :, 0], z[0, :, 0])
    assert (found.draft[0, :, 3:5, 3:5] - z[0, :, 3:5, 3:5]).abs().mean() > 0.1


def test_checkpoints_hold_no_frozen_weight_and_lora_resumes(tmp_path, family):
    train("view", family.folder, tmp_path / "whole", lora_rank=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "merged", lambda model: 1 / 0)             # ends after the state is written
        with pytest.raises(ZeroDivisionError):
            train("view", family.folder, tmp_path / "cut", lora_rank=2)
    kept = loop.load_file(tmp_path / "cut" / "state.safetensors")
    assert not [key for key in kept if key.endswith("base_layer.weight")]
    assert [key for key in kept if "lora_A" in key]
    train("view", family.folder, tmp_path / "cut", lora_rank=2)
    a, b = (ToffeeViewUNet.from_pretrained(tmp_path / name / "view").state_dict() for name in ("whole", "cut"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert (tmp_path / "whole" / "view_lora.safetensors").exists()
