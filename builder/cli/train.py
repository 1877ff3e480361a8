"""`toffee train`: the tiny family from nothing here, single models on real data in `train_models`."""

from __future__ import annotations

import argparse
from math import isfinite
from pathlib import Path

from builder.cli.arguments import positive, seed
from builder.cli.train_editor import add_editor
from builder.cli.train_models import add_trainers
from builder.machine import cpu_cores


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="train models", allow_abbrev=False)
    parser.set_defaults(stays="the last checkpoint stays")
    models = parser.add_subparsers(metavar="MODEL", required=True, parser_class=type(parser))
    add_trainers(models)
    add_editor(models)
    tiny = models.add_parser("tiny", help="every model of the embedded recipe, from the toy world", allow_abbrev=False)
    add = tiny.add_argument
    add("--minutes", type=minutes, default=90.0, metavar="M",
        help="budget on two cores, and of a GPU; schedules scale (default: %(default)s)")
    add("--folder", type=Path, default=Path("runs/tiny"), metavar="DIR",
        help="checkpoints and the pool (default: %(default)s)")
    add("--start", default=None, metavar="FAMILY",
        help="`tiny` or the folder of a family whose weights to go on from (default: random weights)")
    add("--seed", type=seed, default=0, metavar="S", help="(default: %(default)s)")
    add("--workers", type=positive, default=cpu_cores(), metavar="W",
        help="jobs at a time, one thread each (default: cores)")
    add("--device", choices=("cpu", "cuda"), default="cpu",
        help="cuda: diffusion models, depth and axes learn there, from far more pictures (default: %(default)s)")
    add("--only", default="", metavar="JOB,…", help="only these jobs; what they need must be done")
    add("--install", type=Path, default=None, metavar="DIR", help="then write the family as fp16 to DIR")
    add("--docs", type=Path, default=None, metavar="DIR",
        help="then measure what was installed on held-out subjects, and write figures and sheets to DIR")
    tiny.set_defaults(run=train_tiny)


def minutes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and isfinite(number)):
        raise argparse.ArgumentTypeError(f"must be a finite number > 0, got {text!r}")
    return number


def train_tiny(arguments: argparse.Namespace) -> int:
    """Train what is missing, then install if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.report import FIGURES, marked, write_figures
    from toffee_hf.family import TINY
    from toffee_hf.training.tiny import Budget, install, train_tiny

    only = tuple(name for name in arguments.only.split(",") if name)
    if arguments.docs is not None and arguments.install is None:
        raise InputError("--docs measures the family that --install writes; give both")
    if arguments.docs is not None:
        marked(arguments.docs / "method.md", FIGURES)        # before hours of training
    start = {None: None, "tiny": TINY}.get(arguments.start, Path(arguments.start or ""))
    budget = Budget(minutes=arguments.minutes, seed=arguments.seed, start=start, device=arguments.device)
    train_tiny(arguments.folder, budget, arguments.workers, only)
    if arguments.install is not None:
        size = install(arguments.folder, arguments.install, start)
        print(f"{arguments.install}: {size / 1e6:.1f} MB")
    if arguments.docs is not None:
        write_figures(arguments.install, arguments.docs)
    return 0
