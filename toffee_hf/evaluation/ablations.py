"""What each setting of the Refiner is worth: one changed at a time, on the same held-out drafts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from toffee_hf.evaluation.figures import Figure, psnr_inside
from toffee_hf.evaluation.heldout import asked, jittered, pictures, references, subjects
from toffee_hf.evaluation.measure import BATCH
from toffee_hf.evaluation.ways import drafts, refined
from toffee_hf.family import Family

# what is changed of the recipe's settings; see ToffeeRefinerPipeline
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "as shipped": {},
    "no matching: the reference as the boxes lay it": {"nearness": 100.0, "top_k": 1},
    "matching by features alone": {"nearness": 0.0},
    "top 1": {"top_k": 1}, "top 8": {"top_k": 8},
    "temperature 0.2": {"temperature": 0.2},
    "threshold 0.3": {"threshold": 0.3}, "threshold 0.6": {"threshold": 0.6},
    "strength 0.5": {"strength": 0.5}, "strength 0.7": {"strength": 0.7}, "strength 0.95": {"strength": 0.95},
    "2 steps": {"num_inference_steps": 2}, "4 steps": {"num_inference_steps": 4},
    "whole pictures for matching": {"cutout": False},
    "no reference": {"threshold": 2.0},
}


@torch.no_grad()
def ablate(family: Family, count: int) -> dict[str, dict[str, Figure]]:
    """PSNR in dB inside the mask for each of ABLATIONS, by kind of prompt and pose of the reference."""
    found: dict[str, dict[str, list[Tensor]]] = {name: {} for name in ABLATIONS}
    for first in range(0, count, BATCH):
        people = subjects("held-out", first, min(BATCH, count - first))
        same, moved = references(people), jittered(people)
        for kind in ("photo", "style"):
            wish = asked(people, kind)
            truth, draft = pictures(wish.become, wish.shots), drafts(family, same, wish.prompts)
            for name, settings in ABLATIONS.items():
                for pose, reference in (("same pose", same), ("jittered", moved)):
                    x = refined(family, draft, same, reference, wish.prompts, **settings)
                    near = psnr_inside(x, truth.x, truth.mask)
                    found[name].setdefault(f"{kind} prompts, {pose}", []).append(near)
    return {name: {column: Figure.of(torch.cat(some)) for column, some in columns.items()}
            for name, columns in found.items()}
