"""`toffee build`: index, plan, shards, card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from builder.cli.arguments import add_run_arguments, run_request
from builder.engines.local import FailedShard, default_workers, run_local
from builder.engines.messages import Done, Setup
from builder.lease import Lease, Part
from builder.progress import bar
from builder.receipts import total
from builder.run import Run, open_run
from builder.run_record import check_output, write_record
from builder.sweep import sweep
from toffee_hf.errors import DiskFull, InputError, RunError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("build", help="build a dataset", allow_abbrev=False)
    add_run_arguments(parser)
    parser.set_defaults(run=build)


def build(arguments: argparse.Namespace) -> int:
    """Build what is missing; 0 when the asked pairs are all tried. Raises `ToffeeError` for the rest."""
    run = open_run(run_request(arguments))
    output = run.request.output
    check_output(run, arguments.append)
    _say_skipped(run)
    _make_folder(output)
    with Lease(output, run.run8, arguments.shards):
        check_output(run, arguments.append)  # again: another process may have been first
        sweep(output, run.run8, arguments.shards)
        write_record(run, arguments.license)
        _warn_other_stack(run)
        try:
            failed = _run_shards(run, arguments.shards, arguments.workers or default_workers())
            _report(run, arguments.shards, failed)
        except DiskFull as err:
            raise DiskFull(f"{err}; finished shards stay: make room, and give the same command again") from err
        finally:
            sweep(output, run.run8, arguments.shards)
    _print_summary(run, arguments.shards)
    if failed:
        raise RunError(_failure_message(failed))
    return 0


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"--output {output} cannot be made: {err.strerror}; give another folder") from err


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


def _run_shards(run: Run, part: Part, workers: int) -> list[FailedShard]:
    numbers = list(run.pending(part))
    pairs = sum(last - first + 1 for first, last in map(run.plan.shard_range, numbers))
    setup = Setup(run.reference, str(run.request.output.resolve()), run.request.seed, run.recipe.threads)
    kept = tried = 0
    with bar("building", pairs, "pair") as shown:

        def on_done(done: Done) -> None:
            nonlocal kept, tried
            kept, tried = kept + done.kept, tried + done.pairs
            shown.set_postfix_str(f"{kept / tried:.0%} kept", refresh=False)
            shown.update(done.pairs)

        return run_local(run.plan, numbers, setup, workers, on_done)


def _report(run: Run, part: Part, failed: list[FailedShard]) -> None:
    """Card and pictures by the process that sees all receipts; also after failures, so that what there is loads."""
    if run.is_complete() or (failed and part.count == 1):
        from builder.report import write_report

        write_report(run.request.output)


def _print_summary(run: Run, part: Part) -> None:
    receipts = list(run.receipts())
    rows, reasons = total(receipt.rows for receipt in receipts), total(receipt.reasons for receipt in receipts)
    tried, kept = sum(reasons.values()), reasons.pop("kept", 0)
    print(f"run {run.run8}: {tried} pairs tried, {kept} kept ({kept / max(tried, 1):.0%})")
    print("  rows: " + (", ".join(f"{config} {count}" for config, count in rows.items()) or "none"))
    if reasons:
        print("  rejected: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()))
    if tried and not kept:
        print("Every pair was rejected, for the reasons above: there is nothing to train on in this folder.")
    if run.is_complete():
        _print_where(run.request.output, next(iter(sorted(rows, key=_config_order)), "rejected"))
    elif part.count > 1:
        print(f"part {part.index}/{part.count} is done; the part that ends last writes card and contact sheet")


def _config_order(config: str) -> int:
    return ("generation", "editing", "rejected").index(config)


def _print_where(output: Path, config: str) -> None:
    print(f"card: {output / 'README.md'}\ncontact sheet: {output / 'contact_sheet.png'}\nload it with:")
    name = str(output) if "/" in str(output) else f"./{output}"
    path = output.name if output == Path(output.name) else name
    print(f'  from datasets import load_dataset\n  rows = load_dataset("{path}", "{config}", split="train")')
    print('  print(rows[0]["prompt"], rows[0]["reference"].size)')


def _failure_message(failed: list[FailedShard]) -> str:
    for shard in failed:
        print(f"shard {shard.number} failed: {shard.message}\n{shard.detail}", file=sys.stderr)
    return f"{len(failed)} shards failed three times; the same command tries them again, and only them"
