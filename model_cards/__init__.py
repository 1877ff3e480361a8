"""Cards of what is published, as templates that are filled from receipts."""

from __future__ import annotations

from importlib.resources import files
from string import Template


def template(name: str) -> Template:
    """The card `name` (such as "dataset") as a template with `$placeholders`."""
    return Template(files("model_cards").joinpath(f"{name}.md").read_text(encoding="utf-8"))
