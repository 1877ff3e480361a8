"""A small editor and a drawn dataset, the Space running on them, and Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builder.report.made_folder import make_folder
from tests.conftest import ROOT

SPACE = ROOT / "spaces" / "toffee-editor"
SHOTS = ROOT / "outputs" / "screenshots"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
COUNTS = {"generation": 9, "editing": 6, "rejected": 8}
# On a machine that is busy with other things everything takes many times longer; what hangs still ends the test.
START_SECONDS, ANSWER_SECONDS, TIMEOUT_MS = 600, 300, 300_000

pytest.importorskip("gradio", reason="the Space's tests need gradio: pip install -e '.[space]'")


@dataclass(frozen=True)
class Running:
    """A Space that answers at `url`; its process and what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    seconds: float


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's own editor where it ships one, else one of random weights."""
    from builder.cli import main
    from toffee_hf.family import TINY

    folder = tmp_path_factory.mktemp("space") / "toffee-editor"
    if (TINY / "editor").is_dir():
        assert main(["publish", "model", "--model", "editor", "--to", str(folder)]) == 0
    else:
        export_random_editor(folder)
    return folder


def export_random_editor(folder: Path) -> None:
    import torch

    from tests.tiny_family import stirred, write_family
    from toffee_hf.family import Family
    from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
    from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline
    from toffee_hf.publishing.export import export_pipeline

    torch.manual_seed(1)
    family = Family(write_family(folder.parent / "family"), "cpu")
    unet = stirred(ToffeeEditorUNet.from_unet(family.unet, subject_dim=64, patches=64))
    pipeline = ToffeePipeline(family.vae, family.text_encoder, family.tokenizer, unet, family.dino, family.scheduler())
    export_pipeline(pipeline, folder, "---\nlicense: apache-2.0\n---\n\n# A card\n", "a licence\n")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from builder.report import write_report

    folder = tmp_path_factory.mktemp("space") / "toffee"
    folder.mkdir()
    make_folder(folder, COUNTS)
    write_report(folder)
    return folder


def start(model: Path | str, dataset: Path | str, folder: Path) -> Running:
    """The Space's app.py in a process of its own, as it is uploaded: nothing of ours on its path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"TOFFEE_MODEL": str(model), "TOFFEE_DATASET": str(dataset), "GRADIO_SERVER_PORT": str(port),
                    "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_TEMP_DIR": str(folder / "gradio")}
    log = folder / "log.txt"
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, str(SPACE / "app.py")], cwd=folder, env=environment, stdout=out,
                                   stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    while time.monotonic() - began < START_SECONDS:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=60).close()
            return Running(url, process, log, time.monotonic() - began)
        except OSError:
            time.sleep(0.3)
    process.kill()
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def space(model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(model, dataset, tmp_path_factory.mktemp("running"))
    yield running
    stop(running)


def stop(running: Running) -> None:
    running.process.terminate()
    running.process.wait(ANSWER_SECONDS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api",
                                   reason="BROWSER TESTS SKIPPED: playwright is missing: pip install -e '.[dev]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("BROWSER TESTS SKIPPED: no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=TIMEOUT_MS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, space: Running) -> Iterator[Any]:
    """A new visitor's page, which must load nothing from elsewhere and print no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    outside, errors = [], []
    page.on("request", lambda request: outside.append(request.url)
            if not request.url.startswith((space.url, "data:", "blob:")) else None)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(space.url)
    page.wait_for_selector("#draw")
    yield page
    context.close()
    assert outside == [] and errors == []


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An example's picture under another name."""
    path = tmp_path_factory.mktemp("photos") / "mine.png"
    shutil.copy(SPACE / "examples" / "mug.png", path)
    return path
