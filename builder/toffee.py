"""`Toffee`, the `datasets` builder: rows of a run's finished shards, and a build of those that are missing.

The one module here that loads `datasets` on import, for its class derives from it. It never loads torch: missing
shards are built by `toffee build` in a process of its own, so a forked reader stays clean. It is for use from
Python and is never uploaded: a data repository with a script does not load.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from builder.background import BackgroundBuild, build_missing
from builder.columns import CONFIGS, features
from builder.plan import pair_seed
from builder.published import published_files, read_place
from builder.receipts import is_done
from builder.run import DEFAULT_OUTPUT, DEFAULT_PAIRS, DEFAULT_RECIPE, DEFAULT_SUBJECTS, RunRequest, open_run
from builder.shard_files import shard_file_name
from toffee_hf.errors import InputError


@dataclass
class ToffeeConfig(datasets.BuilderConfig):  # type: ignore[misc,unused-ignore]
    """name: `generation`, `editing` or `rejected`. The rest as in `toffee build`; configs share `output`."""

    recipe: str = DEFAULT_RECIPE
    subjects: str = DEFAULT_SUBJECTS
    pairs: int = DEFAULT_PAIRS
    seed: int = 0
    output: str = str(DEFAULT_OUTPUT)
    append: bool = False
    workers: int | None = None
    run8: str = field(default="", init=False)
    pairs_per_shard: int = field(default=0, init=False)

    @property
    def request(self) -> RunRequest:
        return RunRequest(
            recipe=self.recipe, subjects=self.subjects, pairs=self.pairs, seed=self.seed, output=Path(self.output)
        )

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """The cache is keyed by the run and the count, so that changed photos or weights never give old rows."""
        run = open_run(self.request)
        self.run8, self.pairs_per_shard = run.run8, run.recipe.pairs_per_shard
        return str(super().create_config_id({"run": self.run8, "pairs": self.pairs}, custom_features))


class Toffee(datasets.GeneratorBasedBuilder):  # type: ignore[misc,unused-ignore]
    """`Toffee("editing", pairs=64).download_and_prepare()`, or `.as_streaming_dataset("train")` to read as it grows."""

    BUILDER_CONFIG_CLASS = ToffeeConfig
    BUILDER_CONFIGS = [ToffeeConfig(name=name) for name in CONFIGS]
    DEFAULT_CONFIG_NAME = CONFIGS[0]
    DEFAULT_WRITER_BATCH_SIZE = 32

    def __init__(self, config_name: str | None = None, **options: Any) -> None:
        super().__init__(config_name=config_name, dataset_name=options.pop("dataset_name", "toffee"), **options)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=features(self.config.name))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        """Without streaming all that is missing is built here, before readers fork."""
        ranges = _shard_ranges(self.config.pairs, self.config.pairs_per_shard)
        if not dl_manager.is_streaming:
            if not all(self._is_done(*item) for item in ranges):
                build_missing(self.config)
            if not any(self._path(number).exists() for number, _, _ in ranges):
                raise InputError(f"run {self.config.run8} has no {self.config.name} row; {self.config.output} says why")
        return [datasets.SplitGenerator("train", gen_kwargs={"shards": ranges})]

    def _generate_examples(self, shards: list[tuple[int, int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """shards: (number, first pair, last pair); a missing one is awaited while all missing ones are built."""
        with BackgroundBuild(self.config) as background:
            for number, first, last in shards:
                background.wait_until(partial(self._is_done, number, first, last))
                wanted = {pair_seed(self.config.seed, k) for k in range(first, last + 1)}
                for row in self._rows(number):
                    if row["seed"] in wanted:  # a longer run may have filled the last shard
                        yield row["id"], row

    def _is_done(self, number: int, first: int, last: int) -> bool:
        """Raises InputError for a shard that has left the disk for the Hub."""
        output, shard = Path(self.config.output), (self.config.run8, number, first, last)
        if is_done(output, *shard):
            return True
        place = read_place(output)
        if place is not None and is_done(output, *shard, published_files(output)):
            raise InputError(f"shards of {output} have left this disk; load_dataset({place.repository!r}) reads them")
        return False

    def _path(self, number: int) -> Path:
        return Path(self.config.output) / shard_file_name(self.config.name, self.config.run8, number)

    def _rows(self, number: int) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        if self._path(number).exists():
            with pq.ParquetFile(self._path(number)) as file:
                for batch in file.iter_batches(batch_size=16):
                    yield from batch.to_pylist()


def _shard_ranges(pairs: int, pairs_per_shard: int) -> list[tuple[int, int, int]]:
    starts = range(0, pairs, pairs_per_shard)
    return [(number, first, min(first + pairs_per_shard, pairs) - 1) for number, first in enumerate(starts)]
