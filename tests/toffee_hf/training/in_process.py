"""In the place of a pool of processes: the work is done here, for speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class InProcess:
    """The part of `ProcessPoolExecutor` that rendering uses."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @staticmethod
    def map(work: Callable[[Any], Any], items: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        return map(work, items)
