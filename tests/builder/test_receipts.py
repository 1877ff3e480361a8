"""A damaged receipt is none: its shard is not done, and is made again."""

import json

import pytest

from builder.receipts import has_receipt, read_receipts, receipt_path
from builder.sweep import sweep
from tests.builder.report.made_folder import make_folder

RUN = "0a1b2c3d"
DAMAGE = {
    "cut": lambda found: json.dumps(found)[:100],
    "empty": lambda found: "",
    "deep": lambda found: "[" * 100_000,
    "list": lambda found: [],
    "rows": lambda found: {**found, "rows": []},
    "counts": lambda found: {**found, "reasons": {"view_mismatch": "many"}},
    "files": lambda found: {**found, "files": [{"config": "editing"}]},
    "file": lambda found: {**found, "files": [{**found["files"][0], "bytes": None}]},
    "missing": lambda found: {key: value for key, value in found.items() if key != "device"},
}


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toffee", {"generation": 2, "rejected": 2})


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_receipt_is_none(folder, name):
    path = receipt_path(folder, RUN, 1)
    damaged = DAMAGE[name](json.loads(path.read_text()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    assert [receipt.shard for receipt in read_receipts(folder)] == [0]
    assert (has_receipt(folder, RUN, 0), has_receipt(folder, RUN, 1)) == (True, False)
    sweep(folder)
    assert not path.exists()
    assert not list(folder.rglob("train-*-00001.parquet"))
    assert list(folder.rglob("train-*-00000.parquet"))


def test_a_receipt_that_cannot_be_read_now_keeps_its_files(folder):
    path = receipt_path(folder, RUN, 1)
    path.unlink()
    path.mkdir()  # reading it is an OSError
    before = sorted(folder.rglob("*.parquet"))
    sweep(folder)
    assert sorted(folder.rglob("*.parquet")) == before
