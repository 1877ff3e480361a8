"""A very small pool of toy pictures at the size the examples are made at, encoded by the random family."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.toffee_hf.training.in_process import InProcess
from toffee_hf.family import Family
from toffee_hf.training import pool as module
from toffee_hf.training.pool import Pool, encode_pool, render_pool


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Pool:
    """Twelve pictures of 128 pixels: three subjects in four shots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ProcessPoolExecutor", InProcess)
        pool = render_pool(tmp_path_factory.mktemp("toys"), 3, 1)
    encode_pool(pool, family.vae)
    return Pool(pool.folder)


@pytest.fixture
def copied(toys: Pool, tmp_path: Path) -> Pool:
    """The same pool in a folder of one's own, to write to."""
    return Pool(shutil.copytree(toys.folder, tmp_path / "pool"))
