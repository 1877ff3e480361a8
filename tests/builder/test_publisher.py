"""The publisher beside a build: it sends at once, commits seldom, tells when there is no room, ends with the build."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from builder.publisher import Pace, Publisher, local_shards
from builder.receipts import read_receipts
from tests.builder.report.made_folder import make_folder
from toffee_hf.errors import HubError
from toffee_hf.publishing.patience import Patience

QUICK = Pace(every_s=0.2, poll_s=0.01, last_words_s=0.2)
RUN = "0a1b2c3d"


class Told:
    """A publication that notes what it is asked for."""

    def __init__(self, output, keep_local):
        self.output, self.keep_local, self.repository = output, keep_local, SimpleNamespace(patience=Patience())
        self.sent, self.commits, self.done, self.trouble, self.gate = [], [], False, None, threading.Event()
        self.gate.set()

    def waiting(self):
        return list(read_receipts(self.output))

    def send(self, receipt):
        self.sent.append(receipt.shard)

    def publish(self, receipts, done=False):
        if self.trouble:
            raise self.trouble
        self.gate.wait()
        self.commits.append([receipt.shard for receipt in receipts])
        self.done = done


@pytest.fixture
def made(tmp_path):
    """A folder of eight finished shards, and a publisher that finds none of them yet."""
    output = make_folder(tmp_path / "out", {"rejected": 16}, shards=8)

    def make(keep_local=True, shards=8, most_local=4, pace=QUICK):
        publication = Told(output, keep_local)
        publisher = Publisher(publication, shards, most_local, pace)
        publisher.begin((RUN, number) for number in range(8))
        return publisher, publication

    return make


def eventually(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_first_shard_is_committed_at_once_and_the_rest_in_batches(made):
    publisher, told = made(shards=2 * 48)
    publisher.made(RUN, 0)
    eventually(lambda: told.commits == [[0]])
    with publisher._lock:               # it does not look before all three are there
        publisher._waiting |= {it.name: it for it in told.waiting() if it.shard in (1, 2, 3)}
    eventually(lambda: told.commits == [[0], [1, 2, 3]])
    publisher.made(RUN, 4)
    eventually(lambda: told.sent == [0, 1, 2, 3, 4])
    time.sleep(0.4)
    assert len(told.commits) == 2, "one shard is no batch"
    publisher.finish()
    assert (told.commits[2:], told.done) == ([[4]], True)


def test_older_versions_of_shards_to_come_are_not_published(made):
    publisher, told = made()
    publisher.finish()
    assert told.sent == [] and told.commits == [[]]


def test_there_is_room_until_the_disk_holds_as_much_as_it_may(made):
    publisher, told = made(keep_local=False)
    told.gate.clear()                                   # the Hub is slow
    assert publisher.room(3) and not publisher.room(4)
    for number in (0, 1):
        publisher.made(RUN, number)
    assert publisher.room(1) and not publisher.room(2)
    told.gate.set()
    eventually(lambda: publisher.room(3))
    assert told.commits == [[0, 1]]
    publisher.finish()


@pytest.mark.parametrize(("shards", "local"), [(1, 4), (96, 4), (200, 4), (201, 10), (1000, 42), (9999, 200)])
def test_a_long_run_takes_few_commits_and_little_disk(tmp_path, shards, local):
    told, most_local = Told(tmp_path, keep_local=False), local_shards(shards, workers=2)
    publisher = Publisher(told, shards, most_local)
    for number in range(shards):
        assert publisher.room(0)
        publisher._waiting[str(number)] = SimpleNamespace(name=str(number), shard=number)
        publisher._step()
    publisher.publication.publish([], done=True)
    assert most_local == local and len(told.commits) <= (101 if shards <= 200 else max(60, 1 + shards / 100))


def test_a_slow_run_says_for_how_long_no_commit_need_come(tmp_path):
    publisher = Publisher(Told(tmp_path, True), shards=3907, most_local=4)
    publisher._begun, publisher._made = publisher._begun - 7200, 10
    assert publisher.batch == 82 and publisher._silence() == pytest.approx(3 * 82 * 720, rel=0.01)
    publisher._made = 7200
    assert publisher._silence() == 3600


def test_a_folder_that_stays_has_always_room(made):
    publisher, told = made()
    told.trouble = HubError("the Hub says no")
    for number in range(8):
        publisher.made(RUN, number)
    eventually(lambda: publisher.trouble)
    assert publisher.room(100), "shards are made, though nothing is published"
    with pytest.raises(HubError, match="says no"):
        publisher.finish()


def test_without_room_to_come_the_build_ends(made):
    publisher, told = made(keep_local=False)
    told.trouble = HubError("the Hub says no")
    publisher.made(RUN, 0)
    publisher.made(RUN, 1)
    eventually(lambda: publisher.trouble)
    with pytest.raises(HubError, match="says no"):
        publisher.room(0)


def test_an_interrupted_build_waits_for_nothing(made):
    publisher, told = made()
    told.gate.clear()
    publisher.made(RUN, 0)
    eventually(lambda: told.sent)
    began = time.monotonic()
    publisher.abandon()
    assert time.monotonic() - began < 60 and not told.done
    told.gate.set()


def test_waiting_for_the_hub_ends_with_the_build(made):
    publisher, told = made()
    waited = threading.Event()

    def send(receipt):
        waited.set()
        told.repository.patience.sleep(600)

    told.send = send
    publisher.made(RUN, 0)
    assert waited.wait(120)
    began = time.monotonic()
    publisher.finish()
    assert time.monotonic() - began < 300 and told.commits == [[0]]
