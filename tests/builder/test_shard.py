import errno
import io
from hashlib import sha256

import pyarrow.parquet as pq
import pytest

from builder import files
from builder.plan import Plan
from builder.receipts import is_done, read_receipt, receipt_path
from builder.recipe_reference import load_recipe
from builder.shard import run_shard
from builder.shard_files import encode_parquet
from builder.subjects import index_subjects
from toffee_hf.errors import DiskFull


def plan(flat, photos, name="recipe", count=8):
    made = load_recipe(flat(name))
    return Plan(made, index_subjects(str(photos), made.size_px), 0, "0123abcd", count)


def rows_of(output, receipt):
    return [row for file in receipt.files for row in pq.read_table(output / file.path).to_pylist()]


def test_a_row_per_pair_and_a_receipt_that_describes_the_files(flat, photos, tmp_path):
    made, output = plan(flat, photos), tmp_path / "out"
    receipt = run_shard(made.recipe, made.shard(1), output, seed=0)
    rows = rows_of(output, receipt)
    assert sorted(row["seed"] for row in rows) == sorted(made.pair(k).seed for k in range(4, 8))
    assert len({row["id"] for row in rows}) == 4
    assert (receipt.first_pair, receipt.last_pair) == (4, 7)
    assert sum(receipt.rows.values()) == sum(receipt.reasons.values()) == 4
    assert receipt.attempts == 4 + sum(receipt.retried.values())
    for file in receipt.files:
        data = (output / file.path).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (file.bytes, file.sha256)
    assert read_receipt(receipt_path(output, "0123abcd", 1)) == receipt
    assert is_done(output, "0123abcd", 1, 4, 7)
    assert not is_done(output, "0123abcd", 1, 4, 8)


def test_rows_are_ordered_and_kept_ones_hold_what_their_config_promises(flat, photos, tmp_path):
    made = plan(flat, photos, count=40)
    for number in range(10):
        receipt = run_shard(made.recipe, made.shard(number), tmp_path, seed=0)
        order = {made.pair(k).seed: k for k in range(40)}
        for file in receipt.files:
            rows = pq.read_table(tmp_path / file.path).to_pylist()
            assert [order[row["seed"]] for row in rows] == sorted(order[row["seed"]] for row in rows)
            for row in rows:
                kept = file.config != "rejected"
                assert (row["scores"]["clip_t"] >= 0.5) == kept
                assert row["attempt"] == 1 or kept
                assert (row.get("source") is not None) == (made.pair(order[row["seed"]]).task == "editing")


def test_the_same_shard_twice_is_the_same_bytes(flat, photos, tmp_path, parquet):
    made = plan(flat, photos)
    for output in (tmp_path / "one", tmp_path / "two"):
        run_shard(made.recipe, made.shard(0), output, seed=0)
    assert parquet(tmp_path / "one") == parquet(tmp_path / "two") != {}


def test_no_file_without_rows(flat, photos, tmp_path):
    made = plan(flat, photos, "nothing_kept")
    receipt = run_shard(made.recipe, made.shard(0), tmp_path / "out", seed=0)
    assert receipt.rows == {"rejected": 4}
    assert receipt.reasons == {"prompt_missed": 4}
    assert receipt.retried == {"prompt_missed": 4}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"rejected", "receipts"}


def test_a_longer_shard_replaces_a_short_one(flat, photos, tmp_path, parquet):
    short, whole = plan(flat, photos, count=2), plan(flat, photos, count=4)
    run_shard(short.recipe, short.shard(0), tmp_path / "grown", seed=0)
    run_shard(whole.recipe, whole.shard(0), tmp_path / "grown", seed=0)
    run_shard(whole.recipe, whole.shard(0), tmp_path / "fresh", seed=0)
    assert len(read_receipt(receipt_path(tmp_path / "grown", "0123abcd", 0)).reasons) >= 1
    assert is_done(tmp_path / "grown", "0123abcd", 0, 0, 3)
    assert sum(r.num_rows for r in map(pq.read_table, (tmp_path / "grown").rglob("*.parquet"))) == 4
    assert set(parquet(tmp_path / "grown")) == set(parquet(tmp_path / "fresh"))


@pytest.mark.parametrize("after", range(0, 4))
def test_a_full_disk_leaves_nothing_half_written(flat, photos, tmp_path, monkeypatch, after):
    made, written, write = plan(flat, photos), [], files._write

    def full(path, data):
        if len(written) == after:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, data)

    monkeypatch.setattr(files, "_write", full)
    receipt = receipt_path(tmp_path / "out", "0123abcd", 0)
    try:
        with pytest.raises(DiskFull, match="no space left"):
            run_shard(made.recipe, made.shard(0), tmp_path / "out", seed=0)
    finally:
        monkeypatch.undo()
    assert not receipt.exists()
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    for path in (tmp_path / "out").rglob("*.parquet"):
        pq.read_table(path)
    run_shard(made.recipe, made.shard(0), tmp_path / "out", seed=0)
    assert receipt.exists()


def test_images_are_plain_and_text_is_compressed(flat, photos, tmp_path):
    made = plan(flat, photos, "nothing_kept")
    receipt = run_shard(made.recipe, made.shard(0), tmp_path, seed=0)
    group = pq.ParquetFile(tmp_path / receipt.files[0].path).metadata.row_group(0)
    leaves = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert leaves["target.bytes"].compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in leaves["target.bytes"].encodings
    assert leaves["prompt"].compression == "ZSTD"


def test_row_groups_are_cut_by_bytes(monkeypatch):
    from builder import shard_files
    from builder.columns import column_names

    def row(k):
        image = {"bytes": bytes(1000), "path": None}
        return {name: None for name in column_names("generation")} | {"id": str(k), "target": image, "reference": image}

    monkeypatch.setattr(shard_files, "ROW_GROUP_BYTES", 5000)
    data, _ = encode_parquet("generation", [row(k) for k in range(7)])
    file = pq.ParquetFile(io.BytesIO(data))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 2, 1]
