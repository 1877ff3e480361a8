"""Tables and figures of the card, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LITERAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def literal(text: object) -> str:
    """Any text on one line and without meaning to Markdown: names of files come from anywhere."""
    visible = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))
    return visible.translate(_LITERAL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The cells are Markdown already. A header that ends in a space: numbers, set to the right."""
    rule = ["---:" if name.endswith(" ") else "---" for name in header]
    lines = [[name.strip() for name in header], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(part: int, whole: int) -> str:
    """A percentage; of nothing, a dash."""
    return f"{part / whole:.1%}" if whole else "-"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
