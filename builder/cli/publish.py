"""`toffee publish`: what was made, for others: a dataset, a model, the Space."""

from __future__ import annotations

import argparse

from builder.cli import publish_dataset, publish_model, publish_space


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("publish", help="put what was made on the Hub", allow_abbrev=False)
    what = parser.add_subparsers(metavar="WHAT", required=True, parser_class=type(parser))
    publish_dataset.add_parser(what)
    publish_model.add_parser(what)
    publish_space.add_parser(what)
