import shutil

import pytest

from builder.published import mirror, settle_place
from builder.toffee import Toffee
from toffee_hf.errors import InputError


@pytest.fixture
def make(flat, photos, tmp_path):
    def make_builder(config="generation", **options):
        fields = {"recipe": flat("recipe"), "subjects": str(photos), "pairs": 22, "workers": 1,
                  "output": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache")}  # fmt: skip
        return Toffee(config, **{**fields, **options})

    return make_builder


def rows(builder):
    builder.download_and_prepare()
    return builder.as_dataset("train")


def test_configs_share_one_build(make, tmp_path):
    generation = rows(make())
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    editing, rejected = rows(make("editing")), rows(make("rejected"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == made
    assert len(generation) + len(editing) + len(rejected) == 22
    assert editing[0]["mask"].mode == "L"
    assert editing[0]["source"].size == (32, 32)


def test_streaming_builds_what_is_missing_as_it_goes(make, tmp_path):
    streamed = [row["id"] for row in make("rejected").as_streaming_dataset("train")]
    assert streamed == list(rows(make("rejected"))["id"])
    first = next(iter((tmp_path / "out" / "receipts").iterdir()))
    first.unlink()
    assert [row["id"] for row in make("rejected").as_streaming_dataset("train")] == streamed
    assert first.exists()


def test_several_processes_read_the_same_rows(make, tmp_path):
    alone = list(rows(make())["id"])
    shutil.rmtree(tmp_path / "cache")
    builder = make()
    builder.download_and_prepare(num_proc=2)
    assert list(builder.as_dataset("train")["id"]) == alone


def test_fewer_pairs_of_a_longer_run_and_changed_photos_are_other_rows(make, photos, tmp_path):
    every = rows(make())
    fewer = rows(make(pairs=5))
    assert set(fewer["id"]) < set(every["id"])
    (photos / "mug" / "0.png").unlink()
    others = rows(make(output=str(tmp_path / "other")))
    assert not set(others["run"]) & set(every["run"])


def test_a_config_without_rows_says_so(make, flat):
    with pytest.raises(InputError, match="has no generation row"):
        make("generation", recipe=flat("nothing_kept")).download_and_prepare()
    assert list(make("generation", recipe=flat("nothing_kept")).as_streaming_dataset("train")) == []
    assert len(rows(make("rejected", recipe=flat("nothing_kept")))) == 22


def test_what_the_build_refuses_is_said(make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and has no recipe.json"):
        make().download_and_prepare()


def test_shards_that_have_left_for_the_hub_are_not_made_again(make, tmp_path):
    rows(make())
    output = tmp_path / "out"
    settle_place(output, "org/toffee", "main")
    shutil.copytree(output / "receipts", mirror(output) / "receipts")
    for path in output.glob("*/*.parquet"):
        path.unlink()
    with pytest.raises(InputError, match="have left this disk; load_dataset\\('org/toffee'\\) reads them"):
        make("editing").download_and_prepare()
