"""The training loop: learns, goes on bit for bit where it was killed, and stops at nonsense."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch import nn

from toffee_hf.training import loop
from toffee_hf.training.loop import CPU, Extras, Place, Schedule, fit, step_generator
from toffee_hf.training.tiny import spent

SIX = Schedule(steps=6, learning_rate=1e-2, batch_size=4)
FAR = replace(SIX, ema=0.5)            # an average apart from the weights


class Killed(BaseException):
    pass


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 1))


def regression(model, until=math.inf, then=Killed):
    """A loss of seeded batches that ends the run at step `until`."""

    def loss(step, generator):
        if step >= until:
            raise then
        x = torch.randn(16, 3, generator=generator)
        return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean(), "step": torch.tensor(float(step))}

    return loss


def trained(folder, schedule=SIX, until=math.inf, seed=0):
    model = small()
    fit("small", model, regression(model, until), schedule, folder, seed)
    return model.state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns(tmp_path):
    model = small()
    x = torch.randn(64, 3)
    before = (model(x) - x.sum(1, keepdim=True)).square().mean()
    fit("small", model, regression(model), Schedule(steps=150, learning_rate=2e-2, batch_size=16), tmp_path)
    assert (model.eval()(x) - x.sum(1, keepdim=True)).square().mean() < 0.3 * before


def test_a_place_decides_device_and_precision():
    x = torch.ones(2, 2)
    with CPU.entered():
        assert (x @ x).dtype == torch.float32 and torch.zeros(1).device.type == "cpu"
    with Place(precision="bf16").entered():
        assert (x @ x).dtype == torch.bfloat16
    with Place(device=torch.device("meta")).entered():
        assert torch.zeros(1).device.type == "meta"
    assert Extras(precision="bf16").place == Place(precision="bf16")


def test_a_training_is_done_at_its_place(tmp_path):
    model, seen = small(), []

    def loss(step, generator):
        found = model(torch.randn(16, 3, generator=generator))
        seen.append(found.dtype)
        return {"loss": found.float().square().mean()}

    fit("small", model, loss, replace(SIX, steps=2), tmp_path, place=Place(precision="bf16"))
    assert seen == [torch.bfloat16] * 2 and {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, killed_at):
    whole = trained(tmp_path / "whole")
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", until=killed_at)
    torch.manual_seed(99)
    assert equal(trained(tmp_path / "killed"), whole)


def test_what_was_not_saved_is_done_again_to_the_same_weights(tmp_path):
    whole = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "killed", until=4)
    assert not (tmp_path / "killed" / "state.safetensors").exists()
    assert equal(trained(tmp_path / "killed"), whole)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    done = trained(tmp_path)
    assert equal(trained(tmp_path, until=0), done)


def test_the_seed_decides(tmp_path):
    assert equal(trained(tmp_path / "a"), trained(tmp_path / "b"))
    assert not equal(trained(tmp_path / "a2", seed=1), trained(tmp_path / "b2"))


def test_global_randomness_in_a_loss_would_show(tmp_path):
    a, b = step_generator("small", 0, 3), step_generator("small", 0, 3)
    assert torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))
    others = [step_generator("small", 0, 4), step_generator("small", 1, 3), step_generator("other", 0, 3)]
    assert len({torch.rand(1, generator=g).item() for g in (step_generator("small", 0, 3), *others)}) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonsense_stops_the_run_and_leaves_the_checkpoint(tmp_path, monkeypatch, value):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    with pytest.raises(Killed):
        trained(tmp_path, until=3)
    before = (tmp_path / "state.safetensors").read_bytes()
    model = small()
    broken = regression(model)
    with pytest.raises(FloatingPointError, match=f"small.*step 3.*{tmp_path}"):
        fit("small", model, lambda s, g: {"loss": broken(s, g)["loss"] * value}, SIX, tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert equal(trained(tmp_path), trained(tmp_path / "whole"))


def test_no_part_of_a_checkpoint_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    trained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"state.safetensors", "log.jsonl"}


def test_frozen_parameters_stay(tmp_path):
    model = small()
    model[0].requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit("small", model, regression(model), SIX, tmp_path)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[3].weight, before["3.weight"])


def test_pictures_are_drawn_by_the_average_and_change_nothing(tmp_path):
    whole, model, seen = trained(tmp_path / "whole", FAR), small(), []

    def validate(steps):
        seen.append((steps, model.training, {key: p.clone() for key, p in model.state_dict().items()}))

    fit("small", model, regression(model), FAR, tmp_path / "drawn", extras=Extras(every=2, validate=validate))
    assert equal(model.state_dict(), whole) and [steps for steps, *_ in seen] == [2, 4, 6]
    assert not any(training for _, training, _ in seen)
    assert equal(seen[-1][2], whole), "the last one by what it ends with"


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds that only a test moves."""
    now = [1000.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def minute_steps(folder, clock, until=math.inf):
    """Train with steps that take a minute each."""
    model = small()
    inner = regression(model, until)

    def loss(step, generator):
        terms = inner(step, generator)
        clock[0] += 60
        return terms

    fit("small", model, loss, SIX, folder)


def test_the_log_tells_every_term_and_what_it_has_cost(tmp_path, clock):
    minute_steps(tmp_path, clock)
    rows = logged(tmp_path)
    assert [row["step"] for row in rows] == [0, 5]
    assert all(row.keys() == {"step", "loss", "samples", "minutes"} for row in rows)
    assert [row["samples"] for row in rows] == [4, 24], "a batch is four"
    assert [row["minutes"] for row in rows] == [1, 6]


@pytest.mark.parametrize("killed_at", [3, 4, 5])
def test_minutes_go_on_over_a_kill_and_leave_the_pause_out(tmp_path, clock, killed_at):
    with pytest.raises(Killed):
        minute_steps(tmp_path, clock, until=killed_at)  # saved every other minute: what came after is done again
    with safe_open(tmp_path / "state.safetensors", "pt") as state:
        assert state.metadata() == {"step": str(killed_at // 2 * 2), "seconds": f"{killed_at // 2 * 120:.1f}"}
    clock[0] += 1e5
    minute_steps(tmp_path, clock)
    last = logged(tmp_path)[-1]
    assert (last["step"], last["samples"], last["minutes"]) == (5, 24, 6)


def test_what_a_training_has_cost_adds_up_over_families(tmp_path, clock):
    minute_steps(tmp_path / "work" / "clip", clock)
    (tmp_path / "work" / "not a job").mkdir()
    (tmp_path / "work" / "not a job" / "log.jsonl").write_text("{")
    mine = {"clip": {"samples": 24, "minutes": 6.0}}
    assert spent(tmp_path / "work", None) == spent(tmp_path / "work", tmp_path / "unpriced") == mine
    (tmp_path / "training.json").write_text(json.dumps({"clip": {"samples": 100, "minutes": 3.5},
                                                        "dino": {"samples": 7, "minutes": 0.2}}))
    assert spent(tmp_path / "work", tmp_path) == {"clip": {"samples": 124, "minutes": 9.5},
                                                  "dino": {"samples": 7, "minutes": 0.2}}
    assert spent(tmp_path / "nothing done", None) == {}


def test_the_same_command_again_does_not_cost_twice(tmp_path, clock):
    minute_steps(tmp_path / "work" / "clip", clock)
    first = spent(tmp_path / "work", tmp_path)
    (tmp_path / "training.json").write_text(json.dumps(first))          # as `install` does
    assert spent(tmp_path / "work", tmp_path) == first


def test_the_rate_warms_up_and_falls_to_a_tenth():
    schedule = Schedule(steps=100, learning_rate=1.0, batch_size=1, warmup=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:99], rates[11:], strict=True))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert Schedule(steps=1, learning_rate=1.0, batch_size=1).rate(0) > 0
