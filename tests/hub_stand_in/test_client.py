"""The real `huggingface_hub`, in this process, against the stand-in."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_stand_in import Hub

SHARD = b"PAR1\0" + bytes(range(256)) * 40
CARD = b"---\nlicense: apache-2.0\ntags: [toffee]\n---\n# A card\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A card, a small text file in a folder and two shards."""
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_bytes(CARD)
    (folder / "data" / "notes.txt").write_text("hello")
    for number in range(2):
        (folder / "data" / f"{number}.parquet").write_bytes(SHARD + bytes([number]))
    return folder


def published(hub: Hub, folder: Path, repo_type: str = "dataset") -> Hub:
    hub.api().create_repo("org/toffee", repo_type=repo_type, space_sdk="gradio" if repo_type == "space" else None)
    hub.api().upload_folder(repo_id="org/toffee", folder_path=folder, repo_type=repo_type)
    return hub


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_folder_arrives_and_comes_back(hub: Hub, folder: Path, tmp_path: Path, repo_type: str) -> None:
    published(hub, folder, repo_type)
    assert hub.content("org/toffee", "data/1.parquet", repo_type) == SHARD + b"\1"
    got = snapshot_download("org/toffee", repo_type=repo_type, endpoint=hub.endpoint, token=hub.read,
                            cache_dir=tmp_path / "cache")
    for file in filter(Path.is_file, folder.rglob("*")):
        assert (Path(got) / file.relative_to(folder)).read_bytes() == file.read_bytes()


def test_a_second_upload_makes_no_commit_and_sends_no_bytes(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    before = {kind: hub.count(kind) for kind in ("commit", "lfs-put")}
    assert before == {"commit": 1, "lfs-put": 2}
    told = hub.api().upload_folder(repo_id="org/toffee", folder_path=folder, repo_type="dataset")
    assert {kind: hub.count(kind) for kind in before} == before
    assert told.oid == hub.repository("org/toffee").head.id


def test_a_large_object_known_to_the_repository_is_not_sent_again(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    hub.api().upload_file(path_or_fileobj=SHARD + b"\0", path_in_repo="again.parquet", repo_id="org/toffee",
                          repo_type="dataset")
    assert hub.count("lfs-put") == 2 and hub.count("commit") == 2
    assert hub.content("org/toffee", "again.parquet") == SHARD + b"\0"


def test_trees_have_hashes_and_pages(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    hub.store.page_size = 2
    tree = list(hub.api().list_repo_tree("org/toffee", repo_type="dataset", recursive=True))
    assert [entry.path for entry in tree] == [".gitattributes", "README.md", "data", "data/0.parquet",
                                              "data/1.parquet", "data/notes.txt"]
    assert hub.count("tree") == 3
    assert tree[3].lfs.sha256 == hashlib.sha256(SHARD + b"\0").hexdigest() and tree[3].size == len(SHARD) + 1
    assert tree[5].lfs is None and tree[5].size == 5
    (folder_,) = [entry for entry in hub.api().list_repo_tree("org/toffee", repo_type="dataset", expand=True)
                  if entry.path == "data"]
    assert folder_.last_commit.oid == hub.repository("org/toffee").head.id
    (info,) = hub.api().get_paths_info("org/toffee", ["data/0.parquet", "nothing"], repo_type="dataset")
    assert info.lfs.sha256 == tree[3].lfs.sha256


def test_descriptions(hub: Hub, folder: Path) -> None:
    api = published(hub, folder).api()
    info = api.dataset_info("org/toffee", files_metadata=True)
    assert info.card_data["license"] == "apache-2.0" and info.tags == ["toffee"] and not info.private
    assert {one.rfilename: one.size for one in info.siblings}["data/notes.txt"] == 5
    assert api.whoami()["orgs"][0]["name"] == "org"
    assert api.repo_exists("org/toffee", repo_type="dataset") and not api.repo_exists("org/toffee")
    assert [one.title for one in api.list_repo_commits("org/toffee", repo_type="dataset")][-1] == "initial commit"


def test_a_revision_stays_what_it_was(hub: Hub, folder: Path, tmp_path: Path) -> None:
    api = published(hub, folder).api()
    api.create_tag("org/toffee", tag="v1", repo_type="dataset")
    api.create_branch("org/toffee", branch="next", repo_type="dataset")
    changed = api.create_commit("org/toffee", repo_type="dataset", commit_message="change", operations=[
        CommitOperationAdd("README.md", b"new"), CommitOperationDelete("data/0.parquet")])
    def read(revision: str) -> bytes:
        return Path(hf_hub_download("org/toffee", "README.md", repo_type="dataset", revision=revision,
                                    endpoint=hub.endpoint, cache_dir=tmp_path / "cache")).read_bytes()
    assert read("v1") == read("next") == CARD and read(changed.oid) == read("main") == b"new"
    refs = api.list_repo_refs("org/toffee", repo_type="dataset")
    assert [one.name for one in refs.tags] == ["v1"] and [one.name for one in refs.branches] == ["main", "next"]
    assert not api.file_exists("org/toffee", "data/0.parquet", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("org/toffee", tag="v1", repo_type="dataset")


def test_a_commit_upon_an_old_parent_is_refused(hub: Hub, folder: Path) -> None:
    api = published(hub, folder).api()
    parent = api.repo_info("org/toffee", repo_type="dataset").sha
    def commit(content: bytes) -> None:
        api.create_commit("org/toffee", [CommitOperationAdd("a.txt", content)], commit_message="a", repo_type="dataset",
                          parent_commit=parent)
    commit(b"1")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        commit(b"2")
    assert caught.value.response.status_code == 412
    assert hub.content("org/toffee", "a.txt") == b"1"


def test_a_commit_is_whole_or_not_at_all(hub: Hub, folder: Path) -> None:
    api = published(hub, folder).api()
    before = hub.repository("org/toffee").head
    with pytest.raises(EntryNotFoundError, match="with this name doesn't exist"):
        api.create_commit("org/toffee", [CommitOperationAdd("a.txt", b"1"), CommitOperationDelete("nothing")],
                          commit_message="a", repo_type="dataset")
    assert hub.repository("org/toffee").head is before


def test_who_may_not_write_reads_why(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    def refusal(token: str | None, repo_id: str = "org/toffee") -> tuple[int, str]:
        with pytest.raises(HfHubHTTPError) as caught:
            hub.api(token).create_repo(repo_id, repo_type="dataset")
        return caught.value.response.status_code, str(caught.value)
    assert refusal(None)[0] == refusal("hf_wrong")[0] == 401
    assert refusal(hub.write)[0] == 409 and "You already created this dataset repo" in refusal(hub.write)[1]
    for token, repo_id in ((hub.read, "org/other"), (hub.stranger, "org/other"), (hub.write, "nowhere/other")):
        status, text = refusal(token, repo_id)
        assert status == 403 and f'under the namespace "{repo_id.split("/")[0]}"' in text
    for token, status in ((hub.read, 403), (hub.stranger, 403), (None, 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            hub.api(token).upload_folder(repo_id="org/toffee", folder_path=folder, repo_type="dataset")
        assert caught.value.response.status_code == status
    assert hub.api().create_repo("org/toffee", repo_type="dataset", exist_ok=True).repo_id == "org/toffee"


def test_what_is_not_there_has_its_own_errors(hub: Hub, folder: Path, tmp_path: Path) -> None:
    published(hub, folder)
    def download(repo_id: str, name: str, revision: str, token: str | bool) -> None:
        hf_hub_download(repo_id, name, repo_type="dataset", revision=revision, endpoint=hub.endpoint, token=token,
                        cache_dir=tmp_path / "cache")
    for token in (hub.write, False):
        with pytest.raises(RepositoryNotFoundError):
            download("org/nothing", "README.md", "main", token)
    with pytest.raises(RevisionNotFoundError):
        download("org/toffee", "README.md", "v9", False)
    with pytest.raises(EntryNotFoundError):
        download("org/toffee", "nothing", "main", False)


def test_private_and_gated_repositories_are_for_members(hub: Hub, folder: Path) -> None:
    api = published(hub, folder).api()
    api.update_repo_settings("org/toffee", repo_type="dataset", private=True)
    assert hub.api(hub.read).repo_exists("org/toffee", repo_type="dataset")
    for token in (hub.stranger, None):
        assert not hub.api(token).repo_exists("org/toffee", repo_type="dataset")
    api.update_repo_settings("org/toffee", repo_type="dataset", private=False, gated="auto")
    with pytest.raises(GatedRepoError):
        list(hub.api(hub.stranger).list_repo_tree("org/toffee", repo_type="dataset"))
    api.delete_repo("org/toffee", repo_type="dataset")
    assert not api.repo_exists("org/toffee", repo_type="dataset")


def test_a_pull_request_leaves_main_alone(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    before = hub.repository("org/toffee").head
    told = hub.api(hub.stranger).create_commit("org/toffee", [CommitOperationAdd("a.txt", b"1")], commit_message="a",
                                               repo_type="dataset", create_pr=True)
    assert told.pr_url.endswith("/datasets/org/toffee/discussions/1")
    assert hub.repository("org/toffee").head is before
    assert hub.api().file_exists("org/toffee", "a.txt", repo_type="dataset", revision="refs/pr/1")


@pytest.mark.parametrize(("repo_type", "metadata", "told"), [
    ("dataset", "license: Apache-2.0", '"license" must be one of'),
    ("dataset", "size_categories: [5]", '"size_categories" must be one of'),
    ("model", "base_model: ./here/it/is", '"base_model" with value "./here/it/is" is not valid'),
    ("model", "datasets: [/data/toffee]", r'"datasets\[0\]" with value "/data/toffee" is not valid'),
    ("model", "a: [", "Error in metadata"),
    ("space", "sdk: gradio\ncolorFrom: teal", '"colorFrom" must be one of'),
    ("space", f"sdk: gradio\nshort_description: {'a' * 61}", "less than or equal to 60 characters"),
])
def test_a_card_that_the_hub_would_not_take(hub: Hub, repo_type: str, metadata: str, told: str) -> None:
    hub.api().create_repo("org/toffee", repo_type=repo_type, space_sdk="gradio" if repo_type == "space" else None)
    card = f"---\n{metadata}\n---\n".encode()
    with pytest.raises(ValueError, match=told):
        hub.api().create_commit("org/toffee", [CommitOperationAdd("README.md", card)], commit_message="card",
                                repo_type=repo_type)
    assert hub.count("commit") == 0


def test_a_space_remembers_what_was_asked_of_it(hub: Hub) -> None:
    api = hub.api()
    api.create_repo("org/toffee", repo_type="space", space_sdk="gradio")
    api.request_space_hardware("org/toffee", "t4-small")
    api.add_space_variable("org/toffee", "MODEL", "org/toffee-editor")
    assert api.get_space_runtime("org/toffee").hardware == "t4-small"
    assert api.get_space_variables("org/toffee")["MODEL"].value == "org/toffee-editor"
    info = api.space_info("org/toffee")
    assert info.sdk == "gradio" and info.runtime.hardware == "t4-small"
    assert info.card_data["app_file"] == "app.py"


def test_commits_at_the_same_time_all_count(hub: Hub) -> None:
    hub.api().create_repo("org/toffee", repo_type="dataset")
    def commit(number: int) -> None:
        hub.api().create_commit("org/toffee", [CommitOperationAdd(f"{number}.txt", b"1")], commit_message="a",
                                repo_type="dataset")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(16)))
    assert len(hub.repository("org/toffee").history(hub.repository("org/toffee").head)) == 17
    assert len(hub.repository("org/toffee").files) == 17
