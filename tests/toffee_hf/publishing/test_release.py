"""A folder becomes a repository in one commit and one tag, and nothing happens twice."""

from __future__ import annotations

import pytest

from tests import hub_stand_in as wrong
from toffee_hf.errors import InputError
from toffee_hf.publishing.opening import open_repository
from toffee_hf.publishing.patience import Patience
from toffee_hf.publishing.release import changes, next_tag, release
from toffee_hf.publishing.repository import files_of
from toffee_hf.publishing.whose import check_model_is_ours, check_space_is_ours

INDEX = '{"_class_name": ["pipeline_toffee", "ToffeePipeline"]}'


@pytest.fixture
def repository(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return open_repository("org/model", "model", patience=Patience(first_s=0.01, most_s=0.02, total_s=20))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    (place / "unet").mkdir(parents=True)
    (place / "model_index.json").write_text(INDEX)
    (place / "unet" / "weights.safetensors").write_bytes(bytes(1000))
    (place / "README.md").write_text("---\nlicense: mit\n---\nold")
    return place


def test_a_release_is_one_commit_and_one_tag(hub, repository, folder):
    done = release(repository, files_of(folder), "Toffee editor")
    assert done.tag == "v1" and repository.tags() == {"v1": done.commit} and repository.head() == done.commit
    assert repository.files().keys() == {".gitattributes", "README.md", "model_index.json", "unet/weights.safetensors"}
    assert release(repository, files_of(folder), "Toffee editor") == done
    assert hub.count("commit") == hub.count("tag") == 1


def test_the_next_one_changes_what_has_changed(hub, repository, folder):
    first = release(repository, files_of(folder), "Toffee editor")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nnew")
    (folder / "unet" / "weights.safetensors").rename(folder / "unet" / "others.safetensors")
    found = changes(repository, files_of(folder))
    assert [line.split()[-2:] for line in found.lines] == [
        ["changed", "README.md"], ["same", "model_index.json"], ["new", "unet/others.safetensors"],
        ["removed", "unet/weights.safetensors"]]
    second = release(repository, files_of(folder), "Toffee editor")
    assert second.tag == "v2" and changes(repository, files_of(folder)).is_empty
    assert repository.tags() == {"v1": first.commit, "v2": second.commit}
    assert "unet/weights.safetensors" in repository.files("v1")


def test_a_release_may_be_named(repository, folder):
    assert release(repository, files_of(folder), "Toffee editor", "2026-01").tag == "2026-01"
    assert next_tag(repository) == "v1"
    (folder / "README.md").write_text("new")
    with pytest.raises(InputError, match="has a tag 2026-01 on another commit; give another --tag"):
        release(repository, files_of(folder), "Toffee editor", "2026-01")
    assert repository.head() == repository.tags()["2026-01"], "nothing was committed"


@pytest.mark.parametrize("kind", ["commit", "tag", "lfs-put", "tree", "refs", "paths-info"])
@pytest.mark.parametrize("fault", [wrong.status(503), wrong.lost_reply(), wrong.dropped(), wrong.conflict()],
                         ids=lambda fault: fault.name)
def test_faults_change_nothing(hub, repository, folder, kind, fault):
    hub.faults.inject(kind, fault, times=2)
    done = release(repository, files_of(folder), "Toffee editor")
    assert repository.tags() == {"v1": done.commit} and len(list(hub.api().list_repo_commits("org/model"))) == 2


def test_a_kill_before_the_tag_is_made_good(repository, folder, monkeypatch):
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(repository, "tag", lambda *_: 1 / 0)
        release(repository, files_of(folder), "Toffee editor")
    assert repository.tags() == {}
    assert release(repository, files_of(folder), "Toffee editor").tag == "v1"


@pytest.mark.parametrize(("check", "kind"), [(check_model_is_ours, "model"), (check_space_is_ours, "space")])
def test_only_what_is_ours_is_replaced(hub, monkeypatch, check, kind):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    repository = open_repository("org/thing", kind, sdk="gradio" if kind == "space" else None)
    check(repository)
    hub.api().upload_file(path_or_fileobj=b"mine", path_in_repo="thesis.txt", repo_id="org/thing", repo_type=kind)
    with pytest.raises(InputError, match="org/thing is taken: it holds .* and is no .* of ours; give a name that is"):
        check(repository)
    card = "---\ntags: [subject-driven]\nsdk: gradio\n---\n"
    ours = {"model": ("model_index.json", INDEX), "space": ("README.md", card)}[kind]
    hub.api().upload_file(path_or_fileobj=ours[1].encode(), path_in_repo=ours[0], repo_id="org/thing", repo_type=kind)
    check(repository)
