"""`toffee publish model`: a model that loads with diffusers alone, in a folder or on the Hub."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from builder.cli.arguments import folder
from builder.cli.hub_arguments import add_release_arguments, add_repository_arguments, show_release
from builder.published import read_place
from toffee_hf.errors import InputError
from toffee_hf.publishing.hub import MAIN
from toffee_hf.publishing.repository import RepositoryFile

MODELS = {"editor": "editor", "refiner": "refiner", "view": "view", "view-generator": "view"}
ONLY_ON_THE_HUB = {"tag": None, "revision": MAIN, "private": False, "dataset": None}


def add_parser(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser("model", help="a model for diffusers, with code, card and licence", allow_abbrev=False)
    add = parser.add_argument
    add("--model", choices=MODELS, default="editor", help="(default: %(default)s)")
    add("--from", dest="source", default="tiny", metavar="tiny|FAMILY|OUTPUT",
        help="a family, or what `toffee train` wrote (default: %(default)s)")
    add("--to", required=True, metavar="ORG/NAME|FOLDER",
        help="a repository on the Hub, or a new folder (./NAME where it could be taken for the other)")
    add("--license", default=None, metavar="SPDX", help="of the weights (default: as their base's)")
    add("--license-file", type=Path, default=None, metavar="FILE", help="its text, where it is not Apache-2.0")
    add("--figures", type=Path, default=None, metavar="FILE",
        help="document with a family's figures (default: docs/method.md of the sources)")
    add("--dataset", default=None, metavar="ORG/NAME", help="where the pairs of an editor are on the Hub, for its card")
    add("--half", action="store_true", help="round all weights to float16: half the size, pixels change slightly")
    add("--replace", action="store_true", help="FOLDER may hold an earlier model of ours, which is then removed")
    add("--dry-run", action="store_true", help="list every file, and on the Hub what the commit does; write nothing")
    add_release_arguments(parser)
    add_repository_arguments(parser)
    parser.set_defaults(run=publish_model)


def publish_model(arguments: argparse.Namespace) -> int:
    """Write the repository, or only list it."""
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()
    return _to_hub(arguments) if is_hub_name(arguments.to) else _to_folder(arguments)


def is_hub_name(to: str) -> bool:
    """ORG/NAME, and not the path of a folder."""
    return to.count("/") == 1 and not to.startswith((".", "/", "~")) and not to.endswith("/")


def _to_folder(arguments: argparse.Namespace) -> int:
    from toffee_hf.publishing.repository import refuse_occupied

    target = _folder(arguments.to)
    hubs = [f"--{name}" for name, default in ONLY_ON_THE_HUB.items() if getattr(arguments, name) != default]
    if hubs:
        raise InputError(f"{', '.join(hubs)} of a model in a folder means nothing: give --to ORG/NAME, or leave it out")
    refuse_occupied(target, arguments.replace)
    with tempfile.TemporaryDirectory() as scratch:
        files = _export(arguments, Path(scratch) / "repository" if arguments.dry_run else target)
    for file in files:
        print(f"{file.size:>13,}  {file.path}")
    print(f"{sum(file.size for file in files):>13,}  in {len(files)} files")
    if arguments.dry_run:
        print("nothing was written")
    else:
        print(f"model: {target}; load it with "
              f"DiffusionPipeline.from_pretrained({str(target)!r}, trust_remote_code=True)")
    return 0


def _folder(to: str) -> Path:
    try:
        return folder(to)
    except argparse.ArgumentTypeError as err:
        raise InputError(f"--to {err}") from err


def _to_hub(arguments: argparse.Namespace) -> int:
    from toffee_hf.publishing.card_check import check_card
    from toffee_hf.publishing.opening import open_repository
    from toffee_hf.publishing.release import changes, release
    from toffee_hf.publishing.whose import check_model_is_ours

    name, options = arguments.to, {"revision": arguments.revision, "private": arguments.private}
    repository = open_repository(name, "model", **options, create=False)
    check_model_is_ours(repository)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "repository"
        files = _export(arguments, target, name)
        card = (target / "README.md").read_text(encoding="utf-8")
        check_card(card, "model")
        repository.check_card(card)
        show_release(changes(repository, files), repository, arguments)
        if arguments.dry_run:
            return 0
        repository = open_repository(name, "model", **options)
        done = release(repository, files, f"Toffee {MODELS[arguments.model]}", arguments.tag)
    print(f"model: {repository.url} at {done.commit}, tag {done.tag}; load it with "
          f"DiffusionPipeline.from_pretrained({name!r}, revision={done.tag!r}, trust_remote_code=True)")
    return 0


def _export(arguments: argparse.Namespace, target: Path, repository: str | None = None) -> list[RepositoryFile]:
    from toffee_hf.publishing.export import export_pipeline
    from toffee_hf.publishing.model_card import with_dataset
    from toffee_hf.publishing.models import FIGURES, open_model, prepare

    model = MODELS[arguments.model]
    opened = open_model(model, arguments.source, arguments.figures or FIGURES)
    if repository is not None:
        dataset = arguments.dataset or _place_of(opened.measured_on[1])
        opened = replace(opened, card=with_dataset(opened.card, model, dataset))
    ready = prepare(model, opened, arguments.license, arguments.license_file, repository)
    return export_pipeline(ready.pipeline, target, ready.card, ready.licence, pictures=ready.pictures,
                           half=arguments.half, replace=arguments.replace, repository=repository)


def _place_of(data: str) -> str | None:
    """Where an output folder of this name, if it is here, is on the Hub, if it is."""
    place = read_place(Path(data)) if Path(data).is_dir() else None
    return place.repository if place else None
