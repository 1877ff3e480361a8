"""The command line: the composition root, which alone knows everything else."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from toffee_hf.errors import RunError, ToffeeError

DONE, BAD_INPUT, UNFINISHED, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143


class Parser(argparse.ArgumentParser):
    """Says one sentence about a wrong argument, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Terminated(BaseException):
    """SIGTERM has arrived."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. A bug of ours leaves a traceback and status 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may hold anything
    arguments = make_parser().parse_args(argv)
    try:
        with _term_as_exception():
            status = int(arguments.run(arguments))
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # `toffee plan | head`: nobody wants the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ToffeeError as err:
        print(f"toffee: {err}", file=sys.stderr)
        return UNFINISHED if isinstance(err, RunError) else BAD_INPUT
    except KeyboardInterrupt:
        return _stopped("interrupted", INTERRUPTED, arguments.stays)
    except _Terminated:
        return _stopped("terminated", TERMINATED, arguments.stays)


def make_parser() -> argparse.ArgumentParser:
    from builder.cli import build, evaluate, plan, publish, report, space, train
    from toffee_hf import __version__

    parser = Parser(prog="toffee", description=__doc__, allow_abbrev=False)
    parser.description = "Build subject-driven image datasets without tuning a model on any subject."
    parser.set_defaults(stays=None)
    parser.add_argument("--version", action="version", version=f"toffee {__version__}")
    commands: argparse._SubParsersAction[argparse.ArgumentParser]
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    build.add_parser(commands)
    plan.add_parser(commands)
    report.add_parser(commands)
    train.add_parser(commands)
    evaluate.add_parser(commands)
    publish.add_parser(commands)
    space.add_parser(commands)
    return parser


@contextmanager
def _term_as_exception() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that workers end and the folder is given back."""
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be set
        yield
        return
    previous = signal.signal(signal.SIGTERM, _on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _on_term(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _stopped(how: str, status: int, stays: str | None) -> int:
    """stays: what is left of the command's work, if anything."""
    on = f"{stays}, and the same command goes on from here" if stays else "give the command again"
    print(f"toffee: {how}; {on}", file=sys.stderr)
    return status
