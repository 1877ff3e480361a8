"""An output folder on the Hub: every commit is whole and true, a kill anywhere is made good, nobody is overwritten."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from builder.publication import MARKER, Publication
from builder.published import is_published, mirror, published_files, published_receipts
from builder.receipts import read_receipts
from builder.report import report_pictures, write_report
from builder.report.samples import drawn_rows
from builder.report.statistics import read_statistics
from tests import hub_stand_in as wrong
from tests.builder.report.made_folder import make_folder
from toffee_hf.errors import InputError, OtherPublisher, RunError
from toffee_hf.publishing.opening import open_repository
from toffee_hf.publishing.patience import Patience

MIXED = {"generation": 9, "editing": 5, "rejected": 7}
QUICK = Patience(first_s=0.01, most_s=0.02, total_s=20.0)


@pytest.fixture
def publish(hub, monkeypatch):
    """Publish what a folder has; returns its publication."""
    monkeypatch.setenv("HF_TOKEN", hub.write)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("builder.publication.report_pictures", lambda *_: {"contact_sheet.png": b"drawn"})

    def taken_up(output, name="org/rows", **options):
        publication = Publication(output, open_repository(name, "dataset", patience=QUICK), **options)
        publication.look()
        publication.take_up()
        return publication

    def run(output, name="org/rows", done=True, **options):
        publication = taken_up(output, name, **options)
        publication.publish(publication.waiting(), done)
        return publication

    run.taken_up = taken_up
    return run


def make(place, seed=0, run8="0a1b2c3d", shards=2, counts=MIXED):
    return make_folder(place, counts, seed=seed, run8=run8, shards=shards)


def head(hub, name="org/rows"):
    return yaml.safe_load(hub.content(name, "README.md").decode().split("---\n")[1])


def titles(hub, name="org/rows"):
    repository = hub.repository(name)
    return [commit.title for commit in reversed(list(repository.history(repository.commit_at("main"))))]


def check_whole(hub, name="org/rows"):
    """Files are those of the receipts, byte for byte, and the card counts them."""
    files = hub.repository(name).files
    receipts = [json.loads(hub.content(name, path)) for path in files if path.startswith("receipts/")]
    told = {file["path"]: file for receipt in receipts for file in receipt["files"]}
    data = {path: entry for path, entry in files.items() if path.endswith(".parquet")}
    assert told.keys() == data.keys()
    assert all(data[path].sha256 == file["sha256"] for path, file in told.items())
    card = head(hub, name)
    rows = {info["config_name"]: info["splits"][0]["num_examples"] for info in card["dataset_info"]}
    assert rows == {config: sum(f["rows"] for f in told.values() if f["config"] == config) for config in rows}
    assert [config["config_name"] for config in card["configs"]] == list(rows)
    assert sum(rows.values()) == sum(file["rows"] for file in told.values())
    return sum(rows.values())


def test_a_folder_becomes_a_repository_that_loads(hub, publish, tmp_path, monkeypatch):
    monkeypatch.setattr("builder.publication.report_pictures", report_pictures)
    made = publish(make(tmp_path / "out"))
    assert hub.content("org/rows", "contact_sheet.png")[:4] == b"\x89PNG"
    assert check_whole(hub) == 21 and len(made.commits) == 1
    assert titles(hub) == ["initial commit", "2 shards of run 0a1b2c3d"]
    assert 'load_dataset("org/rows", "generation"' in hub.content("org/rows", "README.md").decode()
    code = ("from datasets import load_dataset\n"
            "for config in ('generation', 'editing', 'rejected'):\n"
            "    rows = load_dataset('org/rows', config, split='train')\n"
            "    streamed = load_dataset('org/rows', config, split='train', streaming=True)\n"
            "    assert rows['id'] == [row['id'] for row in streamed]\n"
            "    print(len(rows), rows[0]['reference'].size)")
    done = hub.python(code, token=None)
    assert done.stdout.split("\n")[:3] == ["9 (128, 128)", "5 (128, 128)", "7 (128, 128)"], done.stderr


def test_nothing_new_makes_no_commit(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    assert publish(output).commits == [] and len(titles(hub)) == 2


def test_many_shards_go_in_few_commits_each_of_them_whole(hub, publish, tmp_path, monkeypatch):
    monkeypatch.setattr("builder.publication.MOST_SHARDS", 2)
    publication = publish.taken_up(make(tmp_path / "out", shards=5))
    waiting, seen = publication.waiting(), []
    for receipt in waiting:
        publication.publish([receipt])
        seen.append(check_whole(hub))
    assert seen == sorted(seen) and seen[-1] == 21
    publication.publish([], done=True)
    again = publish(make(tmp_path / "again", shards=5), name="org/again")
    assert [title.split(" of ")[0] for title in titles(hub, "org/again")[1:]] == ["2 shards", "2 shards", "1 shard"]
    assert len(again.commits) == 3


def test_the_card_tells_what_is_ahead_until_all_is_there(hub, publish, tmp_path):
    publication = publish.taken_up(make(tmp_path / "out", shards=3))
    first, *rest = publication.waiting()
    publication.publish([first])
    assert "**Being made: 7 of 21 pairs are tried (33.3%), " in hub.content("org/rows", "README.md").decode()
    assert "1,200 pairs per hour lately, 42.0 s to go" in hub.content("org/rows", "README.md").decode()
    assert json.loads(hub.content("org/rows", MARKER))["done"] is False
    versions = [config["version"] for config in head(hub)["configs"]]
    publication.publish(rest, done=True)
    assert "Being made" not in hub.content("org/rows", "README.md").decode()
    assert json.loads(hub.content("org/rows", MARKER)) == {"publisher": publication.place.publisher, "done": True}
    assert not {config["version"] for config in head(hub)["configs"]} & set(versions)


def test_what_leaves_the_disk_is_neither_lost_nor_made_again(hub, publish, tmp_path):
    output = make(tmp_path / "out", shards=4)
    publish(output, keep_local=False)
    assert check_whole(hub) == 21 and not list(output.glob("*/*.parquet"))
    assert len(list(read_receipts(output))) == len(published_receipts(output)) == 4
    statistics = read_statistics(output)
    assert (statistics.lost, len(statistics.away), statistics.tried) == ((), len(published_files(output)), 21)
    assert write_report(output) == ()
    assert 'load_dataset("org/rows"' in (output / "README.md").read_text()
    assert publish(output, keep_local=False).commits == []


def test_a_commit_whose_answer_and_publisher_are_lost_is_known_again(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    shutil.rmtree(mirror(output) / "receipts")        # as if killed between the commit and its note
    again = publish.taken_up(output, keep_local=False)
    assert again.waiting() == [] and not list(output.glob("*/*.parquet"))
    assert len(titles(hub)) == 2


def test_an_empty_folder_takes_up_what_the_hub_has(hub, publish, tmp_path):
    publish(make(tmp_path / "out"))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    publication = publish.taken_up(fresh)
    assert publication.waiting() == [] and len(list(read_receipts(fresh))) == 2
    assert all(is_published(fresh, receipt) for receipt in read_receipts(fresh))
    assert json.loads((fresh / "recipe.json").read_text())["runs"][0]["run8"] == "0a1b2c3d"
    statistics = read_statistics(fresh)
    assert statistics.tried == 21 and len(drawn_rows(fresh, statistics, "generation", 3)) == 3, "some rows are shown"


def test_a_later_run_from_elsewhere_is_put_beside(hub, publish, tmp_path):
    publish(make(tmp_path / "out"))
    publish(make(tmp_path / "other", seed=1, run8="1a1b2c3d", counts={"generation": 4}))
    assert check_whole(hub) == 25
    record = json.loads(hub.content("org/rows", "recipe.json"))
    assert [run["run8"] for run in record["runs"]] == ["0a1b2c3d", "1a1b2c3d"]


def test_a_longer_version_replaces_a_short_one(hub, publish, tmp_path):
    publish(make(tmp_path / "out", shards=1, counts={"generation": 2, "editing": 1}))
    shutil.rmtree(tmp_path / "out" / "editing")
    output = make(tmp_path / "out", shards=1, counts={"generation": 5})
    publish(output)
    assert check_whole(hub) == 5
    assert not [path for path in hub.repository("org/rows").files if path.startswith("editing/")]


def test_what_a_person_removes_meanwhile_is_not_removed_again(hub, publish, tmp_path):
    publish(make(tmp_path / "out", shards=1, counts={"generation": 2, "editing": 1}))
    shutil.rmtree(tmp_path / "out" / "editing")
    publication = publish.taken_up(make(tmp_path / "out", shards=1, counts={"generation": 5}))
    (path,) = [path for path in hub.repository("org/rows").files if path.startswith("editing/")]
    hub.api().delete_file(path, "org/rows", repo_type="dataset")
    publication.publish(publication.waiting(), done=True)
    assert check_whole(hub) == 5


def test_what_is_missing_is_told_by_looking_alone(hub, publish, tmp_path):
    output = make(tmp_path / "out", shards=4)

    def missing():
        publication = Publication(output, open_repository("org/rows", "dataset", patience=QUICK, create=False))
        publication.look()
        before = sorted(path for path in output.rglob("*"))
        found = publication.missing()
        assert sorted(path for path in output.rglob("*")) == before
        return [receipt.shard for receipt in found]

    assert missing() == [0, 1, 2, 3]
    publish(output)
    assert missing() == []
    shutil.rmtree(mirror(output))
    assert missing() == [], "the folder need not know"
    path = next(path for path in hub.repository("org/rows").files if path.endswith("-00002.parquet"))
    hub.api().delete_file(path, "org/rows", repo_type="dataset")
    assert missing() == [2] == [receipt.shard for receipt in publish.taken_up(output).waiting()]
    hub.api().delete_repo("org/rows", repo_type="dataset")
    hub.api().create_repo("org/rows", repo_type="dataset")
    assert missing() == [0, 1, 2, 3]


def test_a_longer_shard_that_is_there_is_not_missing(hub, publish, tmp_path):
    publish(make(tmp_path / "out", shards=1))
    shorter = make(tmp_path / "shorter", shards=1, counts={"generation": 2})
    publication = Publication(shorter, open_repository("org/rows", "dataset", patience=QUICK))
    publication.look()
    assert publication.missing() == [] and len(publication.waiting()) == 1
    publication.take_up()
    assert publication.waiting() == []


def test_a_file_that_somebody_has_removed_there_is_put_back(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    path = next(path for path in hub.repository("org/rows").files if path.startswith("generation/"))
    hub.api().delete_file(path, "org/rows", repo_type="dataset")
    publish(output)
    assert check_whole(hub) == 21


def test_a_persons_own_file_and_edits_are_lived_with(hub, publish, tmp_path):
    publication = publish.taken_up(make(tmp_path / "out"))
    first, second = publication.waiting()
    publication.publish([first])
    hub.api().upload_file(path_or_fileobj=b"hi", path_in_repo="NOTES.txt", repo_id="org/rows", repo_type="dataset")
    publication.publish([second], done=True)
    assert check_whole(hub) == 21 and "NOTES.txt" in hub.repository("org/rows").files


@pytest.mark.parametrize("file", ["data.csv", "README.md", "generation/train-0.parquet", "recipe.json"])
def test_a_repository_with_somebody_elses_files_is_left_alone(hub, publish, tmp_path, file):
    hub.api().create_repo("org/rows", repo_type="dataset")
    hub.api().upload_file(path_or_fileobj=b"[1]", path_in_repo=file, repo_id="org/rows", repo_type="dataset")
    with pytest.raises(InputError, match=f"holds {file} and is no dataset of `toffee build`; give a name that is free"):
        publish(make(tmp_path / "out"))
    assert len(titles(hub)) == 2


def test_rows_of_which_no_receipt_tells_are_refused(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    hub.api().upload_file(path_or_fileobj=b"x", path_in_repo="editing/more.parquet", repo_id="org/rows",
                          repo_type="dataset")
    with pytest.raises(InputError, match=r"holds editing/more\.parquet, of which no receipt tells; remove it there"):
        publish(output)


def test_two_folders_at_once_are_noticed_before_anything_is_made(hub, publish, tmp_path):
    first = publish.taken_up(make(tmp_path / "out"))
    first.publish(first.waiting())
    other = make(tmp_path / "other", seed=1, run8="1a1b2c3d")
    with pytest.raises(InputError, match="another folder publishes run 0a1b2c3d to org/rows now; wait until it is "
                       "done, or for 1:00:00 after its last commit"):
        publish(other)
    first.publish([], done=True)
    publish(other)
    assert check_whole(hub) == 42


def test_a_dead_publisher_is_not_waited_for(hub, publish, tmp_path):
    first = publish.taken_up(make(tmp_path / "out"), silent_s=0)
    first.publish(first.waiting())
    publish(make(tmp_path / "other", seed=1, run8="1a1b2c3d"))
    assert check_whole(hub) == 42


def test_two_folders_that_begin_together_are_noticed_by_the_second_commit(hub, publish, tmp_path):
    first = publish.taken_up(make(tmp_path / "out"))
    second = publish.taken_up(make(tmp_path / "other", seed=1, run8="1a1b2c3d"))
    first.publish(first.waiting())
    with pytest.raises(OtherPublisher, match="another folder has published run 0a1b2c3d to org/rows meanwhile"):
        second.publish(second.waiting())
    assert check_whole(hub) == 21


def test_a_copy_of_the_folder_elsewhere_is_noticed(hub, publish, tmp_path):
    first = publish.taken_up(make(tmp_path / "out", shards=3))
    shutil.copytree(first.output, tmp_path / "copy")
    one, *rest = first.waiting()
    first.publish([one])
    second = publish.taken_up(tmp_path / "copy")
    second.publish(rest[:1])
    with pytest.raises(OtherPublisher, match="meanwhile"):
        first.publish(rest)


def test_a_copy_of_the_folder_is_noticed_after_the_original_is_done(hub, publish, tmp_path):
    first = publish.taken_up(make(tmp_path / "out", shards=4))
    one, *rest = first.waiting()
    first.publish([one])
    second = publish.taken_up(shutil.copytree(first.output, tmp_path / "copy"))
    first.publish(rest, done=True)
    with pytest.raises(OtherPublisher, match="meanwhile"):
        second.publish(second.waiting()[:1])
    check_whole(hub)


def test_a_run_goes_on_upon_what_a_person_has_added_since_its_kill(hub, publish, tmp_path):
    killed = publish.taken_up(make(tmp_path / "out", shards=4))
    killed.publish(killed.waiting()[:1])
    again = publish.taken_up(killed.output)
    hub.api().upload_file(path_or_fileobj=b"hi", path_in_repo="notes.md", repo_id="org/rows", repo_type="dataset")
    again.publish(again.waiting(), done=True)
    check_whole(hub)


@pytest.mark.parametrize("keep_local", [True, False])
def test_another_command_of_the_folder_may_end_between_look_and_lease(hub, publish, tmp_path, keep_local):
    first = publish.taken_up(make(tmp_path / "out", shards=4), keep_local=keep_local)
    one, *rest = first.waiting()
    first.publish([one])
    second = Publication(first.output, open_repository("org/rows", "dataset", patience=QUICK), keep_local)
    second.look()
    first.publish(rest, done=True)
    second.take_up()
    assert second.waiting() == []
    check_whole(hub)


def test_a_damaged_file_that_the_hub_has_whole_may_go(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    path = next(output.glob("generation/*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    publish(output, keep_local=False)
    assert not list(output.glob("*/*.parquet"))
    check_whole(hub)


def test_every_commit_is_told(publish, tmp_path):
    told = []
    publish(make(tmp_path / "out"), say=told.append)
    assert len(told) == 1 and told[0].startswith("org/rows at ") and told[0].endswith(" of run 0a1b2c3d")


def test_a_folder_has_one_place(publish, tmp_path):
    output = make(tmp_path / "out")
    publish(output)
    with pytest.raises(InputError, match=r"is published as org/rows \(branch main\); name that again"):
        publish(output, name="org/others")


def test_a_damaged_file_is_not_published(hub, publish, tmp_path):
    output = make(tmp_path / "out")
    path = next(output.glob("generation/*.parquet"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(RunError, match="is gone or not as in its receipt; remove it"):
        publish(output)
    assert titles(hub) == ["initial commit"]


@pytest.mark.parametrize("kind", ["tree", "info", "resolve", "download", "paths-info", "commit"])
def test_faults_while_a_folder_is_taken_up(hub, publish, tmp_path, kind):
    publish(make(tmp_path / "out"))
    for fault in (wrong.status(500), wrong.dropped(), wrong.cut_download(10), wrong.retry_after(0)):
        hub.faults.inject(kind, fault, times=1)
    publish(make(tmp_path / "other", seed=1, run8="1a1b2c3d"))
    assert check_whole(hub) == 42
