"""`toffee train tiny`: jobs in order, one budget a folder, a clear word when one fails, and a family in the end."""

import json
import runpy
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_family import (
    FEATURES,
    SIDE,
    small_autoencoder,
    small_classifier,
    small_clip,
    small_dino,
    small_unet,
    write_family,
)
from toffee_hf.errors import InputError, RunError
from toffee_hf.family import MEMBERS, Family
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.training import classifier, pool, tiny
from toffee_hf.training.tiny import JOBS, TRAINERS, Budget, _Desk, install, train_tiny

HOUR = Budget(minutes=60, seed=0)


class Process:
    """A job that ends at once."""

    def __init__(self, status=0):
        self.status = status

    def wait(self, timeout):
        return self.status

    def terminate(self):
        pass


@pytest.fixture
def started(monkeypatch):
    """Names of the jobs in the order of their start; each is done at once."""
    names = []

    def start(folder, name, budget):
        assert all((folder / f"{need}.done").exists() for need in JOBS[name].needs), name
        names.append(name)
        (folder / f"{name}.done").touch()
        return Process()

    monkeypatch.setattr(tiny, "_start", start)
    return names


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_runs_once_after_what_it_needs(tmp_path, started, workers):
    train_tiny(tmp_path, HOUR, workers)
    assert sorted(started) == sorted(JOBS)
    train_tiny(tmp_path, HOUR, workers)
    assert len(started) == len(JOBS), "what is done is not done again"


def test_a_folder_belongs_to_one_budget_seed_and_start(tmp_path, started):
    start = tmp_path / "start"
    (start / "unet").mkdir(parents=True)
    train_tiny(tmp_path / "work", HOUR, 1)
    for other in (Budget(minutes=30), Budget(minutes=60, seed=1), Budget(minutes=60, start=start)):
        with pytest.raises(InputError, match="another folder"):
            train_tiny(tmp_path / "work", other, 1)
    written = json.loads((tmp_path / "work" / "budget.json").read_text())
    assert written == {"minutes": 60, "seed": 0, "start": None, "device": "cpu"}


def test_the_budget_holds_the_start(tmp_path, started):
    (tmp_path / "family" / "unet").mkdir(parents=True)
    budget = Budget(minutes=60, start=tmp_path / "family")
    train_tiny(tmp_path / "work", budget, 1)
    assert sorted(started) == sorted(JOBS)
    written = json.loads((tmp_path / "work" / "budget.json").read_text())
    assert written == {"minutes": 60, "seed": 0, "start": str(tmp_path / "family"), "device": "cpu"}
    train_tiny(tmp_path / "work", budget, 1)
    with pytest.raises(InputError, match="another folder"):
        train_tiny(tmp_path / "work", HOUR, 1)


@pytest.mark.parametrize(("minutes", "only"), [(60, ("base", "dinosaur")), (0, ()), (-1, ())])
def test_unknown_jobs_and_no_time_are_refused_before_anything_is_written(tmp_path, started, minutes, only):
    with pytest.raises(InputError, match="dinosaur" if only else "minutes"):
        train_tiny(tmp_path / "new", Budget(minutes=minutes), 1, only)
    assert not (tmp_path / "new").exists() and not started


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_start_that_is_no_family_is_refused_before_anything_is_written(tmp_path, started, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name} is no family to start from"):
        train_tiny(tmp_path / "new", Budget(minutes=60, start=tmp_path / name), 1)
    assert not (tmp_path / "new").exists() and not started


def test_only_what_is_asked_and_a_word_if_that_cannot_be(tmp_path, started):
    with pytest.raises(RunError, match="base wait for jobs that are not done"):
        train_tiny(tmp_path, HOUR, 1, ("base",))
    train_tiny(tmp_path, HOUR, 1, ("pool", "clip"))
    assert started == ["pool", "clip"]


@pytest.mark.parametrize(("status", "marks"), [(1, False), (-9, False), (0, False)])
def test_a_job_that_fails_or_does_not_finish_is_named(tmp_path, monkeypatch, status, marks):
    monkeypatch.setattr(tiny, "_start", lambda *_: Process(status))
    with pytest.raises(RunError, match=f"job pool ended with status {status}; .*again"):
        train_tiny(tmp_path, HOUR, 1)


def test_the_table_of_jobs_is_whole():
    assert set(TRAINERS) == set(JOBS) - {"pool"}
    assert all(need in JOBS for job in JOBS.values() for need in job.needs)
    members = {job.member for job in JOBS.values() if job.member} | {"tokenizer", "scheduler"}
    assert members == {*MEMBERS, "axis", "classifier"}, "both are trained with a family, which may lack them"


def test_installing_writes_half_precision_that_loads(tmp_path):
    models = write_family(tmp_path / "work" / "models")
    size = install(tmp_path / "work", tmp_path / "family")
    tensors = load_file(tmp_path / "family" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert size == sum(p.stat().st_size for p in (tmp_path / "family").rglob("*") if p.is_file())
    assert size < 0.7 * sum(p.stat().st_size for p in models.rglob("*") if p.is_file())
    family = Family(tmp_path / "family", "cpu")
    assert next(family.unet.parameters()).dtype == next(family.classifier.parameters()).dtype == torch.float32
    assert not list((tmp_path / "family").rglob("*.part"))


def beginnings(family):
    """New models with other weights than the family's, by the member each begins from."""
    torch.manual_seed(7)
    unet = small_unet()
    return {
        "vae": small_autoencoder(), "clip": small_clip(family.tokenizer), "unet": unet, "dino": small_dino(),
        "refiner": ToffeeRefinerUNet.from_unet(unet, feature_dim=FEATURES, hint_channels=16),
        "view": ToffeeViewUNet.from_unet(unet, feature_dim=2 * FEATURES, patches=SIDE * SIDE),
        "classifier": small_classifier(),
    }


def alike(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_job_begins_with_the_given_weights(family, tmp_path):
    desk = _Desk(tmp_path, None, None, Budget(start=family.folder))
    given = {"vae": family.vae, "clip": family.clip, "unet": family.unet, "dino": family.dino,
             "refiner": family.refiner_unet, "view": family.view_unet, "classifier": family.classifier}
    for member, model in beginnings(family).items():
        assert not alike(model, given[member]), member
        begun = desk.begin(model, member)
        assert begun is model and alike(begun, given[member]), member
        assert all(p.requires_grad for p in begun.parameters()), "and goes on learning"


def test_without_a_start_a_job_begins_with_its_own_weights(family, tmp_path):
    desk = _Desk(tmp_path, None, None, Budget())
    for (member, model), own in zip(beginnings(family).items(), beginnings(family).values(), strict=True):
        assert desk.begin(model, member) is model and alike(model, own)


def test_a_jobs_process_is_given_the_whole_budget(monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(tiny.subprocess, "Popen", lambda command, env: commands.append((command, env)))
    for budget in (HOUR, Budget(minutes=0.5, seed=3, start=tmp_path / "a family", device="cuda")):
        tiny._start(tmp_path, "base", budget)
    (plain, environment), (started, _) = commands
    assert plain[1:] == ["-m", "toffee_hf.training.tiny", str(tmp_path), "base", "60", "0", "cpu"]
    assert started[3:] == [str(tmp_path), "base", "0.5", "3", "cuda", str(tmp_path / "a family")]
    assert environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("with_start", [False, True])
def test_a_jobs_process_understands_it(monkeypatch, tmp_path, family, with_start):
    """The module as a program, with the training itself left out: what it saves is what it began with."""
    told = {}

    def train(model, pool, schedule, folder, seed):
        told.update(seed=seed, steps=schedule.steps)
        return model

    monkeypatch.setattr(pool, "Pool", lambda folder, place: None)
    monkeypatch.setattr(classifier, "new_classifier", small_classifier)
    monkeypatch.setattr(classifier, "train_classifier", train)
    budget = Budget(minutes=0.9, seed=5, start=family.folder if with_start else None)
    monkeypatch.setattr(sys, "argv", ["tiny", str(tmp_path), "classifier", *budget.words()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)          # runpy: the module is already loaded
        runpy.run_module("toffee_hf.training.tiny", run_name="__main__")
    assert (tmp_path / "classifier.done").exists()
    assert told == {"seed": 5, "steps": round(JOBS["classifier"].samples / 100 / JOBS["classifier"].batch_size)}
    saved = type(family.classifier).from_pretrained(tmp_path / "models" / "classifier")
    assert alike(saved, family.classifier) == with_start


@pytest.mark.parametrize(("name", "device", "pace", "batch", "precision"), [
    ("controlnet", "cuda", 64, 16, "bf16"), ("classifier", "cuda", 1, 1, "no"), ("controlnet", "cpu", 1, 1, "no")])
def test_a_gpu_takes_the_costliest_jobs_with_more_pictures_in_larger_batches(
        monkeypatch, tmp_path, name, device, pace, batch, precision):
    seen = []
    monkeypatch.setattr(pool, "Pool", lambda folder, place: place)
    monkeypatch.setattr(tiny, "TRAINERS", {name: seen.append})
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        tiny.run_job(tmp_path, name, Budget(minutes=9, device=device))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    (desk,), job = seen, JOBS[name]
    assert desk.schedule.batch_size == batch * job.batch_size
    assert desk.schedule.steps == round(job.samples * pace / 10 / (batch * job.batch_size))
    assert desk.pool.precision == precision and desk.pool.device.type == (device if job.gpu else "cpu")


def test_minutes_of_a_gpu_are_told_apart(tmp_path):
    start = tmp_path / "family"
    start.mkdir()
    (start / "training.json").write_text(json.dumps({"view": {"samples": 100, "minutes": 7.0},
                                                     "dino": {"samples": 10, "minutes": 1.0}}))
    work = tmp_path / "work"
    for name in ("view", "dino"):
        (work / name).mkdir(parents=True)
        (work / name / "log.jsonl").write_text('{"samples": 50, "minutes": 2.5}\n')
    (work / "budget.json").write_text('{"device": "cuda"}')
    assert tiny.spent(work, start) == {"view": {"samples": 150, "minutes": 7.0, "gpu_minutes": 2.5},
                                       "dino": {"samples": 60, "minutes": 3.5}}


def test_a_folder_of_before_devices_were_told_goes_on(monkeypatch, started, tmp_path):
    (tmp_path / "budget.json").write_text('{"minutes": 60, "seed": 0, "start": null}')
    train_tiny(tmp_path, HOUR, 4)
    monkeypatch.setattr(tiny, "default_device", lambda: "cuda")
    with pytest.raises(InputError, match="holds a training"):
        train_tiny(tmp_path, Budget(minutes=60, device="cuda"), 4)


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(monkeypatch, tmp_path, started, device):
    monkeypatch.setattr(tiny, "default_device", lambda: "cpu")
    with pytest.raises(InputError, match=f"where torch sees a GPU; got {device}"):
        train_tiny(tmp_path / "new", Budget(minutes=60, device=device), 1)
    assert not (tmp_path / "new").exists() and not started
