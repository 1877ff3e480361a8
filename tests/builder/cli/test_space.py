"""`toffee space`: starts the Space on what it is told, ends with it, and says what is missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from builder.cli import main, space
from tests.conftest import ROOT

SECONDS = 300                         # for what takes two on a machine with nothing else to do
APP = """
import http.server, os, pathlib
pathlib.Path("told").write_text(" ".join(os.environ[name] for name in
                                ("TOFFEE_MODEL", "TOFFEE_DATASET", "TOFFEE_OPEN", "GRADIO_SERVER_NAME")))
http.server.HTTPServer(("127.0.0.1", int(os.environ["GRADIO_SERVER_PORT"])), http.server.BaseHTTPRequestHandler
                       ).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A Space that writes down what it was told and answers with 501."""
    (tmp_path / space.NAME).mkdir()
    (tmp_path / space.NAME / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(("given", "says"), [(["--port", "0"], "from 1 to 65535"), (["--port", "http"], "from 1 to"),
                                             (["--model"], "expected one argument")])
def test_what_is_wrong_is_one_sentence(given, says, capsys):
    with pytest.raises(SystemExit) as end:
        main(["space", *given])
    assert end.value.code == 2 and says in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(space, "find_spec", lambda name: None)
    assert main(["space"]) == 2
    assert "pip install -e '.[space]'" in capsys.readouterr().err


def test_a_broken_installation_is_said(monkeypatch, tmp_path, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr(space, "FOLDERS", (tmp_path,))
    assert main(["space"]) == 2 and "install toffee-hf again" in capsys.readouterr().err


def test_the_folder_of_the_sources_is_found():
    assert space.space_folder() == ROOT / "spaces" / "toffee-editor"


@pytest.mark.parametrize(("given", "place"), [
    ("org/editor", "org/editor"), ("there", "{here}/there"), ("./not-there", "{here}/not-there"), ("/abs", "/abs"),
    ("~/editor", "{here}/home/editor")])
def test_folders_go_by_their_full_path_and_the_rest_may_be_on_the_hub(given, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "there").mkdir()
    assert space._place(given) == place.format(here=tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_starts_what_it_is_told_and_leaves_nothing_behind(stand_in, number, status):
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = ("import pathlib, sys; from builder.cli import main, space; space.FOLDERS = "
            f"(pathlib.Path({str(stand_in)!r}),); sys.exit(main(sys.argv[1:]))")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "space", "--model", "org/editor", "--dataset", "./rows", "--port", str(port)],
        cwd=stand_in, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, start_new_session=True)
    wait_for(port)
    assert (stand_in / "told").read_text() == f"org/editor {stand_in / 'rows'} 0 127.0.0.1"
    if number == signal.SIGINT:       # a terminal tells the whole group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(SECONDS) == status
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0, "nobody answers any more"


def wait_for(port):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=SECONDS)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("it does not answer")
