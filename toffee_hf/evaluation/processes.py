"""Work on a family spread over processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import torch
from tqdm import tqdm

from toffee_hf.family import Family, open_family

Part = TypeVar("Part")
Result = TypeVar("Result")
Work = Callable[[Family, Part], Result]


def spread(work: Work[Part, Result], family: Family, parts: Sequence[Part], workers: int, what: str
           ) -> Iterator[Result]:
    """`work(family, part)` of every part, in their order. work: a function of a module, for processes are spawned."""
    if workers == 1:
        with _one_thread():
            yield from (work(family, part) for part in tqdm(parts, desc=what, disable=None))
        return
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=get_context("spawn")) as pool:
        done = pool.map(partial(_elsewhere, work, str(family.folder)), parts)
        yield from tqdm(done, total=len(parts), desc=what, disable=None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Seconds and bits are then the same as in a process of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _elsewhere(work: Work[Part, Result], folder: str, part: Part) -> Result:
    torch.set_num_threads(1)
    return work(open_family(folder, "cpu"), part)
