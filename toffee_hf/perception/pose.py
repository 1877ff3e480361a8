"""A subject turned in space to the pose that a draft shows it in. B batch, H, W pixels.

Of some turns to either side the best is taken by what the masks share, laid onto each other by their boxes, and by how
depth inside them agrees.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toffee_hf.perception.light import Surface
from toffee_hf.pipelines.pipeline_toffee_refiner import laid
from toffee_hf.pipelines.pipeline_toffee_view import outline_axis, turned_and_lit, turned_depth

TURNS = (-0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45)      # radians, evenly apart
AS_IT_IS = TURNS.index(0.0)
DEPTH_COUNTS = 0.5                    # agreement of depth, where agreement of masks counts 1
RELUCTANCE = 0.01                     # by which a turn must be better than none; draws small turns towards none
GROUND = 0.8                          # behind what is seen of a turned subject, in [-1, 1]


@torch.no_grad()
def posed_like(shown: Surface, draft: Surface, axis_B3: Tensor | None = None, **camera: float
               ) -> tuple[Surface, Tensor]:
    """What is seen of `shown` once it is turned as it is in `draft`, and the turns in radians, (B,).

    Turns reach a little beyond TURNS; where none is better, the subject is as it was, and its turn is 0. All float32;
    axis, camera: see `toffee_hf.pipelines.pipeline_toffee_view.turned`.
    """
    axis_B3 = outline_axis(shown.mask, shown.depth, **camera) if axis_B3 is None else axis_B3
    fits = torch.stack([_fit(shown, draft, turn, axis_B3, camera) for turn in TURNS])
    fits[AS_IT_IS] += RELUCTANCE
    best = fits.argmax(0)
    turn = _between(fits, best)
    still = best == AS_IT_IS
    x, mask = turned_and_lit(shown.x, shown.mask, shown.depth, turn, axis_B3, **camera)
    depth, _ = turned_depth(shown.mask, shown.depth, turn, axis_B3, **camera)
    x = x * mask + GROUND * (1 - mask)
    keep = still[:, None, None, None]
    found = Surface(*(torch.where(keep, old, new) for old, new in
                      ((shown.x, x), (shown.mask, mask), (shown.depth, depth))))
    return found, turn.masked_fill(still, 0.0)


def _fit(shown: Surface, draft: Surface, turn: float, axis: Tensor, camera: dict[str, float]) -> Tensor:
    """How well the subject, turned by so much, agrees with the draft, (B,)."""
    depth, mask = shown.depth, shown.mask
    if turn != 0:
        depth, mask = turned_depth(mask, depth, depth.new_full((len(depth),), turn), axis, **camera)
    depth, there = laid(draft.mask, depth, mask)
    shared = torch.minimum(there, draft.mask).sum((1, 2, 3)) / torch.maximum(there, draft.mask).sum((1, 2, 3))
    both = ((there > 0.5) & (draft.mask > 0.5)).to(depth)
    a, b = (_centred(x, both) for x in (depth / there.clamp_min(1e-3), draft.depth))
    agree = (a * b).sum((1, 2, 3)) / (a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt().clamp_min(1e-6)
    return shared.nan_to_num() + DEPTH_COUNTS * agree


def _centred(x: Tensor, inside: Tensor) -> Tensor:
    """x about its mean inside, 0 elsewhere."""
    mean = (x * inside).sum((1, 2, 3), keepdim=True) / inside.sum((1, 2, 3), keepdim=True).clamp_min(1)
    return (x - mean) * inside


def _between(fits_TB: Tensor, best_B: Tensor) -> Tensor:
    """Turns (B,) at the peak of the parabola through the best fit and its neighbours."""
    turns = fits_TB.new_tensor(TURNS)
    middle = best_B.clamp(1, len(TURNS) - 2)
    below, at, above = (fits_TB.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    off = (below - above) / (2 * (below - 2 * at + above)).clamp(max=-1e-4)
    return turns[middle] + off.clamp(-1.5, 1.5) * (turns[1] - turns[0])
