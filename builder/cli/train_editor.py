"""`toffee train editor`: ToffeeNet from a dataset of pairs, from any text-to-image base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from builder.cli.arguments import positive
from builder.cli.train_models import add_settings, settings


def add_editor(models: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = models.add_parser("editor", help="draws given subjects, in new pictures or inside a mask: from pairs",
                               allow_abbrev=False)
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER|ORG/NAME[@REVISION]",
        help="a dataset that `toffee build` wrote; it is streamed")
    add_settings(parser)
    add("--tasks", choices=("joint", "generation", "editing"), default="joint", help="(default: %(default)s)")
    add("--editing-share", type=float, default=0.5, metavar="P",
        help="of editing pairs in joint training (default: %(default)s)")
    add("--reconstruction", type=float, default=0.1, metavar="P",
        help="share of the examples whose reference is the target itself (default: %(default)s)")
    add("--limit", type=positive, default=None, metavar="N", help="use the first N rows (default: all)")
    add("--targets", choices=("refined", "drafts"), default="refined",
        help="drafts: learn the unrefined sources of editing pairs, for comparison (default: %(default)s)")
    add("--without-views", action="store_true", help="leave out pairs whose reference is a new view, for comparison")
    add("--noisings", type=positive, default=1, metavar="K",
        help="noisy copies of each example, where encoding costs as much as learning (default: %(default)s)")
    add("--least-noise", type=float, default=0.0, metavar="P",
        help="share of the noise schedule, from its clean end, that is not learnt (default: %(default)s)")
    add("--without-gate", action="store_true", help="how far the laid subject is believed stays as it is")
    add("--install", type=Path, default=None, metavar="FAMILY",
        help="then write what LoRA left to the folder of the family that is the base, as fp16")
    add("--start", default="", metavar="FOLDER", help="an editor to go on from (default: the base)")
    add("--rebase", action="store_true",
        help="go on with the LoRA of --start over this base, though it was trained over another")
    parser.set_defaults(run=train_editor)


def train_editor(arguments: argparse.Namespace) -> int:
    """Train or go on, and say where the editor is."""
    from toffee_hf.errors import InputError
    from toffee_hf.training.backbone import open_backbone
    from toffee_hf.training.editor import install_editor, train_editor_on
    from toffee_hf.training.editor_examples import EditorConfig

    config = EditorConfig(**settings(arguments), **_of_editor(arguments))     # a wrong number is told first
    if arguments.install is not None and not (config.lora_rank and (arguments.install / "unet").is_dir()):
        raise InputError("--install needs --lora-rank, and the folder of the family that is the base")
    train_editor_on(arguments.data, open_backbone(arguments.base), config, arguments.output)
    if arguments.install is not None:
        print(f"{arguments.install / 'editor'}: {install_editor(arguments.output, arguments.install) / 1e6:.1f} MB")
    print(f"model: {arguments.output / 'editor'}\nfigures: {arguments.output / 'training.json'}\n"
          f"pictures: {arguments.output / 'grids'}")
    return 0


def _of_editor(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"tasks": arguments.tasks, "editing": arguments.editing_share, "limit": arguments.limit,
            "reconstruction": arguments.reconstruction, "targets": arguments.targets,
            "views": not arguments.without_views, "noisings": arguments.noisings,
            "least_noise": arguments.least_noise,
            "gate": not arguments.without_gate, "start": arguments.start, "rebase": arguments.rebase}
