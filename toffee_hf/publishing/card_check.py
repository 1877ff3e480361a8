"""Whether a card says all that the Hub and its readers look for. A field that is not there fails the command."""

from __future__ import annotations

import re
from typing import Any

from toffee_hf.errors import InputError

HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
FIELDS = {
    "dataset": ("pretty_name", "license", "language", "task_categories", "size_categories", "tags"),
    "model": ("license", "library_name", "pipeline_tag", "tags", "model-index"),
    "space": ("title", "sdk", "app_file", "license", "tags"),
}
SECTIONS = {
    "dataset": ("What it is for", "Load it", "What is in it", "The bill", "How it was made", "Licences", "Limits"),
    "model": ("What it is for", "Load it", "How it was made", "What it cost", "What it reaches", "Limits", "Licences"),
    "space": (),
}
NAMES = ("license", "license_name")
NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
UNFILLED = "[More Information Needed]"  # as others' templates have it; ours raise where a value is missing


def check_card(card: str, kind: str) -> dict[str, Any]:
    """Its metadata. kind: dataset, model or space. Raises InputError for the first thing that is missing."""
    head = metadata_of(card)
    for field in FIELDS[kind]:
        if head.get(field) in (None, "", [], {}, "unknown"):
            raise InputError(f"the card's field {field!r} cannot be filled{HINTS.get(field, '')}")
    for field in NAMES:
        if field in head and not NAME.fullmatch(str(head[field])):
            raise InputError(f"the card's field {field!r} must be a name as the Hub lists it, such as apache-2.0, got "
                             f"{head[field]!r}")
    lacking = [title for title in SECTIONS[kind] if not re.search(rf"^## {title}$", card, re.MULTILINE)]
    if lacking:
        raise InputError(f"the card has no section {lacking[0]!r}")
    body = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    if UNFILLED in body:
        raise InputError(f"the card has not been filled: it holds {UNFILLED!r}")
    if kind != "space" and "![" not in body:
        raise InputError("the card shows no picture")
    return head


HINTS = {
    "license": ": nobody has said under which licence this stands; give --license SPDX",
    "model-index": ": no figures of the model are known; evaluate it, or train it to the end",
}


def metadata_of(card: str) -> dict[str, Any]:
    """The YAML at its head. Raises InputError where there is none."""
    import yaml

    match = HEAD.match(card)
    try:
        head = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        head = None
    if not isinstance(head, dict):
        raise InputError("the card has no metadata between lines of ---")
    return head


def with_metadata(card: str, **fields: Any) -> str:
    """The card with these fields of its head set, in the place they have or at the end."""
    import yaml

    head = metadata_of(card) | {name.replace("_", "-") if name == "model_index" else name: value
                                for name, value in fields.items()}
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{HEAD.sub('', card, count=1)}"
