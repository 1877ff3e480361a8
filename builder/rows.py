"""Outcomes become rows: pictures encoded, scores checked, an id from content alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from builder.columns import MASKS, PICTURES, SCORES
from builder.judge import Verdict, invalid_scores
from builder.plan import Pair
from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ImageFormat = Literal["webp", "jpeg"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt at a pair ended, with what every column held for it."""

    pair: Pair
    attempt: int
    verdict: Verdict
    columns: Mapping[str, Any]

    @property
    def config(self) -> str:
        return self.pair.task if self.verdict.keep else "rejected"


def make_row(outcome: Outcome, run8: str, image_format: ImageFormat) -> dict[str, Any]:
    """Every column of a row, a superset of its config's. Source and mask belong to editing pairs only."""
    pair, columns = outcome.pair, dict(outcome.columns)
    if pair.task != "editing":
        columns |= {"source": None, "mask": None}
    return {
        "id": row_id(pair, outcome.attempt),
        "subject_id": pair.subject.subject_id,
        "class_name": pair.subject.class_name,
        "category": pair.category,
        "prompt": pair.prompt,
        **_images(pair, columns, image_format),
        "scores": _scores(columns.get("scores") or {}),
        "seed": pair.seed,
        "attempt": outcome.attempt,
        "run": run8,
        "task": pair.task,
        "reason": outcome.verdict.reason,
    }


def row_id(pair: Pair, attempt: int) -> str:
    """32 hex digits over (subject image, task, prompt, seed, attempt)."""
    parts = (pair.subject.content_hash, pair.task, pair.prompt, pair.seed, attempt)
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _scores(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Every score of the schema; broken values become null (their pair is rejected as `score_invalid`)."""
    broken = set(invalid_scores(scores))
    values = {name: scores.get(name) for name in SCORES}
    return {name: None if value is None or name in broken else float(value) for name, value in values.items()}


def _images(pair: Pair, columns: Mapping[str, Any], image_format: ImageFormat) -> dict[str, Any]:
    """Every picture and mask, encoded or None; raises `RecipeError` for an array of another kind."""
    images: dict[str, Any] = {}
    for name in PICTURES + MASKS:
        value = columns.get(name)
        try:
            images[name] = _picture(value, image_format) if name in PICTURES else _mask(value)
        except ValueError as err:
            raise RecipeError(f"a stage wrote a bad {name!r} for pair {pair.number}: {err}") from err
    return images


def _picture(value: Any, image_format: ImageFormat) -> dict[str, Any] | None:
    """value: uint8 (3, H, W), tensor or array, or None."""
    from toffee_hf.images import encode_image

    if value is None:
        return None
    array = _array(value)
    if array.ndim != 3 or array.shape[0] != 3:
        raise ValueError(f"needs uint8 (3, H, W), got {array.dtype.name} {array.shape}")
    return {"bytes": encode_image(array.transpose(1, 2, 0), image_format), "path": None}


def _mask(value: Any) -> dict[str, Any] | None:
    """value: uint8 (H, W) of 0 and 255, tensor or array, or None."""
    from toffee_hf.images import encode_mask

    return None if value is None else {"bytes": encode_mask(_array(value)), "path": None}


def _array(value: Any) -> NDArray[np.uint8]:
    import numpy as np

    array: NDArray[np.uint8] = np.ascontiguousarray(value.cpu() if hasattr(value, "cpu") else value)
    return array
