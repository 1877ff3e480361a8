"""Stage 1: broken bytes, unknown pictures and missing subjects fall, each for its reason, and nothing else does."""

import pytest
import torch

from builder.stages.subject import Decode, InDomain, SubjectMask
from tests.builder.stages.conftest import noise


def reasons(batch):
    return [(fallen.pair.number, fallen.reason) for fallen in batch.rejected]


@pytest.mark.parametrize("broken", [b"", b"hello", b"\x89PNG\r\n\x1a\n", None])
def test_broken_bytes_fall_and_their_neighbours_stay(batch, broken):
    made = batch("style", "style", "style")
    data = made["reference_bytes"]
    data[1] = data[1][: len(data[1]) // 2] if broken is None else broken
    done = Decode(size_px=64).run(made.with_columns(reference_bytes=data))
    assert reasons(done) == [(1, "unreadable")]
    assert [pair.number for pair in done.pairs] == [0, 2]
    assert done["reference"].shape == (2, 3, 64, 64) and done["reference"].dtype == torch.uint8
    assert torch.equal(done["reference"][1], Decode(size_px=64).run(made.select([2]))["reference"][0])


def test_a_batch_in_which_nothing_can_be_read_is_empty(batch):
    done = Decode(size_px=64).run(batch("style", "style").with_columns(reference_bytes=[b"", b"x"]))
    assert len(done) == 0 and reasons(done) == [(0, "unreadable"), (1, "unreadable")]


def test_pictures_are_square_and_of_the_recipes_size(batch):
    assert Decode(size_px=32).run(batch("style"))["reference"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("least", "fallen"), [(-1.0, 0), (1.0, 2)])
def test_an_unknown_picture_falls_with_its_score(family, batch, least, fallen):
    done = InDomain(family=family, min_in_domain=least).run(batch("style", "style", reference=noise(2)))
    assert reasons(done) == [(k, "out_of_domain") for k in range(fallen)]
    scores = [item.columns["scores"] for item in done.rejected] + list(done["scores"] if len(done) else [])
    assert len(scores) == 2 and all(-1 <= score["in_domain"] <= 1 for score in scores)


MASKS = {
    "empty": (slice(0, 0), slice(0, 0)), "sound": (slice(20, 44), slice(20, 44)),
    "whole": (slice(None), slice(None)), "edge": (slice(0, 20), slice(None)), "crumb": (slice(5, 7), slice(5, 7)),
}  # fmt: skip


def test_masks_fall_for_their_reason_and_sound_ones_stay(family, batch, monkeypatch):
    drawn = torch.zeros(len(MASKS) + 1, 1, 64, 64)
    for k, (rows, columns) in enumerate(MASKS.values()):
        drawn[k, 0, rows, columns] = 1
    drawn[-1, 0, 10:50:10, 10:40] = 1                  # four pieces
    monkeypatch.setattr("toffee_hf.perception.masks.subject_masks", lambda *_: drawn)
    made = batch(*["style"] * len(drawn), reference=noise(len(drawn)))
    done = SubjectMask(family=family).run(made)
    unsound, none = "reference_unsound", "no_subject"
    assert sorted(reasons(done)) == [(0, none), (2, unsound), (3, unsound), (4, none), (5, unsound)]
    assert [pair.number for pair in done.pairs] == [1]
    assert torch.equal(done["reference_mask"][0] > 0, drawn[1, 0] > 0)
    assert torch.equal(done["reference"], made["reference"][1:2])
    assert all("reference_mask" in fallen.columns for fallen in done.rejected)
