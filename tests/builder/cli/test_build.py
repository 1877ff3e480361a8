"""The whole way through the real command line, with a recipe that has no models."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import load_dataset
from PIL import Image

from builder.receipts import read_receipts
from tests.conftest import ROOT


def build_arguments(flat, photos, output, name="recipe", pairs=22, **options):
    arguments = ["build", "--recipe", flat(name), "--subjects", photos, "--pairs", pairs, "--output", output]
    return arguments + [str(part) for key, value in options.items() for part in (f"--{key}", value)]


def built(toffee, *arguments, **environment):
    done = toffee(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done


def test_one_worker_and_three_make_the_same_bytes(flat, photos, tmp_path, toffee, parquet):
    for workers in (1, 3):
        built(toffee, *build_arguments(flat, photos, f"out{workers}", workers=workers))
    assert parquet(tmp_path / "out1") == parquet(tmp_path / "out3") != {}


def test_it_says_what_it_made_and_how_to_load_it(flat, photos, tmp_path, toffee):
    done = built(toffee, *build_arguments(flat, photos, "toffee"))
    assert "22 pairs tried" in done.stdout
    assert 'load_dataset("toffee", "generation", split="train")' in done.stdout
    for name in ("README.md", "contact_sheet.png"):
        assert str(Path("toffee") / name) in done.stdout
        assert (tmp_path / "toffee" / name).stat().st_size > 0
    assert done.stderr == ""


def test_every_config_loads_streaming_and_not_and_rows_are_pairs_tried(flat, photos, tmp_path, toffee, monkeypatch):
    built(toffee, *build_arguments(flat, photos, "toffee"))
    monkeypatch.chdir(tmp_path)
    ids = []
    for config in ("generation", "editing", "rejected"):
        rows = load_dataset("toffee", config, split="train")
        streamed = list(load_dataset("toffee", config, split="train", streaming=True))
        assert [row["id"] for row in streamed] == rows["id"]
        assert all(row["target"].size == row["target_mask"].size == (32, 32) for row in rows)
        assert {colour for row in rows for _, colour in row["target_mask"].getcolors()} <= {0, 255}
        ids += rows["id"]
    assert len(ids) == len(set(ids)) == 22


def kill_at(receipts, seconds, arguments, cwd, output="killed"):
    """Start the build in a process group of its own, and SIGKILL the group `seconds` after so many receipts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "builder.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FLAT_PAUSE_S": "0.02"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while len(finished(cwd, output)) < receipts and process.poll() is None:
        time.sleep(0.002)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finished(place, output="killed"):
    return {path: path.stat().st_mtime_ns for path in (place / output / "receipts").glob("[0-9a-f]*.json")}


def check_kills(moments, flat, photos, tmp_path, toffee, parquet, every_file):
    """Kill, resume, compare; most of the kills fall among the 15 shards."""
    arguments = build_arguments(flat, photos, "killed", pairs=60, workers=2)
    built(toffee, *build_arguments(flat, photos, "whole", pairs=60, workers=2))
    left = []
    for receipts, seconds in moments:
        kill_at(receipts, seconds, arguments, tmp_path)
        done = finished(tmp_path)
        left.append(15 - len(done))
        built(toffee, *arguments)
        assert {path: finished(tmp_path)[path] for path in done} == done, "a finished shard was done again"
        assert parquet(tmp_path / "killed") == parquet(tmp_path / "whole")
        assert every_file(tmp_path / "killed") == every_file(tmp_path / "whole")
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    assert any(0 < count < 15 for count in left), "no kill fell among the shards"


def test_killed_and_resumed_is_uninterrupted(flat, photos, tmp_path, toffee, parquet, every_file):
    check_kills([(0, 0.4), (2, 0.01), (9, 0.03)], flat, photos, tmp_path, toffee, parquet, every_file)


@pytest.mark.slow
def test_killed_at_twenty_moments(flat, photos, tmp_path, toffee, parquet, every_file):
    chance = random.Random(2)
    moments = [(chance.randrange(-3, 15), chance.uniform(0, 0.3)) for _ in range(20)]
    check_kills(moments, flat, photos, tmp_path, toffee, parquet, every_file)


def test_a_run_grows(flat, photos, tmp_path, toffee, parquet):
    for pairs in (6, 22):
        built(toffee, *build_arguments(flat, photos, "grown", pairs=pairs))
    built(toffee, *build_arguments(flat, photos, "fresh"))
    assert parquet(tmp_path / "grown") == parquet(tmp_path / "fresh")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown").rglob("*.parquet")}
    built(toffee, *build_arguments(flat, photos, "grown", pairs=6))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_parts_make_the_whole_and_the_last_one_writes_the_card(flat, photos, tmp_path, toffee, parquet, every_file):
    built(toffee, *build_arguments(flat, photos, "whole"))
    for index in (2, 0, 1):
        assert not (tmp_path / "parts" / "contact_sheet.png").exists()
        built(toffee, *build_arguments(flat, photos, "parts", shards=f"{index}/3"))
    assert parquet(tmp_path / "parts") == parquet(tmp_path / "whole")
    assert every_file(tmp_path / "parts") == every_file(tmp_path / "whole")


def load(config="rejected"):
    return load_dataset("toffee", config, split="train")


def test_another_seed_needs_append_and_nothing_is_stale(flat, photos, tmp_path, toffee, every_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built(toffee, *build_arguments(flat, photos, "toffee"))
    first, files = set(load()["id"]), every_file(tmp_path / "toffee")
    refused = toffee(*build_arguments(flat, photos, "toffee", seed=1))
    assert refused.returncode == 2
    assert "--append" in refused.stderr
    assert every_file(tmp_path / "toffee") == files
    built(toffee, *build_arguments(flat, photos, "toffee", seed=1), "--append")
    both = load()["id"]
    assert first < set(both)
    assert len(both) == len(set(both))
    assert len({*both, *load("generation")["id"], *load("editing")["id"]}) == 44
    same = toffee(*build_arguments(flat, photos, "toffee", name="all_kept", seed=1), "--append")
    assert (same.returncode, "seed of its own" in same.stderr) == (2, True)


def test_a_rebuilt_folder_never_answers_with_old_rows(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built(toffee, *build_arguments(flat, photos, "toffee"))
    first = set(load()["id"])
    shutil.rmtree("toffee")
    built(toffee, *build_arguments(flat, photos, "toffee", seed=5))
    assert not first & set(load()["id"])


def test_a_run_that_keeps_nothing_says_so_and_loads(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = built(toffee, *build_arguments(flat, photos, "toffee", name="nothing_kept"))
    assert "Every pair was rejected" in done.stdout
    assert "prompt_missed 22" in done.stdout
    assert len(load_dataset("toffee", split="train")) == 22


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_a_killed_build_loads_and_grows(flat, photos, tmp_path, toffee, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    kill_at(3, 0.01, build_arguments(flat, photos, "toffee", name="nothing_kept", pairs=60), tmp_path, "toffee")
    sizes = []
    for pairs in (60, 90):
        if cache == "warm":
            sizes.append(len(load()))
        built(toffee, *build_arguments(flat, photos, "toffee", name="nothing_kept", pairs=pairs))
        sizes.append(len(load()))
        assert len(list(load_dataset("toffee", "rejected", split="train", streaming=True))) == sizes[-1]
    assert sizes[0] in range(8, 60) if cache == "warm" else sizes[0] == 60
    assert sizes[-1] == 90


def test_a_whole_set_that_grows_and_is_killed_is_neither_stale_nor_refused(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small, large = (build_arguments(flat, photos, "toffee", name="nothing_kept", pairs=pairs) for pairs in (8, 60))
    built(toffee, *small)
    assert len(load()) == 8
    kill_at(4, 0.01, large, tmp_path, "toffee")
    assert 16 <= len(load()) < 60


def test_a_picture_that_cannot_be_decoded_is_named_on_the_card(flat, photos, tmp_path, toffee):
    noise = random.Random(0).randbytes(3 * 64 * 64)
    Image.frombytes("RGB", (64, 64), noise).save(photos / "mug" / "half.jpg")
    data = (photos / "mug" / "half.jpg").read_bytes()
    (photos / "mug" / "half.jpg").write_bytes(data[: len(data) // 2])
    built(toffee, *build_arguments(flat, photos, "out"))
    assert {"mug/half.jpg": "truncated"} in [receipt.left_out for receipt in read_receipts(tmp_path / "out")]
    assert "| mug/half.jpg | `truncated`: " in (tmp_path / "out" / "README.md").read_text()


def test_no_file_tells_where_the_photos_lay(flat, photos, tmp_path, toffee):
    (photos / "mug" / "dangling.png").symlink_to("nowhere.png")
    built(toffee, *build_arguments(flat, photos, "out", name="buggy"))
    for path in [tmp_path / "out" / "README.md", *(tmp_path / "out").rglob("*.json")]:
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize("name", [".", "it's \"quoted\" & öäü"])
def test_the_hint_loads_whatever_the_name(flat, photos, tmp_path, name):
    place = tmp_path / "here"
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "builder.cli", *map(str, build_arguments(flat, photos, name, pairs=6))]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hint = [line.strip() for line in done.stdout.splitlines()[-3:]]
    again = subprocess.run([sys.executable, "-c", "\n".join(hint)], cwd=place, env=environment, capture_output=True)
    assert again.returncode == 0, again.stderr


def test_a_lost_file_of_another_run_is_named_and_the_rest_loads(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built(toffee, *build_arguments(flat, photos, "toffee", name="nothing_kept", pairs=8))
    lost = sorted((tmp_path / "toffee" / "rejected").iterdir())[0]
    lost.unlink()
    done = toffee(*build_arguments(flat, photos, "toffee", name="nothing_kept", pairs=8, seed=1), "--append")
    assert done.returncode == 3
    assert f"{lost.name} is gone or cut" in done.stderr
    assert len(load()) == 12
    assert toffee("report", "toffee").returncode == 3


def test_a_damaged_receipt_or_record_is_made_again(flat, photos, tmp_path, toffee, parquet, every_file):
    arguments = build_arguments(flat, photos, "out", pairs=8)
    built(toffee, *arguments)
    before, files = parquet(tmp_path / "out"), every_file(tmp_path / "out")
    sorted((tmp_path / "out" / "receipts").iterdir())[0].write_text('{"rows": 3')
    (tmp_path / "out" / "recipe.json").write_text("{")
    assert toffee(*arguments).returncode == 2
    (tmp_path / "out" / "recipe.json").unlink()
    built(toffee, *arguments)
    assert (parquet(tmp_path / "out"), every_file(tmp_path / "out")) == (before, files)


def test_another_kind_of_device_is_told(flat, photos, tmp_path, toffee):
    built(toffee, *build_arguments(flat, photos, "out", pairs=4))
    receipt = next((tmp_path / "out" / "receipts").iterdir())
    receipt.write_text(receipt.read_text().replace('"device": "cpu"', '"device": "NVIDIA H100"'))
    done = built(toffee, *build_arguments(flat, photos, "out", pairs=8), CUDA_VISIBLE_DEVICES="")
    assert "another stack (device gpu -> cpu)" in done.stderr


def test_few_details_of_many_failures(flat, photos, tmp_path, toffee):
    done = toffee(*build_arguments(flat, photos, "out", name="broken", pairs=30, workers=2))
    assert done.returncode == 3
    assert done.stderr.count("Traceback") == 1
    assert "no shard could be done, 5 tries failed. The first: ImportError: libcuda.so" in done.stderr


def test_shards_that_keep_nothing_load(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built(toffee, *build_arguments(flat, photos, "toffee", name="mostly_rejected"))
    kept = [receipt.kept for receipt in read_receipts(tmp_path / "toffee")]
    assert min(kept) == 0 < max(kept)
    assert len(load()) == 22 - sum(kept)


def test_failed_shards_are_status_3_and_the_rest_loads(flat, photos, tmp_path, toffee, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = toffee(*build_arguments(flat, photos, "toffee", name="dies"))
    assert done.returncode == 3
    assert "1 shards failed" in done.stderr
    assert "the same command tries them again" in done.stderr
    assert len(load()) > 0


def test_a_full_disk_is_status_3_and_the_same_command_goes_on(flat, photos, tmp_path, toffee, parquet, every_file):
    arguments = build_arguments(flat, photos, "full")
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$0" -m builder.cli "$@"', sys.executable, *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )  # files of at most 8 KiB: room for the record, none for a shard
    assert limited.returncode == 3
    assert "make room, and give the same command again" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert every_file(tmp_path / "full") == ["README.md", "recipe.json"]
    built(toffee, *arguments)
    built(toffee, *build_arguments(flat, photos, "roomy"))
    assert parquet(tmp_path / "full") == parquet(tmp_path / "roomy")


def test_a_pair_that_fails_is_counted_with_its_message(flat, photos, tmp_path, toffee):
    built(toffee, *build_arguments(flat, photos, "out", name="buggy"))
    receipts = list(read_receipts(tmp_path / "out"))
    assert sum(receipt.reasons.get("stage_failed", 0) for receipt in receipts) == 3
    assert any("ValueError: seven" in message for receipt in receipts for message in receipt.messages)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_and_says_how_to_go_on(flat, photos, tmp_path, number, status, toffee):
    arguments = build_arguments(flat, photos, "out", pairs=400, workers=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "builder.cli", *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FLAT_PAUSE_S": "0.1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job may run with it ignored
    )
    while not list((tmp_path / "out").glob("receipts/[0-9a-f]*.json")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=120)  # it writes the report
    assert process.returncode == status
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert not [path for path in (tmp_path / "out").rglob(".*")]
    assert "pairs tried were kept" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_record_tells_what_was_asked(flat, photos, tmp_path, toffee):
    (photos / "mug" / "bad.jpg").write_bytes(b"")
    done = built(toffee, *build_arguments(flat, photos, "out", license="cc-by-4.0"))
    record = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert record["skipped"] == [{"file": "mug/bad.jpg", "reason": "empty"}]
    assert record["licences"]["subjects"] == "cc-by-4.0"
    assert [(run["seed"], run["pairs"]) for run in record["runs"]] == [(0, 22)]
    assert "'mug/bad.jpg': empty" in done.stderr
