from dataclasses import dataclass, field

import numpy as np
import pytest

from builder.plan import Pair
from builder.stage_runner import ShardLog, run_stages
from builder.subjects import Subject
from toffee_hf.errors import RecipeError, RunError, ToffeeError
from toffee_hf.images import ImageError


@dataclass(frozen=True)
class Bytes:
    data: bytes = b"x"

    def read(self):
        if not self.data:
            raise OSError("it is gone")
        return self.data


def pairs(count, gone=()):
    from builder.subjects import content_hash

    made = []
    for k in range(count):
        subject = Subject(content_hash(b"x"), f"s{k}", "mug", Bytes(b"" if k in gone else b"x"))
        made.append(Pair(k, subject, "generation", "style", "a mug", k))
    return made


@dataclass(frozen=True)
class Fails:
    """Raises `error` for a batch that holds a number of `at`, or is longer than `longest`."""

    error: Exception
    at: tuple = ()
    longest: int = 99
    name: str = "fails"
    reads: frozenset = frozenset()
    writes: frozenset = frozenset({"square"})
    sizes: list = field(default_factory=list)

    def run(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.longest or any(pair.number in self.at for pair in batch.pairs):
            raise self.error
        return batch.with_columns(square=np.array([pair.number**2 for pair in batch.pairs]))


def test_one_bad_pair_costs_only_itself():
    log = ShardLog()
    batch = run_stages([Fails(ValueError("boom"), at=(2,))], pairs(4), 0, log)
    assert batch["square"].tolist() == [0, 1, 9]
    assert [(f.pair.number, f.reason) for f in batch.rejected] == [(2, "stage_failed")]
    assert log.messages == ["pair 2: stage fails: ValueError: boom"]
    assert not log.reduced_batch


def test_a_picture_that_cannot_be_decoded_is_unreadable():
    batch = run_stages([Fails(ImageError("truncated"), at=(0,))], pairs(2), 0, ShardLog())
    assert [f.reason for f in batch.rejected] == ["unreadable"]


def test_a_subject_that_is_gone_or_changed_is_unreadable():
    log, some = ShardLog(), pairs(3, gone=(1,))
    some[2] = Pair(2, Subject("0" * 32, "s2", "mug", Bytes(b"other")), "generation", "style", "a mug", 2)
    batch = run_stages([], some, 0, log)
    assert [(f.pair.number, f.reason) for f in batch.rejected] == [(1, "unreadable"), (2, "unreadable")]
    assert log.left_out == {
        "s1": "unreadable_file: it is gone",
        "s2": "unreadable_file: the picture has changed since it was indexed",
    }


def test_memory_that_runs_out_halves_the_batch():
    class OutOfMemoryError(RuntimeError):
        pass

    stage, log = Fails(OutOfMemoryError(), longest=2), ShardLog()
    batch = run_stages([stage], pairs(7), 0, log)
    assert batch["square"].tolist() == [k**2 for k in range(7)]
    assert log.reduced_batch
    assert stage.sizes == [7, 4, 2, 2, 3, 2, 1]


def test_errors_of_ours_concern_the_run():
    with pytest.raises(ToffeeError, match="no weights"):
        run_stages([Fails(ToffeeError("no weights"), at=(1,))], pairs(3), 0, ShardLog())


@pytest.mark.parametrize("kept", [[0, 1], [2, 1, 0], [0, 0, 1, 2]])
def test_a_stage_may_not_lose_or_move_pairs(kept):
    @dataclass(frozen=True)
    class Loses(Fails):
        def run(self, batch):
            return batch.select(kept)

    with pytest.raises(RecipeError, match="lost or moved pairs"):
        run_stages([Loses(ValueError())], pairs(3), 0, ShardLog())


def test_a_stage_writes_what_it_says():
    @dataclass(frozen=True)
    class Lazy(Fails):
        def run(self, batch):
            return batch

    with pytest.raises(RecipeError, match="says that it writes 'square'"):
        run_stages([Lazy(ValueError())], pairs(3), 0, ShardLog())


@pytest.mark.parametrize(
    ("error", "count", "raised"),
    [
        (ValueError("boom"), 3, True), (ValueError("boom"), 1, False), (ImportError("no driver"), 1, True),
        (OSError(116, "Stale file handle"), 1, True), (MemoryError(), 1, True), (ImageError("truncated"), 3, False),
    ],
)  # fmt: skip
def test_a_stage_that_fails_for_all_is_broken(error, count, raised):
    stage, log = Fails(error, at=tuple(range(count))), ShardLog()
    if raised:
        with pytest.raises(type(error)):
            run_stages([stage], pairs(count), 0, log)
    else:
        assert len(run_stages([stage], pairs(count), 0, log).rejected) == count


def test_errors_of_several_kinds_are_the_pairs_own():
    @dataclass(frozen=True)
    class Differs(Fails):
        def run(self, batch):
            raise [ValueError("a"), TypeError("b")][batch.pairs[-1].number % 2]

    batch = run_stages([Differs(ValueError())], pairs(2), 0, log := ShardLog())
    assert [f.reason for f in batch.rejected] == ["stage_failed"] * 2
    assert log.messages == ["pair 0: stage fails: ValueError: a", "pair 1: stage fails: TypeError: b"]


@pytest.mark.parametrize("number", [2, 5, 116])
def test_subjects_that_are_all_gone_fail_the_shard(number):
    @dataclass(frozen=True)
    class Gone:
        def read(self):
            raise OSError(number, "it is gone", "/home/someone/mug.png")

    gone = [Pair(k, Subject("0", "s", "mug", Gone()), "generation", "style", "a mug", k) for k in range(2)]
    with pytest.raises(RunError, match="subjects cannot be read: it is gone; bring them back"):
        run_stages([], gone, 0, ShardLog())
    assert len(run_stages([], [*gone, *pairs(1)], 0, ShardLog())) == 1


def test_a_picture_that_cannot_be_decoded_is_named_in_the_log():
    @dataclass(frozen=True)
    class Leaves(Fails):
        def run(self, batch):
            return batch.leave_out({0: "truncated"}).with_columns(square=[0] * (len(batch) - 1))

    batch = run_stages([Leaves(ValueError())], pairs(3), 0, log := ShardLog())
    assert (log.left_out, batch.left_out) == ({"s0": "truncated"}, ())
    assert [(f.pair.number, f.reason) for f in batch.rejected] == [(0, "unreadable")]


def test_messages_hold_no_folders():
    log = ShardLog()
    run_stages([Fails(ValueError("cannot open /home/someone/photos/mug.png"), at=(0,))], pairs(2), 0, log)
    assert log.messages == ["pair 0: stage fails: ValueError: cannot open .../mug.png"]


def test_later_stages_are_spared_when_nobody_is_left():
    stage = Fails(ValueError())
    run_stages([Fails(ValueError("all"), at=(0,)), stage], pairs(1), 0, ShardLog())
    assert stage.sizes == []
