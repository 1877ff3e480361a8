"""`toffee publish space`: the Space's folder on the Hub, as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.cli.arguments import folder
from builder.cli.hub_arguments import add_release_arguments, add_repository_arguments, show_release
from builder.cli.space import space_folder
from builder.files import os_errors_are_input
from toffee_hf.errors import InputError
from toffee_hf.publishing.repository import RepositoryFile

HIDDEN_BUT_MEANT = (".gitattributes",)


def add_parser(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser("space", help="the Gradio Space", allow_abbrev=False)
    add = parser.add_argument
    add("--from", dest="source", type=folder, default=None, metavar="DIR",
        help="a Space's folder (default: the one that `toffee space` starts)")
    add("--to", required=True, metavar="ORG/NAME", help="made if it is not there")
    add("--dry-run", action="store_true", help="list every file and what the commit does; write nothing")
    add_release_arguments(parser)
    add_repository_arguments(parser)
    parser.set_defaults(run=publish_space)


@os_errors_are_input("cannot read")
def publish_space(arguments: argparse.Namespace) -> int:
    """Upload what has changed."""
    from toffee_hf.publishing.card_check import check_card
    from toffee_hf.publishing.opening import open_repository
    from toffee_hf.publishing.release import changes, release
    from toffee_hf.publishing.whose import TAG, check_space_is_ours

    source: Path = arguments.source or space_folder()
    files = space_files(source)
    card = (source / "README.md").read_text(encoding="utf-8")
    head = check_card(card, "space")
    if TAG not in head["tags"]:
        raise InputError(f"the card of a Space has {TAG!r} among its tags, by which we know it again; add it")
    if head["app_file"] not in [file.path for file in files]:
        raise InputError(f"{source} has no {head['app_file']}, which its card names as app_file")
    options = {"revision": arguments.revision, "private": arguments.private, "sdk": str(head["sdk"])}
    repository = open_repository(arguments.to, "space", **options, create=False)
    check_space_is_ours(repository)
    repository.check_card(card)
    show_release(changes(repository, files), repository, arguments)
    if not arguments.dry_run:
        repository = open_repository(arguments.to, "space", **options)
        done = release(repository, files, str(head["title"]), arguments.tag)
        print(f"space: {repository.url} at {done.commit}, tag {done.tag}")
    return 0


def space_files(source: Path) -> list[RepositoryFile]:
    """Every file of the folder but what Python leaves there and what is hidden, for `.env` may hold a token.

    Raises InputError for a folder without a card.
    """
    if not (source / "README.md").is_file():
        raise InputError(f"{source} holds no README.md with the card of a Space; give --from, the Space's folder")
    found = sorted(path for path in source.rglob("*") if not any(map(_left_out, path.relative_to(source).parts)))
    links = [path for path in found if path.is_symlink()]
    if links:
        raise InputError(f"{links[0]} is a link; a Space holds plain files")
    files = (path for path in found if path.is_file())
    return [RepositoryFile(path.relative_to(source).as_posix(), path.stat().st_size, path) for path in files]


def _left_out(part: str) -> bool:
    return part == "__pycache__" or (part.startswith(".") and part not in HIDDEN_BUT_MEANT)
