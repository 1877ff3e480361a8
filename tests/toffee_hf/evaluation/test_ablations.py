"""Ablations: the shipped setting is marked wherever it stands, and only what is named changes."""

import json

import pytest
import torch

from tests.toffee_hf.training.in_process import InProcess
from toffee_hf.evaluation import ablations, ways
from toffee_hf.evaluation.ablations import (
    DEGRADATIONS,
    KNOBS,
    Change,
    Part,
    Training,
    ablate,
    ablation_table,
    changes,
    measure_part,
    shipped_settings,
    train_on,
)
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.training import pool as pools

COLUMNS = [f"{kind} prompts{what}" for kind in ("photo", "style")
           for what in (", same pose, dB", ", jittered, dB", ": style right")]


@pytest.fixture
def one_step(monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 1)


@pytest.fixture
def toys(family, tmp_path, monkeypatch):
    """The folder of a pool of two subjects, encoded by the random family."""
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    pool = pools.render_pool(tmp_path / "pool", 2, 1)
    pools.encode_pool(pool, family.vae)
    return pool.folder


def test_every_knob_has_its_shipped_value_once(monkeypatch):
    monkeypatch.setitem(ways.REFINE, "strength", 0.85)
    known, lines = shipped_settings(), changes()
    assert known["strength"] == 0.85 and known["top_k"] == 4
    for knob, (name, values) in KNOBS.items():
        own = [line for line in lines if line.what == name]
        assert [line.settings[knob] for line in own if line.shipped] == [known[knob]]
        assert {line.settings[knob] for line in own} == {*values, known[knob]}
    for what in ("patch matching", "matching sees"):
        assert [line.shipped for line in lines if line.what == what].count(True) == 1
    assert not Change("", "", {}, ablations.Path("elsewhere")).shipped


def test_the_shipped_setting_is_marked_in_the_table():
    lines = [(Change("top k", "4", {"top_k": 4}), {"dB": [1.0, 3.0]}),
             (Change("top k", "1", {"top_k": 1}), {"dB": [2.0, 2.0]})]
    assert ablation_table(lines).splitlines()[:3] == [
        "| changed | to | dB |", "| --- | --- | --- |", "| top k | **4** (shipped) | 2.0 ± 2.0 |"]
    assert "| top k | 1 | 2.0 ± 0.0 |" in ablation_table(lines)


def test_changes_are_measured_over_the_same_drafts(family, small_toys, one_step):
    same, other, none = measure_part(family, Part(0, 2, (
        Change("", ""), Change("", "", {"strength": 0.3}), Change("", "", {"threshold": 2.0}))))
    assert list(same) == COLUMNS and all(len(some) == 2 for some in same.values())
    assert same != other
    assert none[COLUMNS[0]] == pytest.approx(none[COLUMNS[1]]), "without a reference its pose does not matter"
    assert same[COLUMNS[0]] != pytest.approx(same[COLUMNS[1]])


def test_another_refiner_is_used_and_given_back(family, small_toys, one_step, tmp_path):
    other = ToffeeRefinerUNet.from_pretrained(family.folder / "refiner")
    with torch.no_grad():
        other.gate.bias.add_(3.0)
    other.save_pretrained(tmp_path)
    shipped, changed, again = measure_part(family, Part(0, 1, (
        Change("", ""), Change("", "", refiner=tmp_path), Change("", ""))))
    assert shipped == again and shipped != changed


def test_two_trainings_start_alike_and_differ_in_their_starts(family, toys, tmp_path):
    before = {k: v.clone() for k, v in family.refiner_unet.state_dict().items()}
    folders = {on: train_on(family, Training(toys, tmp_path / str(on), 2, on)) for on in (True, False)}
    losses = {on: [json.loads(line)["loss"] for line in
                   (tmp_path / str(on) / "training" / "log.jsonl").read_text().splitlines()] for on in folders}
    assert len(losses[True]) == len(losses[False]) == 2 and losses[True] != losses[False]
    on, off = (ToffeeRefinerUNet.from_pretrained(folder).state_dict() for folder in folders.values())
    assert any((on[k] != off[k]).any() for k in on) and any((on[k] != before[k]).any() for k in on)
    assert all(torch.equal(v, before[k]) for k, v in family.refiner_unet.state_dict().items())
    assert not any(p.requires_grad for p in family.refiner_unet.parameters())


def test_the_whole_table_counts_every_subject_once_and_keeps_the_order(monkeypatch):
    """A line's figure is its strength, and the subjects' numbers."""
    parts = []

    def measured(family, part):
        parts.append((part.first, part.count))
        return [{"dB": [c.settings.get("strength", 0.9) * 100 + i for i in range(part.first, part.first + part.count)]}
                for c in part.changes]

    monkeypatch.setattr(ablations, "measure_part", measured)
    monkeypatch.setattr(ablations, "BATCH", 2)
    lines = [line.split(" | ") for line in ablate(None, 3, 1).splitlines()[2:]]
    assert parts == [(0, 2), (2, 1)] and len(lines) == len(changes())
    strengths = {line[1]: line[2] for line in lines if line[0] == "| start strength t₀"}
    assert strengths["0.3"] == "31.0 ± 1.1 |" and strengths["0.95"] == "96.0 ± 1.1 |"
    assert {line[2] for line in lines if "(shipped)" in line[1]} == {"91.0 ± 1.1 |"}


def test_trainings_are_left_out_unless_asked(family, small_toys, one_step, monkeypatch):
    monkeypatch.setattr(ablations, "changes", lambda: [Change("top k", "4", {"top_k": 4})])
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(ablations, "TRAIN_BATCH", 2)
    monkeypatch.setattr(ablations, "train_on", lambda opened, job: opened.folder / "refiner")
    assert DEGRADATIONS not in ablate(family, 2, 1)
    text = ablate(family, 2, 1, train_steps=1)
    assert [line.split(" | ")[1] for line in text.splitlines() if line.startswith(f"| {DEGRADATIONS} |")] == [
        "**no further steps** (shipped)", "1 steps more, from degraded copies",
        "1 steps more, from the pictures themselves"]
