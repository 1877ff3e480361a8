"""`run8`: eight hex digits over everything that can change a byte of a row."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.families import FIELD, KNOWN
from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    from builder.recipe import Recipe, Weight

# By hand: raise it with every change of our own code that changes rows (code under builder/ and toffee_hf/ is not
# hashed, so that a comment does not start a new run; a function of ours in a recipe counts by its own source).
# Functions and classes from elsewhere count with all of the file they are in, for they may use the rest of it.
ROWS_VERSION = 5

EXCLUDED: dict[str, str] = {  # "Class.field" -> why it cannot change a row
    "Recipe.seconds_per_pair": "a first guess for `toffee plan`",
    "Recipe.bytes_per_pair": "a first guess for `toffee plan`",
    "Weight.path": "where the files lie; what they hold is hashed instead",
    "Weight.licence": "shown on the card only",
    "Weight.source": "shown on the card only",
}
_OURS = ("builder", "toffee_hf")

Places = Mapping[Path, str]
_NOWHERE: Places = {}


def run_fingerprint(recipe: Recipe, seed: int, subjects_digest: str) -> str:
    """Eight hex digits. Reads every weight file that lies here; raises `RecipeError` for one that is missing."""
    parts = {
        "rows_version": ROWS_VERSION,
        "recipe": canonical_recipe(recipe),
        "seed": seed,
        "subjects": subjects_digest,
        "weights": {weight.name: weight_digests(weight) for weight in recipe.weights},
    }
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:8]


@cache
def weight_digests(weight: Weight) -> dict[str, str]:
    """File name under the weight -> sha256; for a Hub id its pinned commit, which names the content.

    Read once per process: weights do not change under a run.
    """
    if weight.path is None:
        return {str(weight.hub_id): str(weight.revision)}
    files = [weight.path] if weight.path.is_file() else sorted(p for p in weight.path.rglob("*") if p.is_file())
    if not files:
        raise RecipeError(f"weight {weight.name!r} is not at {weight.path}; reinstall, or run `toffee train`")
    return {_relative(file, weight.path): file_sha256(file) for file in files if not file.name.startswith(".")}


def file_sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _relative(file: Path, root: Path) -> str:
    return file.name if file == root else file.relative_to(root).as_posix()


def canonical_recipe(recipe: Recipe) -> Any:
    """`canonical` of a recipe, in which the path of a weight stands for that weight, wherever it is installed."""
    return canonical(recipe, {weight.path: weight.name for weight in recipe.weights if weight.path is not None})


def canonical(value: Any, places: Places = _NOWHERE) -> Any:
    """`value` as plain JSON that is the same in every process; raises `RecipeError` for what has no stable form.

    places: path of a weight -> its name.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Path):
        return _canonical_path(value, places)
    if is_dataclass(value) and not isinstance(value, type):
        return _canonical_dataclass(value, places)
    if isinstance(value, (list, tuple)):
        return [canonical(item, places) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((canonical(item, places) for item in value), key=json.dumps)}
    if isinstance(value, Mapping):
        items = [[canonical(key, places), canonical(item, places)] for key, item in value.items()]
        return {"map": sorted(items, key=json.dumps)}
    if isinstance(value, Enum):
        return {"enum": f"{type(value).__qualname__}.{value.name}"}
    if callable(value):
        return _canonical_callable(value, places)
    raise RecipeError(f"a recipe cannot hold {value!r}: its fields are plain values, dataclasses and functions")


def _finite(value: float) -> float:
    if not isfinite(value):
        raise RecipeError(f"a recipe cannot hold {value}: use None for no bound")
    return value


def _canonical_path(value: Path, places: Places) -> dict[str, str]:
    if value not in places:
        raise RecipeError(f"a recipe cannot hold the path {value}, unless one of its weights lies there")
    return {"weight": places[value]}


def _canonical_dataclass(value: Any, places: Places) -> dict[str, Any]:
    kind = type(value)
    kept = [field.name for field in fields(value) if f"{kind.__name__}.{field.name}" not in EXCLUDED]
    settings = {name: _canonical_field(name, getattr(value, name), places) for name in kept}
    source = {} if _is_ours(kind) else {"source": _source_hash(kind)}
    return {"class": kind.__qualname__, "fields": settings, **source}


def _canonical_field(name: str, value: Any, places: Places) -> Any:
    """A family's folder stands for the weight that lies there, like a path."""
    if name != FIELD or not isinstance(value, str) or value in KNOWN:
        return canonical(value, places)
    folder = Path(value).resolve()
    weight = next((weight for path, weight in places.items() if path.resolve() == folder), None)
    if weight is None:
        raise RecipeError(f"family {value!r} is none of {', '.join(KNOWN)}: add a Weight with this path to the recipe")
    return {"weight": weight}


def _canonical_callable(value: Any, places: Places) -> dict[str, Any]:
    if isinstance(value, partial):
        return {"partial": [canonical(part, places) for part in (value.func, value.args, value.keywords)]}
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        raise RecipeError(f"a recipe cannot hold {value!r}: use a function or a frozen dataclass with __call__")
    cells = [canonical(cell.cell_contents, places) for cell in getattr(value, "__closure__", None) or ()]
    return {"function": value.__qualname__, "source": _source_hash(value), "closure": cells}


def _is_ours(value: Any) -> bool:
    return str(value.__module__).partition(".")[0] in _OURS


def _source_hash(value: Any) -> str:
    """Of ours the definition alone, of others their whole file."""
    try:
        if _is_ours(value):
            return sha256(inspect.getsource(value).encode()).hexdigest()
        return file_sha256(Path(inspect.getsourcefile(value) or ""))
    except (OSError, TypeError) as err:
        raise RecipeError(f"the source of {value.__qualname__} cannot be read: define it in a file") from err
