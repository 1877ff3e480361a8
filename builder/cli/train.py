"""`toffee train tiny`: the tiny family from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.machine import cpu_cores


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="train models", allow_abbrev=False)
    models = parser.add_subparsers(metavar="MODEL", required=True, parser_class=type(parser))
    tiny = models.add_parser("tiny", help="every model of the embedded recipe, from the toy world", allow_abbrev=False)
    add = tiny.add_argument
    add("--minutes", type=float, default=90.0, metavar="M",
        help="budget on two cores; schedules scale (default: %(default)s)")
    add("--folder", type=Path, default=Path("runs/tiny"), metavar="DIR",
        help="checkpoints and the pool (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="S")
    add("--workers", type=int, default=cpu_cores(), metavar="W",
        help="jobs at a time, one thread each (default: cores)")
    add("--only", default="", metavar="JOB,…", help="only these jobs; what they need must be done")
    add("--install", type=Path, default=None, metavar="DIR", help="then write the family as fp16 to DIR")
    tiny.set_defaults(run=train_tiny)


def train_tiny(arguments: argparse.Namespace) -> int:
    """Train what is missing, then install if asked."""
    from toffee_hf.training.tiny import install, train_tiny

    only = tuple(name for name in arguments.only.split(",") if name)
    train_tiny(arguments.folder, arguments.minutes, arguments.seed, arguments.workers, only)
    if arguments.install is not None:
        size = install(arguments.folder, arguments.install)
        print(f"{arguments.install}: {size / 1e6:.1f} MB")
    return 0
