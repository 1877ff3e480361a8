"""Rows that leave the disk stay in the report's pictures as a fair sample."""

from __future__ import annotations

from builder.published import mirror
from builder.receipts import read_receipts, receipt_path
from builder.report import remembered, write_report
from builder.report.remembered import remember, remembered_rows, remembered_scores
from builder.report.samples import drawn_rows, score_rows
from builder.report.statistics import read_statistics
from tests.builder.report.made_folder import make_folder


def leave(output, *numbers):
    """These shards are published, and their files removed."""
    for receipt in read_receipts(output):
        if receipt.shard in numbers:
            remember(output, receipt.files)
            path = receipt_path(output, receipt.run8, receipt.shard)
            (mirror(output) / "receipts").mkdir(parents=True, exist_ok=True)
            (mirror(output) / "receipts" / path.name).write_bytes(path.read_bytes())
            for file in receipt.files:
                (output / file.path).unlink()


def ids(rows):
    return {row.cells["id"] for row in rows}


def test_all_rows_are_drawn_whether_here_or_gone(tmp_path):
    output = make_folder(tmp_path / "out", {"generation": 9, "rejected": 7}, shards=4)
    before = ids(drawn_rows(output, read_statistics(output), "generation", 9))
    scores = sorted(str(cell) for cell in score_rows(output, read_statistics(output), "rejected"))
    leave(output, 1, 3)
    statistics = read_statistics(output)
    assert statistics.away and not statistics.lost
    assert ids(drawn_rows(output, statistics, "generation", 9)) == before
    assert sorted(str(cell) for cell in score_rows(output, statistics, "rejected")) == scores
    leave(output, 0, 2)
    assert ids(drawn_rows(output, read_statistics(output), "generation", 9)) == before
    assert write_report(output) == ()


def test_the_sample_does_not_depend_on_the_order_in_which_files_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "WHOLE", 3)
    monkeypatch.setattr(remembered, "SCORED", 5)
    found = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 2, 0, 3, 1)):
        output = make_folder(tmp_path / str(order), {"generation": 12}, shards=4)
        receipts = list(read_receipts(output))
        for number in order:
            remember(output, receipts[number].files)
        rows = remembered_rows(output, "generation")
        found.append(([row["id"] for row in rows], remembered_scores(output, "generation")["id"].to_pylist()))
        assert all(row["target"]["bytes"] for row in rows)
    assert found[0] == found[1] == found[2]
    whole, scored = found[0]
    assert whole == scored[:3] and len(scored) == 5


def test_nothing_to_remember_is_no_trouble(tmp_path):
    assert remembered_rows(tmp_path, "editing") == [] and remembered_scores(tmp_path, "editing").num_rows == 0
