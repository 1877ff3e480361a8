"""`toffee build`: index, plan, shards, card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.cli.arguments import add_run_arguments, positive, run_request
from builder.cli.hub_arguments import add_local_arguments, add_repository_arguments
from builder.cli.pushed import Pushed
from builder.columns import CONFIGS
from builder.engines.local import FailedShard, default_workers, run_local
from builder.engines.messages import Done, Setup
from builder.files import os_errors_are_input
from builder.lease import Lease, Part
from builder.progress import bar
from builder.receipts import read_receipts, total
from builder.report import lost_message
from builder.report.provisional import ProvisionalCard
from builder.run import Run, open_run
from builder.run_record import check_output, write_record
from builder.sweep import sweep
from toffee_hf.errors import DiskFull, InputError, RunError, ToffeeError
from toffee_hf.publishing.hub import MAIN

_MOST_DETAILS = 3
_MOST_CHARACTERS = 120


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("build", help="build a dataset", allow_abbrev=False)
    add_run_arguments(parser)
    add = parser.add_argument
    add("--push-to", default=None, metavar="ORG/NAME", help="a dataset on the Hub: shards go there while more are made")
    add_local_arguments(parser)
    add("--most-local", type=positive, default=None, metavar="N",
        help="shards on this disk at which the build waits for the Hub, with --no-keep-local; half of them make a "
        "commit, so fewer make more (default: 4 or 2 per worker; above 200 shards a 24th, up to 200)")  # fmt: skip
    add_repository_arguments(parser)
    parser.set_defaults(run=build, stays="finished shards stay")


def build(arguments: argparse.Namespace) -> int:
    """Build what is missing; 0 when the asked pairs are all tried. Raises `ToffeeError` for the rest."""
    run = open_run(run_request(arguments))
    output = run.request.output
    check_output(run, arguments.append)
    pushed = Pushed.open(run, arguments)
    _say_skipped(run)
    with _disk_full_told(), _made_folder(output), Lease(output, run.run8, arguments.shards):
        check_output(run, arguments.append)  # again: another process may have been first
        sweep(output, run.run8, arguments.shards)
        pushed.take_up()
        write_record(run, arguments.license)
        _warn_other_stack(run)
        with _left_loadable(run, arguments.shards):
            failed = _run_shards(run, arguments.shards, arguments.workers or default_workers(), pushed)
        lost = _report(run, arguments.shards)
    _print_summary(run, arguments.shards, pushed)
    if failed:
        raise RunError(_failure_message(failed))
    if lost:
        raise RunError(lost_message(output, lost))
    return 0


@contextmanager
def _disk_full_told() -> Iterator[None]:
    try:
        yield
    except DiskFull as err:
        raise DiskFull(f"{err}; finished shards stay: make room, and give the same command again") from err


@contextmanager
def _made_folder(output: Path) -> Iterator[None]:
    """The folder exists in the block; if the input turns out to be wrong, what was made for it goes again."""
    with os_errors_are_input(f"--output {_shown(output)} cannot be used"):
        made = [path for path in (output, *output.parents) if not path.exists()]
    try:
        with os_errors_are_input(f"--output {_shown(output)} cannot be made"):
            output.mkdir(parents=True, exist_ok=True)
        yield
    except InputError:
        for path in made:
            with suppress(OSError):  # something is in it
                path.rmdir()
        raise


@contextmanager
def _left_loadable(run: Run, part: Part) -> Iterator[None]:
    """Whatever ends the block (Ctrl-C, SIGTERM, a full disk), the folder is swept, and tells of its finished shards."""
    output = run.request.output
    try:
        yield
    except BaseException:
        with suppress(ToffeeError):
            sweep(output, run.run8, part)
            _report(run, part)
        raise
    sweep(output, run.run8, part)


def _say_skipped(run: Run) -> None:
    skipped = run.subjects.skipped
    if skipped:
        print(f"{len(skipped)} pictures left out, {len(run.subjects)} subjects stay:", file=sys.stderr)
    for line in skipped[:20]:
        print(f"  {line.file!r}: {line.reason}", file=sys.stderr)
    if len(skipped) > 20:
        print(f"  ... and {len(skipped) - 20} more, all in recipe.json", file=sys.stderr)


def _warn_other_stack(run: Run) -> None:
    changed = run.other_stack()
    if changed:
        print(f"toffee: earlier shards were made on another stack ({changed}); new ones may differ in bits",
              file=sys.stderr)  # fmt: skip


def _run_shards(run: Run, part: Part, workers: int, pushed: Pushed) -> list[FailedShard]:
    numbers = list(run.pending(part))
    pairs = sum(last - first + 1 for first, last in map(run.plan.shard_range, numbers))
    card = ProvisionalCard(run.request.output)
    if numbers:
        card.write()
    setup = Setup(run.reference, str(run.request.output.resolve()), run.request.seed, run.recipe.threads)
    kept = tried = 0
    with bar("building", pairs, "pair") as shown:

        def on_done(done: Done) -> None:
            nonlocal kept, tried
            kept, tried = kept + done.kept, tried + done.pairs
            shown.set_postfix_str(f"{kept / tried:.0%} kept", refresh=False)
            shown.update(done.pairs)
            card.follow()
            pushed.made(done.shard)

        with pushed.publishing(numbers):
            return run_local(run.plan, numbers, setup, workers, on_done, pushed.has_room)


def _report(run: Run, part: Part) -> tuple[str, ...]:
    """Card and pictures, by the process that sees all receipts or is alone; returns files that are lost."""
    from builder.report import write_report

    output = run.request.output
    if run.is_complete() or (part.count == 1 and next(read_receipts(output), None) is not None):
        return write_report(output)
    ProvisionalCard(output).write()
    return ()


def _print_summary(run: Run, part: Part, pushed: Pushed) -> None:
    receipts = list(run.receipts())
    rows, reasons = total(receipt.rows for receipt in receipts), total(receipt.reasons for receipt in receipts)
    tried, kept = sum(reasons.values()), reasons.pop("kept", 0)
    print(f"run {run.run8}: {tried} pairs tried, {kept} kept ({kept / max(tried, 1):.0%})")
    print("  rows: " + (", ".join(f"{config} {count}" for config, count in rows.items()) or "none"))
    if reasons:
        print("  rejected: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()))
    if tried and not kept:
        print("Every pair was rejected, for the reasons above: there is nothing to train on in this folder.")
    if pushed.name:
        print(f"published: {pushed.told}; load it with:")
        branch = "" if pushed.revision == MAIN else f', revision="{pushed.revision}"'
        print(f'  load_dataset("{pushed.name}", "{_first_config(rows)}", split="train"{branch})')
    elif run.is_complete():
        _print_where(run.request.output, _first_config(rows))
    elif part.count > 1:
        print(f"part {part.index}/{part.count} is done; the part that ends last writes card and contact sheet")


def _first_config(rows: Container[str]) -> str:
    """The default of a card with rows in these configs."""
    return next((config for config in CONFIGS if config in rows), "rejected")


def _print_where(output: Path, config: str) -> None:
    print(f"card: {output / 'README.md'}\ncontact sheet: {output / 'contact_sheet.png'}\nload it with:")
    place = output.resolve()
    name = json.dumps(place.name if place.parent == Path.cwd().resolve() else str(place), ensure_ascii=False)
    print(f'  from datasets import load_dataset\n  rows = load_dataset({name}, "{config}", split="train")')
    print('  print(rows[0]["prompt"], rows[0]["reference"].size)')


def _failure_message(failed: list[FailedShard]) -> str:
    for shard in failed[:_MOST_DETAILS]:
        print(f"shard {shard.number} failed: {shard.message}\n{shard.detail}", file=sys.stderr)
    if len(failed) > _MOST_DETAILS:
        print(f"... and {len(failed) - _MOST_DETAILS} shards more", file=sys.stderr)
    return f"{len(failed)} shards failed three times; the same command tries them again, and only them"


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
