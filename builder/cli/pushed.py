"""What `--push-to` adds to a build; without it, nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from builder.cli.hub_arguments import MOST_SHARDS_A_FOLDER, licence_head, make_repository, open_dataset, say
from builder.engines.local import default_workers
from builder.publication import Publication
from builder.publisher import Publisher, local_shards
from builder.run import Run
from builder.run_record import check_runs, check_seeds, read_record, subjects_licence
from toffee_hf.errors import InputError
from toffee_hf.publishing.hub import MAIN


@dataclass
class Pushed:
    """The repository of a build, and its publisher."""

    run: Run
    publication: Publication | None = None
    most_local: int = 0
    publisher: Publisher | None = None
    make: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, run: Run, arguments: argparse.Namespace) -> Pushed:
        """Find out all that can be wrong, before anything is made; raises InputError."""
        name: str | None = arguments.push_to
        if name is None:
            if not arguments.keep_local:
                raise InputError("--no-keep-local needs --push-to ORG/NAME: shards leave this disk for the Hub")
            return cls(run)
        _check(run, arguments)
        repository = open_dataset(arguments, name, create=False)
        publication = Publication(run.request.output, repository, arguments.keep_local)
        record = publication.look()
        repository.check_card(_licences(run, arguments))
        if record is not None:
            check_runs(run, record, arguments.append, name, "--push-to")
            check_seeds(read_record(run.request.output) or {"runs": []}, record, name)
        most_local = arguments.most_local or local_shards(run.plan.shard_count, arguments.workers or default_workers())
        return cls(run, publication, most_local, make=partial(make_repository, publication, arguments))

    @property
    def name(self) -> str:
        return self.publication.repository.name if self.publication else ""

    @property
    def revision(self) -> str:
        """The branch."""
        return self.publication.repository.revision if self.publication else MAIN

    @property
    def told(self) -> str:
        """Address and commit."""
        return self.publication.told if self.publication else ""

    def take_up(self) -> None:
        """By whoever holds the folder; a repository is made where there is none."""
        if self.publication:
            self.make()
            self.publication.take_up()

    @contextmanager
    def publishing(self, numbers: Sequence[int]) -> Iterator[None]:
        """Publish in the block, and the rest at its end; if the block fails, only the commit under way may end."""
        if self.publication is None:
            yield
            return
        self.publisher = Publisher(self.publication, self.run.plan.shard_count, self.most_local, say=say)
        self.publisher.begin((self.run.run8, number) for number in numbers)
        try:
            yield
        except BaseException:
            self.publisher.abandon()
            raise
        self.publisher.finish()

    def made(self, number: int) -> None:
        if self.publisher:
            self.publisher.made(self.run.run8, number)

    def has_room(self, in_flight: int) -> bool:
        return self.publisher is None or self.publisher.room(in_flight)


def _licences(run: Run, arguments: argparse.Namespace) -> str:
    """The head of a card, as far as it says under which licence the folder's rows will stand. Raises InputError if it
    cannot."""
    others = [it for it in (read_record(run.request.output) or {"runs": []})["runs"] if it["run8"] != run.run8]
    for other in others:
        if (other.get("licences") or {}).get("subjects") in (None, "unknown"):
            raise InputError(f"run {other['run8']} in {run.request.output} has no licence, and is published beside "
                             "this one; give its own `toffee build` again with --license SPDX")
    weights = [{"name": it.name, "licence": it.licence, "source": it.source} for it in run.recipe.weights]
    mine = {"subjects": subjects_licence(run, arguments.license), "weights": weights}
    return licence_head([*others, {"licences": mine}])


def _check(run: Run, arguments: argparse.Namespace) -> None:
    _licences(run, arguments)
    if arguments.shards.count > 1:
        raise InputError("--push-to publishes whole runs; with --shards I/N leave it out, and give the folder to "
                         "`toffee publish dataset` afterwards")  # fmt: skip
    if run.plan.shard_count > MOST_SHARDS_A_FOLDER:
        least = -(-run.request.pairs // MOST_SHARDS_A_FOLDER)
        raise InputError(
            f"--push-to: {run.plan.shard_count:,} shards are more than the {MOST_SHARDS_A_FOLDER:,} files that one "
            f"folder on the Hub may hold; give a recipe with pairs_per_shard of {least:,} or more"
        )
