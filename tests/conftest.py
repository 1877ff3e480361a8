"""Fixtures that many tests share. The environment is set before anything reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub_stand_in import Hub, serving

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

ROOT = Path(__file__).parents[1]
FLAT = ROOT / "tests" / "builder" / "flat_recipe.py"


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`datasets` answers from its cache when a folder is gone: each test session has a cache of its own."""
    cache = tmp_path_factory.mktemp("hf")
    os.environ["HF_HOME"] = str(cache)
    os.environ["HF_DATASETS_CACHE"] = str(cache / "datasets")
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_DATASETS_CACHE = cache / "datasets"
    return cache


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten small pictures of two classes, all different."""
    from PIL import Image

    folder = tmp_path / "photos"
    for red, class_name in ((20, "mug"), (200, "rubber duck")):
        (folder / class_name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (48, 40), (red, 100, number * 40)).save(folder / class_name / f"{number}.png")
    return folder


@pytest.fixture
def flat() -> Callable[[str], str]:
    """The reference of a function in `flat_recipe.py`."""
    return lambda function: f"{FLAT}:{function}"


@pytest.fixture
def toffee(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command line in `tmp_path`, in a process of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "builder.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture
def parquet() -> Callable[[Path], dict[str, bytes]]:
    """Every Parquet file of an output folder by relative path."""
    return lambda output: {
        path.relative_to(output).as_posix(): path.read_bytes() for path in sorted(output.rglob("*.parquet"))
    }


@pytest.fixture
def every_file() -> Callable[[Path], list[str]]:
    """Relative paths of all files of a folder, hidden ones included."""
    return lambda output: sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub of this test's own; see `tests/hub_stand_in`."""
    with serving(tmp_path / "hub") as hub:
        hub.patch(monkeypatch)
        yield hub


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One Hub for all tests of a file."""
    with serving(tmp_path_factory.mktemp("hub")) as hub, pytest.MonkeyPatch.context() as monkeypatch:
        hub.patch(monkeypatch)
        yield hub
