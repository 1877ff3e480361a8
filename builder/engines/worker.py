"""A worker of the local engine: a fresh process that loads once, and runs one shard after another."""

from __future__ import annotations

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from builder.engines.messages import Blame, Done, Failed, Setup
from builder.plan import Shard
from builder.processes import die_with_parent
from builder.recipe import Recipe
from builder.recipe_reference import load_recipe
from builder.shard import run_shard
from toffee_hf.errors import DiskFull, InputError


def work(descriptor: int, parent: int) -> None:
    """Serve the engine at the other end of `descriptor` until it says None, closes, or process `parent` dies."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the engine, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    connection = Connection(descriptor)
    try:
        setup = connection.recv()
        recipe: Recipe | None = None
        while (shard := connection.recv()) is not None:
            recipe, answer = _serve(recipe, setup, shard)
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _serve(recipe: Recipe | None, setup: Setup, shard: Shard) -> tuple[Recipe | None, Done | Failed]:
    try:
        if recipe is None:
            recipe = load_recipe(setup.recipe)
            _limit_threads(setup.threads)
        receipt = run_shard(recipe, shard, Path(setup.output), seed=setup.seed)
        return recipe, Done(shard.number, receipt.pairs, receipt.kept)
    except DiskFull as err:
        return recipe, Failed(shard.number, Blame.DISK, str(err))
    except InputError as err:
        return recipe, Failed(shard.number, Blame.INPUT, str(err))
    except Exception as err:  # one shard's bug must not take the others along
        return recipe, Failed(shard.number, Blame.SHARD, f"{type(err).__name__}: {err}", traceback.format_exc())


def _limit_threads(threads: int) -> None:
    """For a torch that is loaded already; one that loads later reads OMP_NUM_THREADS, which the engine sets."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
