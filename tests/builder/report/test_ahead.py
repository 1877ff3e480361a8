"""How far a run is, from its receipts alone."""

from __future__ import annotations

import dataclasses

import pytest

from builder.report.ahead import ahead, ahead_line
from builder.report.statistics import read_statistics
from tests.builder.report.made_folder import make_folder


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Two of four shards of five pairs, made one after another in 21 s each; 20 pairs were asked for."""
    output = make_folder(tmp_path_factory.mktemp("ahead") / "out", {"generation": 14, "rejected": 6}, shards=4)
    statistics = read_statistics(output)
    first, second, *_ = statistics.receipts
    later = dataclasses.replace(second, started="2026-01-01T00:00:21+00:00", finished="2026-01-01T00:00:42+00:00")
    return dataclasses.replace(statistics, receipts=(first, later))


def test_rate_and_time_left(half):
    found = ahead(half)
    assert (found.tried, found.asked, found.kept) == (10, 20, half.kept)
    assert found.per_hour == pytest.approx(10 / 42 * 3600) and found.seconds_left == pytest.approx(42)
    assert "10 of 20 pairs are tried (50.0%)" in ahead_line(half) and "857 pairs per hour" in ahead_line(half)


def test_two_workers_at_once_are_twice_as_fast(half):
    first, second = half.receipts
    both = dataclasses.replace(second, started=first.started, finished=first.finished)
    assert ahead(dataclasses.replace(half, receipts=(first, both))).per_hour == pytest.approx(10 / 21 * 3600)


def test_a_pause_of_days_does_not_count(half):
    first, second = half.receipts
    old = dataclasses.replace(first, started="2025-12-01T00:00:00Z", finished="2025-12-01T00:00:21Z")
    assert ahead(dataclasses.replace(half, receipts=(old, second))).per_hour == pytest.approx(5 / 21 * 3600)


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01T00:00:00Z"])
def test_without_times_there_is_no_rate(half, time):
    (first, _) = half.receipts
    only = dataclasses.replace(first, started=time, finished=time)
    statistics = dataclasses.replace(half, receipts=(only,))
    assert ahead(statistics).per_hour is None and "per hour" not in ahead_line(statistics)


def test_nothing_is_said_at_the_end(half, tmp_path):
    assert ahead_line(read_statistics(make_folder(tmp_path / "out", {"generation": 4}))) == ""
    assert ahead_line(dataclasses.replace(half, recipe={})) == ""


def test_before_the_first_shard(half):
    assert "0 of 20 pairs are tried" in ahead_line(dataclasses.replace(half, receipts=()))
