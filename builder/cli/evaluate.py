"""`toffee evaluate`: figures on held-out subjects, and the judge held against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.evaluate_dreambench import add_dreambench_parser
from builder.cli.evaluate_editor import add_editor_parsers
from builder.cli.evaluate_method import add_method_parsers
from builder.prompts import TURNS

if TYPE_CHECKING:
    from toffee_hf.evaluation.judged import Judged

JUDGE = "judge against truth"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", help="measure models and the judge", allow_abbrev=False)
    what = parser.add_subparsers(metavar="WHAT", required=True, parser_class=type(parser))
    family = what.add_parser("family", help="every model on held-out toy subjects", allow_abbrev=False)
    family.add_argument("--family", default="tiny", metavar="FAMILY", help="`tiny` or a folder (default: %(default)s)")
    family.add_argument("--count", type=int, default=304, metavar="N", help="subjects (default: %(default)s)")
    family.add_argument("--only", default="", metavar="GROUP,…", help="only these groups of figures")
    family.add_argument("--docs", type=Path, default=None, metavar="DIR",
                        help="write the table into DIR/method.md and picture sheets into DIR/tiny")
    family.set_defaults(run=evaluate_family)
    add_method_parsers(what)
    add_editor_parsers(what)
    add_dreambench_parser(what)
    judge = what.add_parser("judge", help="the rows of a build from toy subjects against the truth", allow_abbrev=False)
    judge.add_argument("folder", type=Path, metavar="DIR", help="what `toffee build --subjects toy:…` wrote")
    judge.add_argument("--family", default="tiny", metavar="FAMILY", help="`tiny` or a folder (default: %(default)s)")
    judge.add_argument("--docs", type=Path, default=None, metavar="DIR", help="write the tables into DIR/thresholds.md")
    judge.set_defaults(run=evaluate_judge)


def evaluate_family(arguments: argparse.Namespace) -> int:
    """Print the figures; write them if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.measure import GROUPS, measure
    from toffee_hf.evaluation.report import open_measured, table, write_figures

    only = tuple(name for name in arguments.only.split(",") if name)
    if arguments.count < 2 or any(name not in GROUPS for name in only):
        raise InputError(f"evaluate family needs --count of at least 2 and --only out of {', '.join(GROUPS)}")
    if arguments.docs is not None:
        print(write_figures(arguments.family, arguments.docs, arguments.count, only))
    else:
        print(table(measure(open_measured(arguments.family, only), arguments.count, only)))
    return 0


def evaluate_judge(arguments: argparse.Namespace) -> int:
    """Print precision, recall and the ROC of every score; write them if asked."""
    from toffee_hf.errors import InputError
    from toffee_hf.evaluation.judged import judged, rows_of
    from toffee_hf.evaluation.report import marked, open_measured, rewrite

    if arguments.docs is not None:
        marked(arguments.docs / "thresholds.md", JUDGE)
    turns = {"left": TURNS[0][1], "right": TURNS[1][1]}
    try:
        rows = judged(rows_of(arguments.folder), open_measured(arguments.family), turns)
    except ValueError as err:
        raise InputError(str(err)) from err
    if not rows:
        raise InputError(f"{arguments.folder} holds no rows with scores; build some from toy subjects first")
    text = f"{arguments.folder.name}: {len(rows)} rows\n\n{_qualities(rows)}\n\n{_areas(rows)}"
    print(text)
    if arguments.docs is not None:
        rewrite(arguments.docs / "thresholds.md", JUDGE, text)
    return 0


def _qualities(rows: list[Judged]) -> str:
    """Precision, recall and kept share, of all rows and of each category."""
    import torch

    from toffee_hf.evaluation.judged import Quality
    from toffee_hf.evaluation.report import markdown_rows

    lines = []
    for category in ("all", *sorted({row.category for row in rows})):
        some = [row for row in rows if category in ("all", row.category)]
        kept, true = (torch.tensor([getattr(row, name) for row in some]) for name in ("kept", "true"))
        found = Quality.of(kept, true)
        lines.append((category, found.n, f"{true.float().mean():.2f}", f"{found.kept:.2f}", f"{found.precision:.2f}",
                      f"{found.recall:.2f}", f"{torch.tensor([row.near_db for row in some]).median():.1f}"))
    return markdown_rows(("category", "rows", "true", "kept", "precision", "recall", "median dB in the mask"), lines)


def _areas(rows: list[Judged]) -> str:
    """Area under the ROC of each score, against the truth and against each part of it."""
    import torch

    from toffee_hf.evaluation.judged import TRUE_DB, area_under_roc
    from toffee_hf.evaluation.report import markdown_rows

    lines = []
    for name in sorted(rows[0].scores):
        some = [row for row in rows if row.scores[name] is not None]
        score = torch.tensor([row.scores[name] for row in some])
        parts = [[row.true for row in some], [row.near_db >= TRUE_DB for row in some], [row.scene for row in some],
                 [row.style for row in some]]
        areas = [area_under_roc(score, torch.tensor(part, dtype=torch.bool)) for part in parts]
        lines.append((name, len(some), *("–" if area != area else f"{area:.2f}" for area in areas)))
    return markdown_rows(("score", "rows", "true", f"subject ({TRUE_DB:.0f} dB)", "scene", "style"), lines)
