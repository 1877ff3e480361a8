"""Finding a recipe by its reference: a name, or `FILE.py:function`. References travel to workers, recipes do not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.recipe import Recipe
from builder.recipes import RECIPES
from toffee_hf.errors import RecipeError, ToffeeError


def load_recipe(reference: str) -> Recipe:
    """The recipe that `reference` names; raises `RecipeError` with what is allowed."""
    make = _function(reference)
    try:
        recipe = make()
    except ToffeeError:
        raise
    except (Exception, SystemExit) as err:  # the user's own code
        raise RecipeError(f"recipe {reference!r} raised {type(err).__name__}: {err}") from err
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe {reference!r} must return a builder.recipe.Recipe, got {type(recipe).__name__}")
    return recipe


def absolute_reference(reference: str) -> str:
    """The same recipe for a process in another folder."""
    file, colon, function = reference.rpartition(":")
    return f"{Path(file).resolve()}:{function}" if colon and file.endswith(".py") else reference


def _function(reference: str) -> Callable[[], Any]:
    file, colon, name = reference.rpartition(":")
    if colon and file.endswith(".py"):
        found = getattr(_module_of_file(Path(file)), name, None)
    elif reference in RECIPES:
        module, _, name = RECIPES[reference].partition(":")
        found = getattr(importlib.import_module(module), name)
    else:
        raise RecipeError(f"unknown recipe {reference!r}; give one of {', '.join(RECIPES)}, or FILE.py:function")
    if not callable(found):
        raise RecipeError(f"{file} has no function {name!r}")
    return found  # type: ignore[no-any-return]


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RecipeError(f"there is no recipe file {path}")
    name = f"toffee_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:  # the user's own code
        del sys.modules[name]
        raise RecipeError(f"recipe file {path} raised {type(err).__name__}: {err}") from err
    return module
