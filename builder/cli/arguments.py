"""Arguments that `toffee build` and `toffee plan` share."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from builder.lease import Part
from builder.run import DEFAULT_OUTPUT, DEFAULT_PAIRS, DEFAULT_RECIPE, DEFAULT_SUBJECTS, MAX_PAIRS, RunRequest


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", default=DEFAULT_RECIPE, metavar="NAME|FILE.py:function", help="how (default: %(default)s)")
    add("--subjects", default=DEFAULT_SUBJECTS, metavar="DIR|DATASET|toy:held-out|toy:train",
        help="of what: photos, a dataset with image and class_name, or toys (default: %(default)s)")  # fmt: skip
    add("--pairs", type=pairs, default=DEFAULT_PAIRS, metavar="N", help="pairs to try (default: %(default)s)")
    add("--output", type=output, default=DEFAULT_OUTPUT, metavar="DIR", help="where to (default: ./%(default)s)")
    add("--seed", type=seed, default=0, metavar="S", help="another seed makes other pairs (default: %(default)s)")
    add("--workers", type=positive, default=None, metavar="W", help="processes (default: one per GPU, else per core)")
    add("--shards", type=part, default=Part(), metavar="I/N",
        help="only part I (from 0) of N of the same run, for a cluster's job array")  # fmt: skip
    add("--append", action="store_true", help="put this run beside the other runs of the folder")
    add("--license", default=None, metavar="SPDX", help="licence of the subjects' pictures, for the card")


def run_request(arguments: argparse.Namespace) -> RunRequest:
    return RunRequest(
        recipe=arguments.recipe,
        subjects=arguments.subjects,
        pairs=arguments.pairs,
        seed=arguments.seed,
        output=arguments.output,
    )


def positive(text: str) -> int:
    number = _integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def pairs(text: str) -> int:
    number = positive(text)
    if number > MAX_PAIRS:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_PAIRS:,}, got {text}")
    return number


def seed(text: str) -> int:
    number = _integer(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"must be in [0, 2**63), got {text}")
    return number


def folder(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("must name a folder")
    return Path(text)


def output(text: str) -> Path:
    """A folder whose name `load_dataset` does not take for a pattern."""
    path = folder(text)
    name = Path(os.path.realpath(path)).name
    if set(name) & set("[]*?{}"):
        raise argparse.ArgumentTypeError(f"must have no [ ] * ? {{ }} in its name, for it would not load, got {name!r}")
    return path


def part(text: str) -> Part:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not index < count:
        raise argparse.ArgumentTypeError(f"must be I/N with 0 <= I < N, got {text!r}")
    return Part(index, count)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
