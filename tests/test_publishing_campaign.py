"""What publishing has to survive: every kind of fault twenty times, ten kills, a thousand shards, a small disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from builder.cli import main
from builder.publication import Publication
from builder.publisher import Pace, Publisher
from builder.receipts import read_receipts
from tests import hub_stand_in as wrong
from tests.builder.report.made_folder import make_folder
from tests.builder.test_publication import QUICK, check_whole, titles
from tests.conftest import ROOT
from toffee_hf.publishing.opening import open_repository

pytestmark = pytest.mark.slow
TIMES = 20
FAULTS = {
    "429": ("*", wrong.retry_after(0)), "rate limit": ("*", wrong.rate_limited(0)), "500": ("*", wrong.status(500)),
    "503": ("*", wrong.status(503)), "412": ("commit", wrong.conflict()), "cut connection": ("*", wrong.dropped()),
    "cut upload": ("lfs-put", wrong.cut_upload(100)), "lost reply": ("*", wrong.lost_reply()),
    "lost reply of a commit": ("commit", wrong.lost_reply()), "slow link": ("*", wrong.slow(200_000)),
    "cut reply": ("*", wrong.cut_download(5)),
}


@pytest.fixture
def quick(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def check_same(hub, output, name="org/rows"):
    """Every file of the folder is on the Hub with these bytes, once."""
    for path in output.glob("*/train-*.parquet"):
        where = path.relative_to(output).as_posix()
        assert hub.content(name, where) == path.read_bytes()
    data = [path for path in hub.repository(name).files if path.endswith(".parquet")]
    assert len(data) == sum(len(receipt.files) for receipt in read_receipts(output))


@pytest.mark.parametrize("name", FAULTS)
def test_faults_at_random_points(hub, quick, tmp_path, name, monkeypatch):
    monkeypatch.setattr("builder.publication.report_pictures", lambda *_: {"contact_sheet.png": os.urandom(3000)})
    output = make_folder(tmp_path / "out", {"generation": 30, "editing": 20, "rejected": 22}, shards=24)
    publication = Publication(output, open_repository("org/rows", "dataset", patience=QUICK))
    publication.look()
    publication.take_up()
    kind, fault = FAULTS[name]
    hub.faults.inject_randomly(0.9 if kind != "*" else 0.1, [fault], seed=len(name), kind=kind, times=TIMES)
    publisher = Publisher(publication, 24, 4, Pace(every_s=0.0, poll_s=0.01))
    publisher.begin(("0a1b2c3d", number) for number in range(24))
    for number in range(24):
        publisher.made("0a1b2c3d", number)
        while publisher._waiting and publisher.trouble is None:      # a commit for each shard
            time.sleep(0.005)
    publisher.finish()
    happened = sum(one.fault.name == fault.name for one in hub.requests)
    print(f"{name}: {happened} faults in {len(hub.requests)} requests, {len(titles(hub)) - 1} commits")
    hub.faults.clear()
    assert happened == TIMES and check_whole(hub) == 72
    check_same(hub, output)
    receipts = [path for path in hub.repository("org/rows").files if path.startswith("receipts/")]
    assert len(receipts) == 24
    shards = [word for title in titles(hub)[1:] for word in title.split()[:1]]
    assert sum(int(count) for count in shards if count.isdigit()) == 24, "no shard was committed twice"


def start(hub, place, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "builder.cli", *map(str, arguments)], cwd=place, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(**environment)},
    )


@pytest.mark.parametrize("number", range(10))
def test_kills_at_random_moments(hub, photos, flat, tmp_path, number):
    """Even numbers upload by LFS, odd ones by Xet; every other pair keeps nothing on the disk."""
    chance = random.Random(number)
    transport = {"HF_HUB_DISABLE_XET": "1"} if number % 2 == 0 else {}
    keep = "--keep-local" if number % 4 < 2 else "--no-keep-local"
    arguments = ["build", "--recipe", flat("recipe"), "--subjects", "photos", "--pairs", 48, "--output", "out",
                 "--push-to", "org/rows", "--workers", 2, "--license", "cc0-1.0", keep]
    process = start(hub, tmp_path, *arguments, FLAT_PAUSE_S="0.05", **transport)
    kind = chance.choice(["commit", "preupload", "paths-info"])
    goal = 1 if keep == "--keep-local" and kind != "preupload" else chance.randrange(1, 5)
    while hub.count(kind) < goal and process.poll() is None:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.3))
    os.killpg(process.pid, 9)
    process.wait()
    output = tmp_path / "out"
    before = {path.name: path.stat().st_mtime_ns for path in (output / "receipts").glob("[0-9a-f]*.json")}
    commits = len(titles(hub)) - 1
    done = start(hub, tmp_path, *arguments, **transport)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    print(f"kill {number}: at {kind} {goal}, {len(before)} of 12 shards done, {commits} commits made")
    assert check_whole(hub) == 48
    check_same(hub, output)
    after = {path.name: path.stat().st_mtime_ns for path in (output / "receipts").glob("*.json")}
    assert {name: after[name] for name in before} == before, "no finished shard was made again"


@pytest.fixture
def build(hub, quick, photos, flat, tmp_path, monkeypatch):
    """A build of tiny shards in this process, whose publisher is in a hurry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builder.cli.pushed.Publisher", partial(Publisher, pace=Pace(every_s=0.0)))

    def run(pairs, *more):
        return main(["build", "--recipe", flat("singles"), "--subjects", "photos", "--pairs", str(pairs), "--output",
                     "out", "--push-to", "org/rows", "--license", "cc0-1.0", "--workers", "2", *more])

    return run


def test_a_thousand_shards_in_sixty_commits(hub, build, tmp_path):
    began = time.monotonic()
    assert build(1000) == 0
    commits = len(titles(hub)) - 1
    print(f"1,000 shards: {commits} commits, {len(hub.requests)} requests, {time.monotonic() - began:.0f} s")
    assert commits <= 60 and check_whole(hub) == 1000
    check_same(hub, tmp_path / "out")


class Watch(threading.Thread):
    """The most shards, and the most bytes of Parquet, finished or not, that a folder has held."""

    def __init__(self, output: Path) -> None:
        super().__init__(daemon=True)
        self.output, self.shards, self.bytes, self.over = output, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.005):
            sizes: dict[str, int] = {}
            for folder in ("generation", "editing", "rejected"):
                for path in (self.output / folder).glob("[.t]*"):
                    name = path.stem.removeprefix("train-") if path.suffix else path.name.rsplit("-", 1)[0]
                    try:
                        sizes[name] = sizes.get(name, 0) + path.stat().st_size
                    except FileNotFoundError:
                        continue
            self.shards, self.bytes = max(self.shards, len(sizes)), max(self.bytes, sum(sizes.values()))


def test_two_hundred_shards_on_a_disk_for_four(hub, build, tmp_path):
    hub.faults.inject("commit", wrong.late(0.2), times=None)
    watch = Watch(tmp_path / "out")
    watch.start()
    began = time.monotonic()
    assert build(200, "--no-keep-local") == 0
    watch.over.set()
    largest = max(sum(file.bytes for file in receipt.files) for receipt in read_receipts(tmp_path / "out"))
    print(f"200 shards: at most {watch.shards} at once, {watch.bytes:,} bytes of {largest:,} each, "
          f"{len(titles(hub)) - 1} commits, {time.monotonic() - began:.0f} s")
    assert watch.shards <= 4 and watch.bytes <= 4 * largest
    assert check_whole(hub) == 200 and not list((tmp_path / "out").glob("*/train-*.parquet"))


def test_a_build_is_hardly_slower_while_it_publishes(hub, toffee, tmp_path):
    """The same builds, alternately alone and with --push-to; by the wall clock, on a machine that does nothing else."""
    took = {"alone": 0.0, "pushed": 0.0}
    for seed in range(4):
        for way in ("alone", "pushed") if seed % 2 else ("pushed", "alone"):
            more = ["--push-to", f"org/rows-{seed}"] if way == "pushed" else []
            folder = f"{way}-{seed}"
            done = toffee("build", "--recipe", "tiny", "--subjects", "toy:train", "--pairs", 64, "--seed", seed,
                          "--workers", 2, "--output", folder, *more, **hub.environment())
            assert done.returncode == 0, done.stderr
            took[way] += sum(receipt.seconds_total for receipt in read_receipts(tmp_path / folder))
    print(f"seconds of 16 shards: {took['alone']:.1f} alone, {took['pushed']:.1f} published meanwhile")
    assert took["pushed"] <= 1.05 * took["alone"]
