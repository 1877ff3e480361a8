"""The editor's trainer: it learns, goes on bit for bit after SIGKILL, ships small, and survives what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny_family import FEATURES, small_unet
from tests.toffee_hf.training.pair_data import SETTINGS, picture, rows_of, train, write_card, write_dataset, write_file
from toffee_hf.errors import DiskFull, InputError, RunError
from toffee_hf.family import Family
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
from toffee_hf.training import loop, trainer
from toffee_hf.training.editor import PART, EditorTask, PairData, editor_of, install_editor
from toffee_hf.training.loop import logged
from toffee_hf.training.lora import EVERYWHERE, add_lora, merged, save_trained

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, family, data):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    train(data, family.folder, folder)
    return folder


def losses(folder):
    return [(row["step"], row["loss"], row["inside"]) for row in logged(folder)]


def weights(folder):
    return ToffeeEditorUNet.from_pretrained(folder / "editor").state_dict()


def test_a_training_leaves_a_model_a_log_pictures_and_what_a_card_needs(whole):
    assert {p.name for p in whole.iterdir()} == {"config.json", "training.json", "log.jsonl", "state.safetensors",
                                                 "grids", "editor"}, "no copy of the data"  # fmt: skip
    assert [step for step, *_ in losses(whole)] == list(range(SETTINGS["steps"]))
    with Image.open(whole / "grids" / "000005.png") as grid:
        assert grid.size == (4 * 64, 4 * 64)
    told = json.loads((whole / "training.json").read_text())
    assert told["data"]["rows"] == {"generation": 11, "editing": 7} and told["data"]["skipped"] == {}
    assert told["samples"] == 15 and set(told["final_losses"]) == {"loss", "inside"}
    model = ToffeeEditorUNet.from_pretrained(whole / "editor")
    assert (model.config.subject_dim, model.config.patches) == (2 * FEATURES, 64)


def test_after_a_kill_the_same_call_goes_on_to_the_same_losses_and_weights(tmp_path, family, data, whole):
    killed = subprocess.run(
        [sys.executable, "-m", "tests.toffee_hf.training.pair_data", str(data), str(family.folder), str(tmp_path), "3"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(logged(tmp_path)) == 3 and loop.state_of(tmp_path).step == 2
    train(data, family.folder, tmp_path)
    assert losses(tmp_path) == losses(whole)
    found, wanted = weights(tmp_path), weights(whole)
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_the_loss_falls(tmp_path, family, data):
    train(data, family.folder, tmp_path, steps=40, batch_size=4, learning_rate=3e-3, every=0)
    rows = [row["loss"] for row in logged(tmp_path)]
    assert sum(rows[-10:]) < 0.8 * sum(rows[:10])


@pytest.mark.parametrize(("changed", "says"), [
    ({"reconstruction": 0.2}, "reconstruction 0.1 there, 0.2 given"), ({"tasks": "editing"}, "tasks"),
    ({"limit": 5}, "limit"), ({"seed": 1}, "seed"), ({"lora_rank": 2}, "lora_rank")])
def test_another_configuration_is_refused_and_the_checkpoint_stays(whole, family, data, changed, says):
    before = (whole / "state.safetensors").read_bytes()
    with pytest.raises(InputError, match=says):
        train(data, family.folder, whole, **changed)
    assert (whole / "state.safetensors").read_bytes() == before


def test_another_dataset_is_refused(tmp_path, whole, family):
    with pytest.raises(InputError, match=r"another configuration \(data"):
        train(write_dataset(tmp_path, generation=12), family.folder, whole)


@pytest.mark.parametrize("wrong", [{"tasks": "all"}, {"editing": 1.5}, {"reconstruction": -0.1}, {"limit": 0},
                                   {"noisings": 0}, {"targets": "sources"}, {"told_depth": 2.0}, {"drop_subject": -1.0},
                                   {"whole_reference": 9.0}, {"least_noise": 1.0}, {"steps": 0},
                                   {"size_px": 40}])  # fmt: skip
def test_a_wrong_setting_is_told_and_nothing_is_written(tmp_path, family, data, wrong):
    with pytest.raises(InputError, match="size-px" if "size_px" in wrong else next(iter(wrong))):
        train(data, family.folder, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used_leaves_nothing_behind(tmp_path, family):
    with pytest.raises(InputError, match="cannot be opened"):
        train(tmp_path, family.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_rows_are_counted_in_the_end_and_survive_a_resume(tmp_path, family):
    rows = rows_of("generation", 6)
    rows[2]["target"] = picture(b"no picture")
    write_file(tmp_path / "d" / "generation" / "train-0.parquet", rows)
    write_card(tmp_path / "d", "generation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Workshop, "_finish", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "d", family.folder, tmp_path / "out", tasks="generation", batch_size=6)
    train(tmp_path / "d", family.folder, tmp_path / "out", tasks="generation", batch_size=6)
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["data"]["skipped"] == {"not_a_picture": sum(r.get("skipped_not_a_picture", 0)
                                                            for r in logged(tmp_path / "out"))}
    assert told["data"]["skipped"]["not_a_picture"] >= 5, "once in each epoch"


def test_nonsense_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, family, data, monkeypatch):
    loss = EditorTask.loss

    def broken(self, step, generator):
        return {name: value * (float("nan") if step >= 3 else 1) for name, value in loss(self, step, generator).items()}

    monkeypatch.setattr(EditorTask, "loss", broken)
    with pytest.raises(RunError, match=r"loss is nan at step 3.*--learning-rate"):
        train(data, family.folder, tmp_path)
    assert loop.state_of(tmp_path).step == 2 and not (tmp_path / "editor").exists()


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later(tmp_path, family, data, whole, monkeypatch):
    save, calls = loop.save_file, []

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(DiskFull, match="no space left"):
        train(data, family.folder, tmp_path)
    assert loop.state_of(tmp_path).step == 2
    train(data, family.folder, tmp_path)
    assert losses(tmp_path) == losses(whole)


def test_the_last_pictures_are_not_read_for_nothing_when_a_finished_training_is_called_again(whole, family, data,
                                                                                             monkeypatch):
    before = (whole / "editor" / "diffusion_pytorch_model.safetensors").read_bytes()
    monkeypatch.setattr(PairData, "batch", None)
    train(data, family.folder, whole)
    assert (whole / "editor" / "diffusion_pytorch_model.safetensors").read_bytes() == before


def test_bf16_and_checkpointing_train(tmp_path, family, data):
    train(data, family.folder, tmp_path, steps=2, precision="bf16", checkpointing=True)
    assert all(row["loss"] > 0 for row in logged(tmp_path))


@pytest.mark.parametrize("settings", [{"tasks": "editing", "views": False}, {"targets": "drafts", "noisings": 2}])
def test_the_ablations_train(tmp_path, family, data, settings):
    train(data, family.folder, tmp_path, steps=1, **settings)
    assert logged(tmp_path)[0]["loss"] > 0


# --- LoRA, and going on from an editor ------------------------------------------------------------------------------


def test_lora_trains_the_unet_everywhere_and_its_own_layers_in_full():
    model = add_lora(ToffeeEditorUNet.from_unet(small_unet(), 2 * FEATURES, 64), 2)
    own = {id(p) for part in model.own_layers() for p in ([part] if isinstance(part, torch.nn.Parameter)
                                                          else part.parameters())}  # fmt: skip
    for name, p in model.named_parameters():
        assert p.requires_grad == (id(p) in own or "lora_" in name), name
    bare = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            and "lora_" not in name and not name.endswith("base_layer")
            and not any(p.requires_grad for p in module.parameters())]  # fmt: skip
    assert bare == [] and len(EVERYWHERE) == 16


def test_what_lora_left_over_the_base_is_the_editor_again(tmp_path, family, data):
    folder, mine = tmp_path / "out", shutil.copytree(family.folder, tmp_path / "family")
    model = train(data, family.folder, folder, steps=3, lora_rank=2, precision="no")
    assert (folder / PART).exists() and not (folder / "editor" / PART).exists()
    (mine / "editor").mkdir()
    (mine / "editor" / "old").touch()
    size = install_editor(folder, mine)
    assert sorted(path.name for path in (mine / "editor").iterdir()) == [PART, "training.json"]
    assert (mine / "editor" / PART).stat().st_size < min(size, 0.6 * (folder / PART).stat().st_size)
    wanted = model.state_dict()
    for place, far in ((folder, 1e-5), (mine / "editor", 2e-2)):
        found = editor_of(family.unet, place).state_dict()
        assert found.keys() == wanted.keys()
        assert all((found[k] - wanted[k]).abs().max() < far for k in wanted)
    shipped = Family(mine, "cpu").editor_pipeline().unet.state_dict()
    assert (shipped["gate.weight"] - wanted["gate.weight"]).abs().max() < 2e-2


def test_only_what_lora_left_is_installed(tmp_path, family, whole):
    with pytest.raises(InputError, match="holds no finished LoRA training"):
        install_editor(whole, tmp_path)
    assert not (tmp_path / "editor").exists()


def test_lora_resumes_on_bf16_weights(tmp_path, family, data):
    settings = {"lora_rank": 2, "precision": "bf16", "every": 0}
    train(data, family.folder, tmp_path / "whole", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "merged", lambda model: 1 / 0)             # ends after the state is written
        with pytest.raises(ZeroDivisionError):
            train(data, family.folder, tmp_path / "cut", **settings)
    assert not [key for key in loop.load_file(tmp_path / "cut" / "state.safetensors") if "base_layer" in key]
    train(data, family.folder, tmp_path / "cut", **settings)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_training_goes_on_from_an_editor_and_knows_it_by_its_content(tmp_path, family, data, whole):
    start = str(whole / "editor")
    train(data, family.folder, tmp_path / "a", steps=1, learning_rate=1e-9, start=start)
    told = json.loads((tmp_path / "a" / "config.json").read_text())["base"]["sources"]["start"]
    assert told["repository"] == start and len(told["revision"]) == 16
    a, b = weights(tmp_path / "a"), weights(whole)
    assert all((a[k] - b[k]).abs().max() < 1e-6 for k in a)


def test_a_lora_training_goes_on_as_one_over_the_same_base(tmp_path, family, data, whole):
    first, second = tmp_path / "first", tmp_path / "second"
    train(data, family.folder, first, steps=3, lora_rank=2)
    train(data, family.folder, second, steps=2, lora_rank=2, learning_rate=1e-9, start=str(first))
    a, b = (loop.load_file(folder / PART) for folder in (first, second))
    assert a.keys() == b.keys() and all((a[k] - b[k]).abs().max() < 1e-6 for k in a)
    told, before = (json.loads((folder / "training.json").read_text()) for folder in (second, first))
    assert told["before"] == {"samples": 9, "seconds": before["seconds"]} and before["before"]["samples"] == 0
    install_editor(second, tmp_path / "family")
    with pytest.raises(InputError, match="give --lora-rank 2"):
        train(data, family.folder, tmp_path / "third", steps=1, lora_rank=4, start=str(first))
    fourth = tmp_path / "fourth"
    train(data, family.folder, fourth, steps=1, lora_rank=2, start=str(whole / "editor"))
    assert json.loads((fourth / "training.json").read_text())["before"]["samples"] == 15
    for refused in (lambda: install_editor(fourth, tmp_path / "family"), lambda: editor_of(family.unet, fourth),
                    lambda: train(data, family.folder, tmp_path / "fifth", steps=1, lora_rank=2, start=str(fourth))):
        with pytest.raises(InputError, match="a complete editor"):
            refused()


def test_lora_stays_with_the_weights_that_it_was_trained_over(tmp_path, family, data):
    run, other = tmp_path / "run", shutil.copytree(family.folder, tmp_path / "other")
    settings = {"steps": 4, "lora_rank": 2, "every": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "merged", lambda model: 1 / 0)             # ends after the state is written
        with pytest.raises(ZeroDivisionError):
            train(data, other, tmp_path / "cut", **settings)
    train(data, family.folder, run, **settings)
    unet = Family(other, "cpu").unet
    with torch.no_grad():
        unet.conv_in.weight.add_(0.1)
    unet.save_pretrained(other / "unet")
    for refused in (lambda: install_editor(run, other), lambda: train(data, other, tmp_path / "b", **settings,
                                                                      start=str(run))):
        with pytest.raises(InputError, match="was trained by LoRA over another base"):
            refused()
    with pytest.raises(InputError, match="another configuration"):
        train(data, other, tmp_path / "cut", **settings)
    with pytest.raises(InputError, match="give its start"):
        train(data, other, tmp_path / "laid", **settings, rebase=True)
    found = train(data, other, tmp_path / "laid", **settings, start=str(run), rebase=True)
    kept, unet = found.state_dict(), Family(other, "cpu").unet
    assert torch.equal(kept["down_blocks.0.resnets.0.norm1.weight"],
                       unet.state_dict()["down_blocks.0.resnets.0.norm1.weight"]), "over the base that is there now"
    install_editor(tmp_path / "laid", other)


def test_a_gate_stays_as_it_is_through_a_resumed_training_and_all_else_learns(tmp_path, family, data):
    folder, settings = tmp_path / "out", {"lora_rank": 2, "gate": False, "every": 2}
    train(data, family.folder, folder, steps=4, **settings)
    tensors = loop.load_file(folder / PART)
    assert not tensors["gate.weight"].any() and tensors["project.0.weight"].any()
    subject_out = [key for key in tensors if key.endswith("subject_out.weight")]
    assert subject_out and all(tensors[key].any() for key in subject_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "merged", lambda model: 1 / 0)             # ends after the state is written
        with pytest.raises(ZeroDivisionError):
            train(data, family.folder, tmp_path / "cut", steps=4, **settings)
    train(data, family.folder, tmp_path / "cut", steps=4, **settings)
    a, b = weights(folder), weights(tmp_path / "cut")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_start_that_is_no_editor_of_this_base_is_told(tmp_path, family, data, whole):
    for start, says in ((tmp_path, "holds no editor"), (family.folder / "refiner", "holds no editor"),
                        (family.folder / "nothing", "holds no editor")):
        with pytest.raises(InputError, match=says):
            train(data, family.folder, tmp_path / "out", start=str(start))
    other = ToffeeEditorUNet.from_unet(small_unet(), subject_dim=10, patches=64)
    other.save_pretrained(tmp_path / "pickle", safe_serialization=False)
    with pytest.raises(InputError, match="holds no editor"):
        editor_of(small_unet(), tmp_path / "pickle")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"another base: its subject_dim is 10"):
        train(data, family.folder, tmp_path / "out", start=str(tmp_path / "other"))
    assert not (tmp_path / "out").exists()


def test_the_part_of_another_base_is_refused(tmp_path):
    model = add_lora(ToffeeEditorUNet.from_unet(small_unet(), 2 * FEATURES, 64), 2)
    save_trained(model, tmp_path / PART, 2)
    wider = small_unet()
    wider = type(wider).from_config({**wider.config, "block_out_channels": (32, 96)})
    with pytest.raises(InputError, match="another model"):
        editor_of(wider, tmp_path)


def test_epsilon_and_merged_output_are_kept(tmp_path):
    torch.manual_seed(0)
    unet = small_unet()
    model = add_lora(ToffeeEditorUNet.from_unet(unet, 2 * FEATURES, 64, "epsilon"), 2)
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in trained:
            p.add_(torch.randn_like(p), alpha=0.05)
    save_trained(model, tmp_path / PART, 2)
    found = editor_of(unet, tmp_path)
    assert found.config.prediction_type == "epsilon"
    g = torch.Generator().manual_seed(1)
    told = {"subjects": torch.randn(2, 1, 64, 2 * FEATURES, generator=g), "weights": torch.ones(2, 1, 8, 8),
            "subject_patches": torch.ones(2, 1, 64).bool(), "space": torch.rand(2, 12, 8, 8, generator=g)}  # fmt: skip
    inputs = (torch.randn(2, 4, 8, 8, generator=g), torch.tensor([5, 900]), torch.randn(2, 5, 32, generator=g))
    a, b = (m.eval()(*inputs, **told, alpha=torch.tensor([0.9, 0.2])).sample for m in (model, found))
    assert (a - b).abs().max() < 1e-4
    assert (a - merged(model)(*inputs, **told, alpha=torch.tensor([0.9, 0.2])).sample).abs().max() < 1e-4
