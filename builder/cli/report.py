"""`toffee report`: card, contact sheet and histograms again, from what the folder holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.cli.arguments import folder
from builder.files import os_errors_are_input
from builder.lease import Lease, Part
from builder.receipts import read_receipts
from builder.report import lost_message, write_report
from builder.run_record import read_record
from builder.sweep import sweep
from toffee_hf.errors import InputError, RunError

_NO_RUN = "report"  # a lease that goes with no other


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("report", help="write card and contact sheet again", allow_abbrev=False)
    parser.add_argument("folder", type=folder, metavar="DIR", help="an output of toffee build")
    parser.set_defaults(run=report)


def report(arguments: argparse.Namespace) -> int:
    output: Path = arguments.folder
    with os_errors_are_input("cannot use"):
        if read_record(output) is None or next(read_receipts(output), None) is None:
            raise InputError(f"{output} holds no finished shard; give an output folder of toffee build")
        with Lease(output, _NO_RUN, Part()):
            sweep(output)
            lost = write_report(output)
    print(f"card: {output / 'README.md'}\ncontact sheet: {output / 'contact_sheet.png'}")
    if lost:
        raise RunError(lost_message(output, lost))
    return 0
