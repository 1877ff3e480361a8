"""`toffee plan`: what a build would cost; runs nothing and writes nothing."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from builder.cli.arguments import add_run_arguments, run_request
from builder.engines.local import default_workers
from builder.receipts import Receipt
from builder.run import Run, open_run
from builder.run_record import check_output


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one pair tried: wall seconds of one worker, and bytes on disk; `source` says where the figures are from."""

    seconds: float
    bytes: float
    source: str


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("plan", help="what a build would cost", allow_abbrev=False)
    add_run_arguments(parser)
    parser.set_defaults(run=plan)


def plan(arguments: argparse.Namespace) -> int:
    """Print pairs, shards, bytes and hours of the whole request, and what of it is done."""
    run = open_run(run_request(arguments))
    check_output(run, arguments.append)
    workers = arguments.workers or default_workers()
    receipts = [receipt for receipt in run.receipts() if receipt.pairs and not receipt.reduced_batch]
    for line in describe(run, estimate(run, receipts), workers, arguments.shards.count):
        print(line)
    return 0


def estimate(run: Run, receipts: list[Receipt]) -> Estimate:
    """From this run's receipts in the folder where there are any, else the recipe's own figures."""
    pairs = sum(receipt.pairs for receipt in receipts)
    if not pairs:
        return Estimate(run.recipe.seconds_per_pair, run.recipe.bytes_per_pair, "the recipe's figures")
    seconds = sum(receipt.seconds_total for receipt in receipts) / pairs
    size = sum(file.bytes for receipt in receipts for file in receipt.files) / pairs
    return Estimate(seconds, size, f"{len(receipts)} receipts of this run")


def describe(run: Run, guess: Estimate, workers: int, parts: int) -> list[str]:
    plan, recipe = run.plan, run.recipe
    hours = plan.count * guess.seconds / 3600
    done = sum(receipt.pairs for receipt in run.receipts())
    wall = hours / (min(workers, plan.shard_count) * parts)
    machines = f" on each of {parts} machines" if parts > 1 else ""
    return [
        f"run:      {run.run8} (recipe {recipe.name}, seed {run.request.seed})",
        f"subjects: {len(run.subjects):,} ({len(run.subjects.skipped):,} left out)",
        f"pairs:    {plan.count:,} ({min(done, plan.count):,} done), about {recipe.editing_share:.0%} for editing",
        f"shards:   {plan.shard_count:,} of {recipe.pairs_per_shard:,} pairs",
        f"bytes:    {readable_bytes(plan.count * guess.bytes)}, {readable_bytes(guess.bytes)} per pair",
        f"hours:    {hours:,.2f} of work, {wall:,.2f} with {workers} workers{machines}, {guess.seconds:.2f} s per pair",
        f"measured: {guess.source}",
    ]


def readable_bytes(count: float) -> str:
    """Decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.1f} {unit}"
