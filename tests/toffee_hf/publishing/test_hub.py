"""One repository: a commit is made once whatever answer comes, and never upon what nobody has looked at."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from tests import hub_stand_in as wrong
from toffee_hf.errors import DiskFull, HeadMoved, HubError, HubRefusal, InputError
from toffee_hf.publishing.hub import git_oid
from toffee_hf.publishing.opening import open_repository
from toffee_hf.publishing.patience import Patience

QUICK = Patience(first_s=0.01, most_s=0.02, total_s=20.0)
FAULTS = {
    "429": wrong.retry_after(0), "limit": wrong.rate_limited(0), "500": wrong.status(500), "503": wrong.status(503),
    "412": wrong.conflict(), "dropped": wrong.dropped(), "lost": wrong.lost_reply(), "cut": wrong.cut_upload(20),
    "slow": wrong.slow(20_000), "late": wrong.late(0.2),
}


@pytest.fixture
def quick(monkeypatch):
    """The client's own waits are not waited for."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def repository(hub, monkeypatch, quick):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    return open_repository("org/rows", "dataset", patience=QUICK)


def parquet(tmp_path: Path, text: str = "rows") -> Path:
    path = tmp_path / "rows.parquet"
    path.write_bytes(text.encode() * 500)
    return path


def contents(tmp_path):
    card = b"---\nlicense: mit\n---\n"
    return {"generation/a.parquet": parquet(tmp_path), "README.md": card, "receipts/a.json": b"{}"}


def commits(hub):
    return len(hub.repository("org/rows").history(hub.repository("org/rows").commit_at("main"))) - 1


def test_a_commit_holds_its_files(hub, repository, tmp_path):
    files = contents(tmp_path)
    made = repository.commit(files, "first", repository.head())
    assert repository.head() == made and commits(hub) == 1
    there = repository.files()
    sha256 = hashlib.sha256(files["generation/a.parquet"].read_bytes()).hexdigest()
    assert there["generation/a.parquet"].sha256 == sha256 and there["receipts/a.json"].oid == git_oid(b"{}")
    repository.verify(files, made)
    assert repository.fetch(["receipts/a.json"], made) == {"receipts/a.json": b"{}"}
    assert repository.commit(files, "again", made) == made and commits(hub) == 1, "nothing new makes no commit"


def test_what_is_removed_is_gone(hub, repository, tmp_path):
    made = repository.commit(contents(tmp_path), "first", repository.head())
    made = repository.commit({"receipts/a.json": b"[]"}, "second", made, removed=["generation/a.parquet"])
    assert "generation/a.parquet" not in repository.files(made)


@pytest.mark.parametrize("kind", ["commit", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "validate-yaml"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_a_try_and_nothing_else(hub, repository, tmp_path, kind, name):
    files, parent = contents(tmp_path), repository.head()
    hub.faults.inject(kind, FAULTS[name], times=2)
    repository.verify(files, repository.commit(files, "first", parent))
    assert commits(hub) == 1


def test_bytes_that_were_sent_ahead_are_not_sent_again(hub, repository, tmp_path):
    files = contents(tmp_path)
    repository.send({"generation/a.parquet": files["generation/a.parquet"]})
    repository.commit(files, "first", repository.head())
    assert hub.count("lfs-put") == 1


def test_somebody_elses_commit_is_noticed(hub, repository, tmp_path):
    parent = repository.head()
    hub.api().upload_file(path_or_fileobj=b"hello", path_in_repo="NOTES", repo_id="org/rows", repo_type="dataset")
    with pytest.raises(HeadMoved) as told:
        repository.commit(contents(tmp_path), "first", parent)
    assert told.value.head == repository.head()


def test_what_does_not_pass_is_told_at_once(hub, repository, tmp_path):
    hub.faults.inject("commit", wrong.status(403, "storage limit reached"), times=None)
    with pytest.raises(HubRefusal, match="storage limit reached"):
        repository.commit(contents(tmp_path), "first", repository.head())
    assert hub.count("commit") == 1


def test_patience_ends(hub, repository, tmp_path):
    repository.patience = Patience(first_s=0.01, most_s=0.01, total_s=0.1)
    hub.faults.inject("commit", wrong.status(503), times=None)
    with pytest.raises(HubError, match="503.*patience is at its end; the same command goes on"):
        repository.commit(contents(tmp_path), "first", repository.head())


def test_other_bytes_on_the_hub_are_noticed(repository, tmp_path):
    made = repository.commit(contents(tmp_path), "first", repository.head())
    with pytest.raises(HubError, match=r"does not hold generation/a\.parquet"):
        repository.verify({"generation/a.parquet": parquet(tmp_path, "others")}, made)


def test_a_full_disk_is_no_trouble_of_the_hub_and_not_waited_for(repository, monkeypatch):
    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    repository.patience = Patience(sleep=lambda seconds: pytest.fail("waited"))
    with pytest.raises(DiskFull, match="no space is left on this disk; make room"):
        repository.fetch(["a"], "main")


def test_a_file_of_ours_that_is_gone_is_no_trouble_of_the_hub(repository, tmp_path):
    with pytest.raises(FileNotFoundError):
        repository.commit({"a.parquet": tmp_path / "none"}, "first", repository.head())


def test_a_tag_is_set_once(hub, repository):
    head = repository.head()
    hub.faults.inject("tag", wrong.lost_reply())
    repository.tag("v1", head)
    assert repository.tags() == {"v1": head}
    other = repository.commit({"NOTES": b"x"}, "first", head)
    with pytest.raises(InputError, match="v1 on another commit"):
        repository.tag("v1", other)


def test_no_message_tells_the_token(hub, repository, tmp_path):
    hub.faults.inject("commit", wrong.status(403, f"the token {hub.write} is tired"), times=None)
    with pytest.raises(HubRefusal, match=r"the token \*\*\* is tired") as told:
        repository.commit(contents(tmp_path), "first", repository.head())
    assert hub.write not in str(told.value)
