"""Progress bars: on a terminal only, and only for what takes longer than two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import tqdm

Item = TypeVar("Item")
_DELAY_S = 2.0


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=what, total=total, delay=_DELAY_S)
    return bar


def bar(what: str, total: int, unit: str) -> tqdm.tqdm[Any]:
    """A bar to move by hand; silent where stderr is not a terminal."""
    from tqdm import tqdm

    return tqdm(desc=what, total=total, unit=unit, delay=_DELAY_S, disable=not sys.stderr.isatty())
