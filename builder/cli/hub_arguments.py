"""Arguments that commands which publish share, and opening what they name."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.publication import Publication
from builder.report.card_metadata import licence_fields
from builder.report.statistics import Statistics
from toffee_hf.errors import InputError
from toffee_hf.publishing.hub import Repository

if TYPE_CHECKING:
    from toffee_hf.publishing.release import Changes

MOST_SHARDS_A_FOLDER = 10_000         # files in one folder of a repository, by the Hub's rules


def add_repository_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--revision", default="main", metavar="BRANCH", help="branch to commit to (default: %(default)s)")
    add("--private", action="store_true", help="a repository that is made now is seen by its owners alone")


def add_local_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep-local", action=argparse.BooleanOptionalAction, default=True,
                        help="whether shards stay on this disk once the Hub has them (default: they stay)")


def add_release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", type=tag, default=None, help="of this release (default: v1, v2, ...)")


def tag(text: str) -> str:
    """A name that git takes for a tag."""
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.(?=[A-Za-z0-9_+-]))*", text):
        raise argparse.ArgumentTypeError(f"must be of letters, digits, '.', '_', '+' and '-', as v2, got {text!r}")
    return text


def show_release(found: Changes, repository: Repository, arguments: argparse.Namespace) -> None:
    """Every file, and what the commit does. Raises InputError for a --tag that another commit has."""
    from toffee_hf.publishing.release import check_tag, next_tag

    check_tag(repository, arguments.tag, found)
    for line in found.lines:
        print(line)
    new, changed, same = (len(files) for files in (found.new, found.changed, found.same))
    print(f"{new} new, {changed} changed, {len(found.gone)} removed, {same} as they are there")
    if arguments.dry_run:
        tag = arguments.tag or next_tag(repository)
        commit = "no commit: all is there" if found.is_empty else f"one commit to {arguments.revision}, tag {tag}"
        print(f"{repository.url}: {commit}; nothing was written")


def check_licence(licence: str | None) -> None:
    """Raises InputError for a card's licence that is not known, or no name that the Hub lists."""
    from toffee_hf.publishing.card_check import HINTS, NAME

    if licence in (None, "unknown"):
        raise InputError(f"the card's field 'license' cannot be filled{HINTS['license']} of the subjects' pictures")
    if not NAME.fullmatch(str(licence).lower()):
        raise InputError(f"--license must be a name as the Hub lists it, such as cc-by-4.0, got {licence!r}")


def licence_head(runs: Sequence[Mapping[str, Any]]) -> str:
    """The head of a card, as far as it says under which licence the rows of these runs stand. Raises InputError if it
    cannot."""
    fields = licence_fields(Statistics({"runs": runs}, ()))
    check_licence(fields["license"])
    return "".join(["---\n", *(f"{name}: {value}\n" for name, value in fields.items()), "---\n"])


def make_repository(publication: Publication, arguments: argparse.Namespace) -> None:
    """Where there is none: the last step, once nothing speaks against it."""
    if not publication.repository.exists:
        publication.repository = open_dataset(arguments, publication.repository.name)
        publication.look()


def say(text: str) -> None:
    """Of what goes on, beside the answer of a command."""
    print(f"toffee: {text}", file=sys.stderr)


def open_dataset(arguments: argparse.Namespace, name: str, create: bool = True) -> Repository:
    from toffee_hf.publishing.opening import open_repository

    return open_repository(name, "dataset", revision=arguments.revision, private=arguments.private, create=create)
