"""`toffee evaluate editor` and `toffee evaluate editor-ablations`: ToffeeNet on held-out toys, and its choices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import folder, positive
from builder.machine import cpu_cores

if TYPE_CHECKING:
    from toffee_hf.evaluation.editing import Way
    from toffee_hf.evaluation.figures import Figure
    from toffee_hf.family import Family

SHEET = "editor.png"


def add_editor_parsers(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    editor = what.add_parser("editor", help="the editor against text alone and pasting, and λ", allow_abbrev=False)
    _add_arguments(editor, 304)
    editor.add_argument("--model", type=Path, default=None, metavar="DIR",
                        help="what `toffee train editor` wrote over this family (default: the family's own)")
    editor.add_argument("--sweep", type=int, default=96, metavar="N", help="subjects for λ (default: %(default)s)")
    editor.set_defaults(run=evaluate_editor)
    ablations = what.add_parser("editor-ablations", help="choices in its training, one changed at a time",
                                allow_abbrev=False)
    _add_arguments(ablations, 64)
    ablations.add_argument("--data", required=True, metavar="FOLDER|ORG/NAME",
                           help="a dataset that `toffee build` wrote")
    ablations.add_argument("--output", type=folder, required=True, metavar="DIR",
                           help="the trainings; the same command again goes on")
    for name, value in (("train-steps", 300), ("batch-size", 4), ("noisings", 4), ("lora-rank", 32)):
        ablations.add_argument(f"--{name}", type=positive, default=value, metavar="N",
                               help="of each training (default: %(default)s)")
    ablations.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="(default: %(default)s)")
    ablations.set_defaults(run=evaluate_ablations, stays="the last checkpoint stays")


def _add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("--family", default="tiny", metavar="FAMILY", help="`tiny` or a folder (default: %(default)s)")
    parser.add_argument("--count", type=int, default=count, metavar="N", help="subjects (default: %(default)s)")
    parser.add_argument("--workers", type=positive, default=cpu_cores(), metavar="W",
                        help="processes of one thread each (default: cores)")
    parser.add_argument("--docs", type=Path, default=None, metavar="DIR", help="write the tables into DIR/method.md")


def evaluate_editor(arguments: argparse.Namespace) -> int:
    """Print figures and the sweep of λ; write them and a sheet if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.editing import EDIT, NEW, POSED, SCALES, Way, as_lines, measure_editors
    from toffee_hf.evaluation.report import marked, open_measured, rewrite, table

    if min(arguments.count, arguments.sweep) < 2:
        raise InputError(f"evaluate editor needs --count and --sweep of at least 2, got {arguments.count}, "
                         f"{arguments.sweep}")
    sections = ("figures of the editor", "subject_scale")
    if arguments.docs is not None:
        for section in sections:
            marked(arguments.docs / "method.md", section)
    family = open_measured(arguments.family)
    way = Way("λ = 1", arguments.model)
    alone = Way("λ = 1, nothing of the reference's own pixels", arguments.model, surface=0.0, draws=(POSED, EDIT))
    figures = table(as_lines(measure_editors(family, [way, alone], arguments.count, arguments.workers)))
    ways = [Way(f"{scale:g}", arguments.model, scale, draws=(NEW,)) for scale in SCALES]
    sweep = _sweep(measure_editors(family, ways, arguments.sweep, arguments.workers, rivals=False))
    print(f"{figures}\n\n{sweep}")
    if arguments.docs is not None:
        for section, text in zip(sections, (figures, sweep), strict=True):
            rewrite(arguments.docs / "method.md", section, text)
        _write_sheet(family, way, arguments.docs / "tiny" / SHEET)
    return 0


def _sweep(found: dict[str, dict[str, Figure]]) -> str:
    from toffee_hf.evaluation.report import markdown_rows

    names = list(next(iter(found.values())))
    return markdown_rows(("λ", *names), [(scale, *values.values()) for scale, values in found.items()])


def _write_sheet(family: Family, way: Way, path: Path) -> None:
    from toffee_hf.evaluation.editing import sheet
    from toffee_hf.evaluation.figures import grid
    from toffee_hf.evaluation.heldout import subjects
    from toffee_hf.evaluation.report import SHOWN, save

    path.parent.mkdir(parents=True, exist_ok=True)
    save(grid(sheet(family, subjects("held-out", SHOWN.start, len(SHOWN)), way)), path)


def evaluate_ablations(arguments: argparse.Namespace) -> int:
    """Train every variant, measure it, and print the table; write it if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.editor_ablations import ABLATIONS, ablate_editor
    from toffee_hf.evaluation.report import marked, open_measured, rewrite
    from toffee_hf.training.editor_examples import EditorConfig

    if arguments.count < 2:
        raise InputError(f"evaluate editor-ablations needs --count of at least 2, got {arguments.count}")
    if arguments.docs is not None:
        marked(arguments.docs / "method.md", ABLATIONS)
    config = EditorConfig(steps=arguments.train_steps, batch_size=arguments.batch_size, noisings=arguments.noisings,
                          lora_rank=arguments.lora_rank, learning_rate=arguments.learning_rate,
                          every=arguments.train_steps, ema=0.99)
    text = ablate_editor(open_measured(arguments.family), arguments.data, config, arguments.count, arguments.workers,
                         arguments.output)
    print(text)
    if arguments.docs is not None:
        rewrite(arguments.docs / "method.md", ABLATIONS, text)
    return 0
