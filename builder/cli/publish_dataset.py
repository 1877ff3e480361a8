"""`toffee publish dataset`: an output folder on the Hub, as far as it is built."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.cli.arguments import folder
from builder.cli.hub_arguments import (
    MOST_SHARDS_A_FOLDER,
    add_local_arguments,
    add_repository_arguments,
    check_licence,
    licence_head,
    make_repository,
    open_dataset,
    say,
)
from builder.files import os_errors_are_input
from builder.lease import Lease, Part
from builder.publication import MOST_SHARDS, Publication
from builder.receipts import Receipt, read_receipts
from builder.run_record import check_seeds, read_record
from toffee_hf.errors import InputError, RunMismatch

_NO_RUN = "publish"  # a lease that goes with no other


def add_parser(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser("dataset", help="the shards of an output folder, with their card", allow_abbrev=False)
    add = parser.add_argument
    add("folder", type=folder, metavar="DIR", help="an output of toffee build, whole or not")
    add("--to", required=True, metavar="ORG/NAME", help="made if it is not there")
    add("--append", action="store_true", help="put the folder's runs beside the other runs that are there")
    add_local_arguments(parser)
    add_repository_arguments(parser)
    add("--dry-run", action="store_true", help="list every file and commit, and write nothing")
    parser.set_defaults(run=publish_dataset, stays="finished shards stay")


def publish_dataset(arguments: argparse.Namespace) -> int:
    """Publish what is finished and not there yet; the same command goes on after a kill."""
    output: Path = arguments.folder
    with os_errors_are_input("cannot use"):
        record, shards = read_record(output), sum(1 for _ in read_receipts(output))
        if record is None or not shards:
            raise InputError(f"{output} holds no finished shard; give an output folder of toffee build")
        if shards > MOST_SHARDS_A_FOLDER:
            raise InputError(f"{output} holds {shards:,} shards, more than the {MOST_SHARDS_A_FOLDER:,} files that one "
                             "folder on the Hub may hold; build it with a recipe of more pairs_per_shard")
        for run in record["runs"]:
            check_licence(run.get("licences", {}).get("subjects"))
        repository = open_dataset(arguments, arguments.to, create=False)
        publication = Publication(output, repository, arguments.keep_local, say=say)
        _check_runs(record, publication.look(), arguments)
        repository.check_card(licence_head(record["runs"]))
        if arguments.dry_run:
            _list(publication.missing())
            return 0
        with Lease(output, _NO_RUN, Part()):
            make_repository(publication, arguments)
            publication.take_up()
            publication.publish(publication.waiting(), done=True)
    print(f"published: {publication.told}")
    return 0


def _check_runs(ours: dict[str, Any], theirs: dict[str, Any] | None, arguments: argparse.Namespace) -> None:
    here, there = _runs(ours), _runs(theirs or {"runs": []})
    if there - here and here - there and not arguments.append:
        raise RunMismatch(
            f"{arguments.to} holds run {', '.join(sorted(there - here))} and {arguments.folder} holds run "
            f"{', '.join(sorted(here - there))}; give --append to put them together, or another --to"
        )
    check_seeds(ours, theirs or {"runs": []}, arguments.to)


def _runs(record: dict[str, Any]) -> set[str]:
    return {run["run8"] for run in record["runs"]}


def _list(waiting: Sequence[Receipt]) -> None:
    for number, start in enumerate(range(0, max(1, len(waiting)), MOST_SHARDS), 1):
        batch = waiting[start : start + MOST_SHARDS]
        print(f"commit {number}: {len(batch)} shards, their receipts, card, pictures, recipe.json, publishing.json")
        for file in (file for receipt in batch for file in receipt.files):
            print(f"{file.bytes:>13,}  {file.path}")
    print("nothing was written")
