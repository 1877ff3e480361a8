"""`toffee publish`: what was made, for others. A model as a folder that loads with diffusers alone."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from builder.cli.arguments import folder

MODELS = {"editor": "editor", "refiner": "refiner", "view": "view", "view-generator": "view"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("publish", help="write what others load", allow_abbrev=False)
    what = parser.add_subparsers(metavar="WHAT", required=True, parser_class=type(parser))
    model = what.add_parser("model", help="a model as a folder for diffusers, with code, card and licence",
                            allow_abbrev=False)
    add = model.add_argument
    add("--model", choices=MODELS, default="editor", help="(default: %(default)s)")
    add("--from", dest="source", default="tiny", metavar="tiny|FAMILY|OUTPUT",
        help="a family, or what `toffee train` wrote (default: %(default)s)")
    add("--to", type=folder, required=True, metavar="FOLDER", help="a new folder; it may be uploaded as it is")
    add("--license", default=None, metavar="SPDX", help="of the weights (default: as their base's)")
    add("--license-file", type=Path, default=None, metavar="FILE", help="its text, where it is not Apache-2.0")
    add("--figures", type=Path, default=None, metavar="FILE",
        help="document with a family's figures (default: docs/method.md of the sources)")
    add("--half", action="store_true", help="round all weights to float16: half the size, pixels change slightly")
    add("--replace", action="store_true", help="FOLDER may hold an earlier model of ours, which is then removed")
    add("--dry-run", action="store_true", help="list every file with its size, and write nothing to FOLDER")
    model.set_defaults(run=publish_model)


def publish_model(arguments: argparse.Namespace) -> int:
    """Write the repository, or only list it."""
    from toffee_hf.publishing.export import export_pipeline
    from toffee_hf.publishing.models import FIGURES, open_model, prepare
    from toffee_hf.publishing.repository import refuse_occupied

    refuse_occupied(arguments.to, arguments.replace)
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()
    model = MODELS[arguments.model]
    opened = open_model(model, arguments.source, arguments.figures or FIGURES)
    ready = prepare(model, opened, arguments.license, arguments.license_file)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "repository" if arguments.dry_run else arguments.to
        files = export_pipeline(ready.pipeline, target, ready.card, ready.licence, pictures=ready.pictures,
                                half=arguments.half, replace=arguments.replace)
    for file in files:
        print(f"{file.size:>13,}  {file.path}")
    print(f"{sum(file.size for file in files):>13,}  in {len(files)} files")
    if arguments.dry_run:
        print("nothing was written")
    else:
        print(f"model: {arguments.to}; load it with "
              f"DiffusionPipeline.from_pretrained({str(arguments.to)!r}, trust_remote_code=True)")
    return 0
