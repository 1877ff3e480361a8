import os
import time

import psutil
import pytest

from builder.engines.local import run_local
from builder.engines.messages import Setup
from builder.plan import Plan
from builder.receipts import read_receipts
from builder.recipe_reference import load_recipe
from builder.subjects import index_subjects
from toffee_hf.errors import InputError, RunError


def run(flat, photos, output, name="recipe", count=24, workers=2, on_done=lambda done: None):
    made = load_recipe(flat(name))
    plan = Plan(made, index_subjects(str(photos), made.size_px), 0, "0123abcd", count)
    setup = Setup(flat(name), str(output), 0, 1)
    return run_local(plan, range(plan.shard_count), setup, workers, on_done)


def children():
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def test_every_shard_is_run_once_and_nobody_stays(flat, photos, tmp_path):
    heard = []
    assert run(flat, photos, tmp_path, on_done=heard.append) == []
    assert sorted(done.shard for done in heard) == list(range(6))
    assert sum(done.pairs for done in heard) == 24
    assert children() == []


def test_a_shard_that_kills_its_worker_is_given_up_alone(flat, photos, tmp_path):
    failed = run(flat, photos, tmp_path, "dies")
    assert [shard.number for shard in failed] == [1]
    assert "killed by signal 9" in failed[0].message
    assert [receipt.shard for receipt in read_receipts(tmp_path)] == [0, 2, 3, 4, 5]
    assert children() == []


def test_a_worker_killed_from_outside_is_replaced(flat, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FLAT_PAUSE_S", "0.1")
    killed = []

    def kill_one(done):
        if not killed:
            killed.append(children()[0].pid)
            os.kill(killed[0], 9)

    assert run(flat, photos, tmp_path, on_done=kill_one) == []
    assert [receipt.shard for receipt in read_receipts(tmp_path)] == list(range(6))


def test_a_recipe_that_no_worker_can_load_ends_the_run_at_once(flat, photos, tmp_path):
    made = load_recipe(flat("recipe"))
    plan = Plan(made, index_subjects(str(photos), made.size_px), 0, "0123abcd", 400)
    began = time.monotonic()
    with pytest.raises(InputError, match="no function 'gone'"):
        run_local(plan, range(100), Setup(flat("gone"), str(tmp_path), 0, 1), 2, lambda done: None)
    assert time.monotonic() - began < 10
    assert children() == []


def test_an_error_in_the_middle_leaves_no_worker(flat, photos, tmp_path):
    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(flat, photos, tmp_path, on_done=interrupt)
    assert children() == []


def test_a_stack_that_never_works_is_given_up_with_its_first_error(flat, photos, tmp_path):
    with pytest.raises(RunError, match="5 tries failed. The first: ImportError: libcuda.so is not there"):
        run(flat, photos, tmp_path, "broken", count=40)
    assert children() == []
    assert not list(tmp_path.rglob("*.parquet"))
