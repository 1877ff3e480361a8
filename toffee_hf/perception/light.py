"""The light on a subject, and how it would look under the light of another picture. B batch, H, W pixels.

Light comes from above everywhere; what differs between two places is its side. A fit of the log luminance to the
surface's normals tells the side (`light_of`), and drafts show it, if too strongly.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toffee_hf.pipelines.pipeline_toffee_view import light_of, normals

FOLLOWED = 0.6                        # of a draft's side light: what the truth of 48 subjects has of it (docs/log.md)


@dataclass(frozen=True, slots=True)
class Surface:
    """A subject as it is seen: picture (B, 3, H, W) in [-1, 1], mask and depth, 1 nearest, (B, 1, H, W) in [0, 1]."""

    x: Tensor
    mask: Tensor
    depth: Tensor


def lit_like(shown: Surface, draft: Surface, **camera: float) -> Tensor:
    """The picture of `shown`, (B, 3, H, W) in [-1, 1], with light from the side from which it comes in `draft`.

    camera: field_of_view, nearest and farthest, see `toffee_hf.pipelines.pipeline_toffee_view.turned`; depth must be on
    its scale.
    """
    side = FOLLOWED * light_of(draft.x, draft.mask, normals(draft.mask, draft.depth, **camera))[:, 0]
    return side_lit(shown.x, shown.mask, normals(shown.mask, shown.depth, **camera), side)


def side_lit(x_B3HW: Tensor, mask_B1HW: Tensor, normals_B3HW: Tensor, side_B: Tensor) -> Tensor:
    """Pictures whose light from the side, log luminance a unit of the normal, is made `side` inside the mask.

    The rest of the light stays, and so does brightness: the mean log gain inside the mask is 0.
    """
    change = side_B - light_of(x_B3HW, mask_B1HW, normals_B3HW)[:, 0]
    gain = change[:, None, None, None] * normals_B3HW[:, :1]
    mean = (gain * mask_B1HW).sum((1, 2, 3), keepdim=True) / mask_B1HW.sum((1, 2, 3), keepdim=True).clamp_min(1)
    lit = ((x_B3HW + 1) / 2 * (gain - mean).clamp(-1, 1).exp()).clamp(0, 1) * 2 - 1
    return x_B3HW.lerp(lit, mask_B1HW)
