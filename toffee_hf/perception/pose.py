"""A subject turned in space to the pose that a draft shows it in, and laid where it is there. B batch, H, W pixels.

Of some turns to either side the best is taken by what the masks share, laid onto each other by their boxes, and by how
much nearer than its axis each point lies. What is turned has lost a side, so its box is not the subject's: it is laid
by its axis and its height instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toffee_hf.perception.light import Surface
from toffee_hf.pipelines.pipeline_toffee_refiner import laid, mask_box, warp
from toffee_hf.pipelines.pipeline_toffee_view import outline_axis, turned_and_lit, turned_depth

TURNS = tuple(0.15 * k for k in range(-4, 5))           # radians, evenly apart
APART_COUNTS = 2.5                    # mean difference of distances to the axis, where agreement of masks counts 1
FARTHEST_APART = 0.2                  # such a difference that no larger one counts more than
SMALLEST = 0.04                       # radians under which nothing is turned
GROUND = 0.8                          # behind what is seen of a turned subject, in [-1, 1]


@torch.no_grad()
def posed_like(shown: Surface, draft: Surface, axes: tuple[Tensor, Tensor] | None = None, **camera: float
               ) -> tuple[Surface, Tensor]:
    """What is seen of `shown` once it is turned as in `draft`, where it is there, and the turns in radians, (B,).

    axes: of both, (B, 3) each. Under SMALLEST, or where a turn would leave nothing, the subject is only laid by the
    boxes of the masks, and its turn is 0; where a mask is empty it is as it was. All float32; axes, camera: see
    `toffee_hf.pipelines.pipeline_toffee_view.turned`.
    """
    own, wanted = axes or (outline_axis(shown.mask, shown.depth, **camera),
                           outline_axis(draft.mask, draft.depth, **camera))
    fits = torch.stack([_fit(shown, draft, turn, own, wanted, camera) for turn in TURNS])
    turn = _peak(fits)
    x, mask = turned_and_lit(shown.x, shown.mask, shown.depth, turn, own, **camera)
    depth, _ = turned_depth(shown.mask, shown.depth, turn, own, **camera)
    still = (turn.abs() < SMALLEST) | (mask.amax((1, 2, 3)) < 0.5) | (draft.mask.amax((1, 2, 3)) < 0.5)
    both = torch.cat([x, depth], 1)
    placed, there = _placed(both, mask, draft.mask, own, wanted, camera)
    boxed, boxed_there = laid(draft.mask, torch.cat([shown.x, shown.depth], 1), shown.mask)
    keep = still[:, None, None, None]
    seen, there = torch.where(keep, boxed, placed), torch.where(keep, boxed_there, there).clamp(0, 1)
    found = Surface(seen[:, :3] + GROUND * (1 - there), there, seen[:, 3:])
    empty = (torch.minimum(shown.mask.amax((1, 2, 3)), draft.mask.amax((1, 2, 3))) < 0.5)[:, None, None, None]
    found = Surface(*(torch.where(empty, old, new) for old, new in
                      ((shown.x, found.x), (shown.mask, found.mask), (shown.depth, found.depth))))
    return found, turn.masked_fill(still, 0.0)


def _fit(shown: Surface, draft: Surface, turn: float, own: Tensor, wanted: Tensor, camera: dict[str, float]) -> Tensor:
    """How well the subject, turned by so much, agrees with the draft, (B,)."""
    depth, mask = turned_depth(shown.mask, shown.depth, shown.depth.new_full((len(own),), turn), own, **camera)
    _, boxed = laid(draft.mask, depth, mask)
    shared = torch.minimum(boxed, draft.mask).sum((1, 2, 3)) / torch.maximum(boxed, draft.mask).sum((1, 2, 3))
    placed, there = _placed(depth, mask, draft.mask, own, wanted, camera)
    both = ((there > 0.5) & (draft.mask > 0.5)).to(depth)
    before, here = (_distance(x, camera) - axis[:, 1, None, None, None]
                    for x, axis in ((placed / there.clamp_min(1e-3), own), (draft.depth, wanted)))
    area = both.sum((1, 2, 3))
    apart = ((before - here).abs().clamp(max=FARTHEST_APART) * both).sum((1, 2, 3)) / area.clamp_min(1)
    return shared.nan_to_num() - APART_COUNTS * torch.where(area > 0, apart, FARTHEST_APART)


def _placed(x_BCHW: Tensor, mask_B1HW: Tensor, wanted_B1HW: Tensor, own_B3: Tensor, axis_B3: Tensor,
            camera: dict[str, float]) -> tuple[Tensor, Tensor]:
    """What a mask shows, as high as the wanted mask and with its axis on the wanted one, and the mask there."""
    half = math.tan(camera["field_of_view"] / 2)
    source, target = mask_box(mask_B1HW), mask_box(wanted_B1HW)
    scale = (source[:, 3] - source[:, 1]) / (target[:, 3] - target[:, 1]).clamp_min(1e-3)
    across, down = own_B3[:, 0] / half - scale * axis_B3[:, 0] / half, source[:, 1] - scale * target[:, 1]
    zero = torch.zeros_like(scale)
    lay = torch.stack([torch.stack([scale, zero, across], -1), torch.stack([zero, scale, down], -1)], 1)
    return warp(x_BCHW * mask_B1HW, lay), warp(mask_B1HW, lay)


def _distance(depth: Tensor, camera: dict[str, float]) -> Tensor:
    """Distances of depth, 1 at `nearest` and 0 at `farthest`."""
    near, far = 1 / camera["nearest"], 1 / camera["farthest"]
    return 1 / (depth.clamp(0, 1) * (near - far) + far)


def _peak(fits_TB: Tensor) -> Tensor:
    """Turns (B,) at the peak of the parabola through the best fit and its neighbours."""
    turns = fits_TB.new_tensor(TURNS)
    middle = fits_TB.argmax(0).clamp(1, len(TURNS) - 2)
    below, at, above = (fits_TB.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    off = (below - above) / (2 * (below - 2 * at + above)).clamp(max=-1e-4)
    return turns[middle] + off.clamp(-1, 1) * (turns[1] - turns[0])
