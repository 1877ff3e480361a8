"""The default transport, Xet: the real client and its `hf_xet`, in processes of their own."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pytest

from tests.hub_stand_in import Fault, Hub, cut_download, dropped, lost_reply, rate_limited, status
from tests.hub_stand_in.xet import Chunk, chunks_of, content

UPLOAD = """
from huggingface_hub import HfApi
HfApi().create_repo("org/toffee", repo_type="dataset", exist_ok=True)
HfApi().upload_folder(repo_id="org/toffee", folder_path="folder", repo_type="dataset")
"""
DOWNLOAD = """
from huggingface_hub import snapshot_download
snapshot_download("org/toffee", repo_type="dataset", local_dir="got")
"""


@pytest.fixture
def folder(hub: Hub) -> Path:
    """Noise, text and numbers: each is compressed in another way."""
    folder = hub.folder / "folder"
    folder.mkdir()
    draw = random.Random(0)
    (folder / "noise.parquet").write_bytes(draw.randbytes(1_000_000))
    (folder / "words.parquet").write_bytes(b" ".join(draw.choices([b"mug", b"duck", b"\0"], k=100_000)))
    (folder / "numbers.parquet").write_bytes(b"".join((3 * i).to_bytes(4, "little") for i in range(60_000)))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def run(hub: Hub, code: str, **environment: str) -> None:
    done = hub.python(code, **environment)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_folder_arrives_and_comes_back(hub: Hub, folder: Path) -> None:
    run(hub, UPLOAD)
    assert hub.count("lfs-batch") == 0 and hub.count("xet-shard") == hub.count("commit") == 1
    for file in folder.iterdir():
        assert hub.content("org/toffee", file.name) == file.read_bytes()
    xorbs = list(hub.store.xorbs.iterdir())
    assert {chunk.compression for xorb in xorbs for chunk in chunks_of(xorb)} == {0, 1, 2}

    run(hub, DOWNLOAD)
    assert hub.count("xet-range", 206) >= 1 and hub.count("download") == 0
    run(hub, DOWNLOAD.replace("got", "plain"), HF_HUB_DISABLE_XET="1", HF_HUB_CACHE="cache")
    assert hub.count("download", 200) == 3
    for file in folder.iterdir():
        assert (hub.folder / "got" / file.name).read_bytes() == file.read_bytes()
        assert (hub.folder / "plain" / file.name).read_bytes() == file.read_bytes()


def test_a_second_upload_makes_no_commit_and_sends_no_content(hub: Hub, folder: Path) -> None:
    run(hub, UPLOAD + UPLOAD)
    assert hub.count("commit") == hub.count("xet-xorb") == 1
    run(hub, UPLOAD)
    assert hub.count("commit") == hub.count("xet-xorb") == 1


@pytest.mark.parametrize("fault", [
    lost_reply(), *(pytest.param(fault, marks=pytest.mark.slow) for fault in (status(503), rate_limited(0), dropped())),
], ids=lambda fault: fault.name)
def test_an_upload_survives_one_fault_in_each_call(hub: Hub, folder: Path, fault: Fault) -> None:
    for kind in ("preupload", "xet-token", "xet-xorb", "xet-shard", "commit"):
        hub.faults.inject(kind, fault)
    run(hub, UPLOAD)
    assert hub.content("org/toffee", "noise.parquet") == (folder / "noise.parquet").read_bytes()
    made = [commit.title for commit in hub.repository("org/toffee").history(hub.repository("org/toffee").head)]
    assert len(made) == (3 if fault == lost_reply() else 2), "the client repeats a commit whose answer is lost"


def test_a_download_survives_a_cut(hub: Hub, folder: Path) -> None:
    run(hub, UPLOAD)
    hub.faults.inject("xet-range", cut_download(50_000))
    run(hub, DOWNLOAD)
    assert (hub.folder / "got" / "noise.parquet").read_bytes() == (folder / "noise.parquet").read_bytes()
    assert hub.count("xet-range") > 1


def test_a_stranger_gets_no_token_to_write(hub: Hub, folder: Path) -> None:
    hub.api().create_repo("org/toffee", repo_type="dataset")
    done = hub.python(UPLOAD, hub.stranger)
    assert done.returncode == 1 and "403 Forbidden" in done.stderr and hub.count("xet-xorb") == 0


@pytest.mark.parametrize("size", range(7, 13))
def test_bytes_are_put_back_in_their_order(tmp_path: Path, size: int) -> None:
    plain = bytes(range(size))
    stored = pyarrow.compress(b"".join(plain[offset::4] for offset in range(4)), codec="lz4", asbytes=True)
    (tmp_path / "xorb").write_bytes(b"\0" * 8 + stored)
    assert b"".join(content(tmp_path / "xorb", (Chunk(0, 8 + len(stored), 2, size),))) == plain
