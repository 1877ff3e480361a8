"""Model families that the stages of a recipe name: a known name, or the folder of one of the recipe's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toffee_hf.family import TINY, Family

if TYPE_CHECKING:
    from builder.recipe import Recipe

KNOWN = {"tiny": TINY}
FIELD = "family"  # of a stage: the name under which it opens its models


def family_folder(name: str) -> Path:
    return KNOWN.get(name, Path(name))


def check_families(recipe: Recipe) -> None:
    """Every family that a stage names is there, member by member; else `InputError`. Loads no model."""
    named = {getattr(stage, FIELD, None) for stage in recipe.stages}
    for name in sorted(name for name in named if isinstance(name, str)):
        Family(family_folder(name), "cpu")
