"""`toffee evaluate method` and `toffee evaluate ablations`: the Refiner and View Generator held against others."""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.cli.arguments import folder, positive
from builder.machine import cpu_cores


def add_method_parsers(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    method = what.add_parser("method", help="the method against its rivals, by category of change", allow_abbrev=False)
    _add_arguments(method, 208, "subjects for photo and style prompts and for views; other categories: a quarter")
    method.add_argument("--tuned", type=int, default=12, metavar="N",
                        help="subjects that DreamBooth-LoRA is tuned on; 0: none (default: %(default)s)")
    method.add_argument("--docs", type=Path, default=None, metavar="DIR",
                        help="write the tables into DIR/method.md and picture sheets into DIR/tiny")
    method.add_argument("--pictures", type=folder, default=None, metavar="DIR",
                        help="write the pictures of every pair, with seeds, prompts and scores in pairs.jsonl")
    method.set_defaults(run=evaluate_method)
    ablations = what.add_parser("ablations", help="the Refiner's settings, one changed at a time", allow_abbrev=False)
    _add_arguments(ablations, 96, "subjects")
    ablations.add_argument("--train-steps", type=int, default=0, metavar="N",
                           help="also train two Refiners on from the family's for N steps, with and without degraded "
                           "starts; 0: leave that out (default: %(default)s)")
    ablations.add_argument("--docs", type=Path, default=None, metavar="DIR", help="write the table into DIR/method.md")
    ablations.set_defaults(run=evaluate_ablations)


def _add_arguments(parser: argparse.ArgumentParser, count: int, of: str) -> None:
    parser.add_argument("--family", default="tiny", metavar="FAMILY", help="`tiny` or a folder (default: %(default)s)")
    parser.add_argument("--count", type=int, default=count, metavar="N", help=f"{of} (default: %(default)s)")
    parser.add_argument("--workers", type=positive, default=cpu_cores(), metavar="W",
                        help="processes of one thread each (default: cores)")


def evaluate_method(arguments: argparse.Namespace) -> int:
    """Print the comparison; write it if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.comparison import compare_all
    from toffee_hf.evaluation.dreambooth import Tuning
    from toffee_hf.evaluation.method import plan
    from toffee_hf.evaluation.report import open_measured

    if arguments.count < 2 or arguments.tuned < 0:
        raise InputError("evaluate method needs --count of at least 2 and --tuned of at least 0, got "
                         f"{arguments.count}, {arguments.tuned}")
    if arguments.pictures is not None and not _is_free(arguments.pictures):
        raise InputError(f"--pictures needs a new or empty folder, and {arguments.pictures} is neither")
    family = open_measured(arguments.family)
    parts = plan(arguments.count, arguments.tuned, Tuning())
    print(compare_all(family, parts, arguments.workers, arguments.docs, arguments.pictures))
    return 0


def _is_free(place: Path) -> bool:
    return not place.exists() or (place.is_dir() and not any(place.iterdir()))


def evaluate_ablations(arguments: argparse.Namespace) -> int:
    """Print the table; write it if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.ablations import ABLATIONS, ablate
    from toffee_hf.evaluation.report import marked, open_measured, rewrite

    if arguments.count < 2 or arguments.train_steps < 0:
        raise InputError("evaluate ablations needs --count of at least 2 and --train-steps of at least 0, got "
                         f"{arguments.count}, {arguments.train_steps}")
    if arguments.docs is not None:
        marked(arguments.docs / "method.md", ABLATIONS)
    text = ablate(open_measured(arguments.family), arguments.count, arguments.workers, arguments.train_steps)
    print(text)
    if arguments.docs is not None:
        rewrite(arguments.docs / "method.md", ABLATIONS, text)
    return 0
