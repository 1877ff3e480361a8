"""The stages of the method: each adds columns to a batch and knows nothing of shards, workers or engines.

Pictures are uint8 tensors (B, 3, H, W), masks uint8 tensors (B, H, W) of 0 and 255; `pixels` and `plane` make them
floats for the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toffee_hf.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from builder.batch import Batch


MOST_LOOKS = 4                        # that the pipelines and the estimate of depth know


def checked_looks(stage: str, looks: int) -> None:
    """RecipeError unless so many looks at a picture can be had."""
    if not 1 <= looks <= MOST_LOOKS:
        raise RecipeError(f"stage {stage}: looks must be in [1, {MOST_LOOKS}], got {looks}")


def pixels(pictures_B3HW: Tensor, device: str) -> Tensor:
    """uint8 pictures as floats in [-1, 1] on the device."""
    return pictures_B3HW.to(device).float() / 127.5 - 1


def plane(masks_BHW: Tensor, device: str) -> Tensor:
    """uint8 masks as floats (B, 1, H, W) in [0, 1] on the device."""
    return masks_BHW.to(device).float().unsqueeze(1) / 255


def as_pictures(x_B3HW: Tensor) -> Tensor:
    """Floats in [-1, 1] as uint8 pictures."""
    return ((x_B3HW.float() + 1) * 127.5).round().clamp(0, 255).byte().cpu()


def as_masks(x_B1HW: Tensor) -> Tensor:
    """Floats in [0, 1] as uint8 masks of 0 and 255."""
    return (x_B1HW[:, 0] > 0.5).byte().mul(255).cpu()


def with_scores(batch: Batch, **found: Any) -> Batch:
    """The batch with more scores: tensors (B,) or lists whose None means not measured."""
    values = {name: _listed(column) for name, column in found.items()}
    scores = [{**old, **{name: column[i] for name, column in values.items()}} for i, old in enumerate(batch["scores"])]
    return batch.with_columns(scores=scores)


def _listed(column: Any) -> list[float | None]:
    return [float(v) for v in column] if hasattr(column, "device") else list(column)
