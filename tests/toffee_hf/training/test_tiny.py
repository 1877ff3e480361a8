"""`toffee train tiny`: jobs in order, one budget a folder, a clear word when one fails, and a family in the end."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_family import write_family
from toffee_hf.errors import InputError, RunError
from toffee_hf.family import MEMBERS, Family
from toffee_hf.training import tiny
from toffee_hf.training.tiny import JOBS, TRAINERS, install, train_tiny


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

    def start(folder, name, minutes, seed):
        assert all((folder / f"{need}.done").exists() for need in JOBS[name].needs), name
        names.append(name)
        (folder / f"{name}.done").touch()
        return Process()

    monkeypatch.setattr(tiny, "_start", start)
    return names


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_runs_once_after_what_it_needs(tmp_path, started, workers):
    train_tiny(tmp_path, 60, 0, workers)
    assert sorted(started) == sorted(JOBS)
    train_tiny(tmp_path, 60, 0, workers)
    assert len(started) == len(JOBS), "what is done is not done again"


def test_a_folder_belongs_to_one_budget_and_seed(tmp_path, started):
    train_tiny(tmp_path, 60, 0, 1)
    for minutes, seed in ((30, 0), (60, 1)):
        with pytest.raises(InputError, match="another folder"):
            train_tiny(tmp_path, minutes, seed, 1)
    assert json.loads((tmp_path / "budget.json").read_text()) == {"minutes": 60, "seed": 0}


@pytest.mark.parametrize(("minutes", "only"), [(60, ("base", "dinosaur")), (0, ()), (-1, ())])
def test_unknown_jobs_and_no_time_are_refused_before_anything_is_written(tmp_path, started, minutes, only):
    with pytest.raises(InputError, match="dinosaur" if only else "minutes"):
        train_tiny(tmp_path / "new", minutes, 0, 1, only)
    assert not (tmp_path / "new").exists() and not started


def test_only_what_is_asked_and_a_word_if_that_cannot_be(tmp_path, started):
    with pytest.raises(RunError, match="base wait for jobs that are not done"):
        train_tiny(tmp_path, 60, 0, 1, ("base",))
    train_tiny(tmp_path, 60, 0, 1, ("pool", "clip"))
    assert started == ["pool", "clip"]


@pytest.mark.parametrize(("status", "marks"), [(1, False), (-9, False), (0, False)])
def test_a_job_that_fails_or_does_not_finish_is_named(tmp_path, monkeypatch, status, marks):
    monkeypatch.setattr(tiny, "_start", lambda *_: Process(status))
    with pytest.raises(RunError, match=f"job pool ended with status {status}; .*again"):
        train_tiny(tmp_path, 60, 0, 1)


def test_the_table_of_jobs_is_whole():
    assert set(TRAINERS) == set(JOBS) - {"pool"}
    assert all(need in JOBS for job in JOBS.values() for need in job.needs)
    assert {job.member for job in JOBS.values() if job.member} | {"tokenizer", "scheduler"} == set(MEMBERS)


def test_installing_writes_half_precision_that_loads(tmp_path):
    models = write_family(tmp_path / "work" / "models")
    size = install(tmp_path / "work", tmp_path / "family")
    tensors = load_file(tmp_path / "family" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert size == sum(p.stat().st_size for p in (tmp_path / "family").rglob("*") if p.is_file())
    assert size < 0.7 * sum(p.stat().st_size for p in models.rglob("*") if p.is_file())
    family = Family(tmp_path / "family", "cpu")
    assert next(family.unet.parameters()).dtype == torch.float32
    assert not list((tmp_path / "family").rglob("*.part"))
