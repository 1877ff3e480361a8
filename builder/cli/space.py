"""`toffee space`: the Gradio Space on this machine, started by its path in a process of its own."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from toffee_hf.errors import InputError

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE.parent / "spaces", PACKAGE / "spaces")     # of the sources; of an installed package
NAME = "toffee-editor"
ENDED_SECONDS = 10                    # what a Space may take to end before it is killed


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("space", help="a page to draw with an editor and to browse a dataset",
                                 allow_abbrev=False)
    add = parser.add_argument
    add("--model", default="./toffee-editor", metavar="FOLDER|ORG/NAME",
        help="an editor that `toffee publish model` wrote (default: %(default)s)")
    add("--dataset", default="./toffee", metavar="FOLDER|ORG/NAME",
        help="what `toffee build` wrote (default: %(default)s)")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    add("--port", type=port, default=7860, help="(default: %(default)s)")
    add("--open", action="store_true", help="open it in the browser")
    parser.set_defaults(run=space)


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, got {text!r}")
    return int(text)


def space(arguments: argparse.Namespace) -> int:
    """Run until it is interrupted; the Space's own exit status."""
    if find_spec("gradio") is None:
        raise InputError("toffee space needs gradio: pip install -e '.[space]', from the root of the sources")
    app = space_folder() / "app.py"
    told = {"TOFFEE_MODEL": _place(arguments.model), "TOFFEE_DATASET": _place(arguments.dataset),
            "TOFFEE_OPEN": str(int(arguments.open)), "GRADIO_SERVER_NAME": arguments.host,
            "GRADIO_SERVER_PORT": str(arguments.port)}
    process = subprocess.Popen([sys.executable, str(app)], env={**os.environ, **told})
    try:
        return process.wait()
    except KeyboardInterrupt:         # the usual end; the Space has heard it too
        return 0
    finally:
        _end(process)


def space_folder() -> Path:
    """Where the Space's files are. Raises InputError."""
    for folder in FOLDERS:
        if (folder / NAME / "app.py").is_file():
            return folder / NAME
    raise InputError("the Space's files are not where this package was installed; install toffee-hf again")


def _place(text: str) -> str:
    """A folder by its full path; what is none may be on the Hub."""
    path = Path(os.path.expanduser(text))
    return str(path.resolve()) if text.startswith((".", "/", "~")) or path.is_dir() else text


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(ENDED_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
