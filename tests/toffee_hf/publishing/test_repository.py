"""A repository is whole or not there, never on top of something else, and holds no pickle."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from toffee_hf.errors import DiskFull, InputError
from toffee_hf.publishing.repository import files_of, new_repository

ROOT = Path(__file__).parents[3]


def fill(folder: Path, text: str = "{}") -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(text)
    (folder / "README.md").write_text("a card")


def test_the_files_are_listed_by_path_with_their_sizes(tmp_path):
    fill(tmp_path)
    found = files_of(tmp_path)
    assert [(file.path, file.size) for file in found] == [("README.md", 6), ("unet/config.json", 2)]
    assert found[1].source.read_text() == "{}"


@pytest.mark.parametrize("name", ["weights.bin", "weights.safetensors", "config.json", "examples/picture.png"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_found_whatever_its_name(tmp_path, name, how):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({"a": 1}))
    if how == "torch":
        torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="pickle|no kind of file"):
        files_of(tmp_path)


def test_a_link_is_no_file_of_a_repository(tmp_path):
    (tmp_path / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="not a plain file"):
        files_of(tmp_path)


def test_a_repository_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "model"
    with new_repository(target) as part:
        fill(part)
        assert not target.exists()
    assert (target / "README.md").read_text() == "a card"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    with new_repository(tmp_path / "model") as part:
        (tmp_path / "model").mkdir()
        fill(part)
    assert len(files_of(tmp_path / "model")) == 2


@pytest.mark.parametrize("trouble", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(tmp_path, trouble):
    with pytest.raises(type(trouble)), new_repository(tmp_path / "model") as part:
        fill(part)
        raise trouble
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_never_becomes_a_repository(tmp_path):
    with pytest.raises(InputError), new_repository(tmp_path / "model") as part:
        (part / "model.bin").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_such(tmp_path):
    with pytest.raises(DiskFull, match="no space left"), new_repository(tmp_path / "model"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_half_repository(tmp_path):
    code = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from toffee_hf.publishing.repository import new_repository
        with new_repository(Path(sys.argv[1])) as part:
            (part / "README.md").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    target = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", code, target], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with new_repository(target) as part:
        fill(part)
    assert len(files_of(target)) == 2


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_not_ours_stays(tmp_path, replace):
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="not empty"), new_repository(tmp_path, replace) as part:
        fill(part)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="not a folder"), new_repository(tmp_path / "model"):
        pass


def test_a_repository_of_ours_makes_room_if_asked(tmp_path):
    for text in ("old", "new"):
        with new_repository(tmp_path / "model", replace=True) as part:
            (part / "model_index.json").write_text('{"_class_name": ["pipeline_toffee", "ToffeePipeline"]}')
            (part / "README.md").write_text(text)
    assert (tmp_path / "model" / "README.md").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(InputError, match="not empty"), new_repository(tmp_path / "model"):
        pass


def test_permissions_are_those_of_new_files(tmp_path):
    with new_repository(tmp_path / "model") as part:
        fill(part)
        (part / "README.md").chmod(0o600)
    (tmp_path / "file").touch()
    assert (tmp_path / "model" / "README.md").stat().st_mode == (tmp_path / "file").stat().st_mode
