"""Each kind of fault, as the real client meets it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitOperationAdd, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from tests.hub_stand_in import (
    Fault,
    Faults,
    Hub,
    conflict,
    cut_download,
    cut_upload,
    dropped,
    lost_reply,
    rate_limited,
    retry_after,
    slow,
    status,
)

SHARD = b"PAR1\0" + bytes(range(256)) * 400


@pytest.fixture
def hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """With a repository, and a client whose waits are counted but not slept."""
    hub.api().create_repo("org/toffee", repo_type="dataset")
    hub.waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=hub.waits.append))
    return hub


def commit(hub: Hub, content: bytes = SHARD, path: str = "0.parquet", **more: str) -> None:
    hub.api().create_commit("org/toffee", [CommitOperationAdd(path, content)], commit_message="a", repo_type="dataset",
                            **more)


def download(hub: Hub, folder: Path) -> bytes:
    return Path(hf_hub_download("org/toffee", "0.parquet", repo_type="dataset", endpoint=hub.endpoint,
                                cache_dir=folder / "cache")).read_bytes()


@pytest.mark.parametrize("fault", [status(500), status(503), rate_limited(), conflict()], ids=lambda fault: fault.name)
def test_a_refused_commit_raises_at_once_and_does_nothing(hub: Hub, fault: Fault) -> None:
    hub.faults.inject("commit", fault)
    with pytest.raises(HfHubHTTPError) as caught:
        commit(hub)
    assert caught.value.response.status_code == fault.status and "0.parquet" not in hub.repository("org/toffee").files
    commit(hub)
    assert [one.status for one in hub.requests if one.kind == "commit"] == [fault.status, 200]


@pytest.mark.parametrize("kind", ["preupload", "lfs-batch", "lfs-put", "lfs-verify"])
@pytest.mark.parametrize("fault", [status(503), rate_limited(2), retry_after(2), dropped(), lost_reply()],
                         ids=lambda fault: fault.name)
def test_the_client_tries_the_other_calls_again(hub: Hub, kind: str, fault: Fault) -> None:
    hub.faults.inject(kind, fault, times=2)
    commit(hub)
    assert hub.count(kind) == 3 and hub.content("org/toffee", "0.parquet") == SHARD
    assert hub.waits == ([3, 3] if fault.status == 429 else [1, 2])


def test_a_commit_whose_reply_is_lost_was_made(hub: Hub) -> None:
    hub.faults.inject("commit", lost_reply())
    parent = hub.repository("org/toffee").head.id
    with pytest.raises(Exception, match="Server disconnected without sending a response"):
        commit(hub, parent_commit=parent)
    assert hub.content("org/toffee", "0.parquet") == SHARD
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(hub, b"other", parent_commit=parent)
    assert len(hub.repository("org/toffee").commits) == 2


def test_a_dropped_commit_was_not(hub: Hub) -> None:
    hub.faults.inject("commit", dropped())
    with pytest.raises(Exception, match="Server disconnected without sending a response"):
        commit(hub)
    assert "0.parquet" not in hub.repository("org/toffee").files


def test_an_upload_that_is_cut_is_sent_again(hub: Hub) -> None:
    hub.faults.inject("lfs-put", cut_upload(70_000))
    commit(hub)
    first, second = (one for one in hub.requests if one.kind == "lfs-put")
    assert first.status is None and first.received < len(SHARD) == second.received


def test_a_download_that_is_cut_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    commit(hub)
    hub.faults.inject("download", cut_download(70_000))
    assert download(hub, tmp_path) == SHARD
    assert [one.sent for one in hub.requests if one.kind == "download"] == [70_000, len(SHARD)]


def test_a_slow_link_takes_its_time(hub: Hub) -> None:
    hub.faults.inject("lfs-put", slow(500_000))
    began = time.monotonic()
    commit(hub)
    assert time.monotonic() - began > 0.15


def test_a_quota_is_told_and_kept(hub: Hub) -> None:
    hub.quotas.set("api", 2)
    for _ in range(2):
        hub.api().whoami()
    with pytest.raises(HfHubHTTPError, match="hit the rate limit") as caught:
        hub.api().whoami()
    assert caught.value.response.headers["RateLimit-Policy"] == '"fixed window";"api";q=2;w=300'
    assert caught.value.response.headers["RateLimit"].startswith('"api";r=0;t=')
    assert hub.api(hub.read).whoami()["name"] == "ada", "counted per token"


def test_the_client_waits_for_the_next_window(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.quotas.set("api", 1, window_s=2)
    monkeypatch.setattr("huggingface_hub.utils._http.time", time)
    for _ in range(2):
        assert len(list(hub.api().list_repo_tree("org/toffee", repo_type="dataset"))) == 1
    assert [one.status for one in hub.requests if one.kind == "tree"] == [200, 429, 200]


def test_a_fault_meets_only_the_requests_it_was_meant_for() -> None:
    faults = Faults()
    faults.inject("commit", status(500), after=1, times=2, path="org/a")
    drawn = [faults.draw(kind, path) for kind, path in [
        ("commit", "org/a"), ("commit", "org/b"), ("tree", "org/a"), ("commit", "org/a"), ("commit", "org/a"),
        ("commit", "org/a")]]
    assert [fault and fault.status for fault in drawn] == [None, None, None, 500, 500, None]
    faults.inject("xet-*", dropped(), times=None)
    assert faults.draw("xet-xorb", "").drop == "before" and faults.draw("lfs-put", "") is None
    faults.clear()
    assert faults.draw("xet-xorb", "") is None


def test_random_faults_are_those_of_their_seed() -> None:
    def drawn(seed: int) -> list[str]:
        faults = Faults()
        faults.inject_randomly(0.3, [status(500), dropped()], seed=seed)
        return [getattr(faults.draw("commit", ""), "name", "") for _ in range(200)]
    assert drawn(1) == drawn(1) != drawn(2)
    assert 30 < drawn(1).count("") < 170 and {"status 500", "dropped"} <= set(drawn(1))
