"""Examples made ahead of the steps that learn from them, for steps that are recorded and can only pick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from toffee_hf.training.loop import Place, step_generator

KEPT = 24_576                         # examples held at most: some 5 GB of new views
AT_FIRST, EVERY = 16, 4               # batches made before the first step; steps for each one after
E = TypeVar("E")                      # a dataclass of tensors whose first dimension is the batch's
Drawn = tuple[E, Tensor]              # examples, and the rows of the pool that they show


class Ahead(Generic[E]):
    """Batches of `draw`, some KEPT examples, the oldest of which give way to a new one at every EVERY-th step.

    draw: makes a batch of examples and says which rows of the pool they show, by a generator on the place's device.
    Tensors of three dimensions and more are held in half precision.
    """

    def __init__(self, draw: Callable[[torch.Generator], Drawn[E]], place: Place, name: str, seed: int) -> None:
        self.draw, self.place, self.name, self.seed = draw, place, f"{name}/ahead", seed
        self.held: dict[str, Tensor] = {}
        self.kind: Any = None
        self.made = 0
        self.count = torch.zeros((), device=place.device)         # of examples held, where a recorded step reads it

    @torch.no_grad()
    def renew(self, step: int) -> None:
        """Before each step."""
        for _ in range(AT_FIRST if not self.made else int(step % EVERY == 0)):
            with self.place.entered():
                example, rows = self.draw(step_generator(f"{self.name}/{step}", self.seed, self.made,
                                                         device=self.place.device))
            most = max(AT_FIRST, KEPT // len(rows))
            tensors = {f.name: getattr(example, f.name) for f in fields(cast(Any, example))} | {"rows": rows}
            for name, value in tensors.items():
                value = value.half() if value.is_floating_point() and value.dim() > 2 else value
                if name not in self.held:
                    self.held[name] = value.new_zeros(most, *value.shape)
                self.held[name][self.made % most] = value
            self.kind, self.made = type(example), self.made + 1
            self.count.fill_(min(self.made, most) * len(rows))

    def pick(self, count: int, generator: torch.Generator) -> Drawn[E]:
        """Any of the examples held, nothing but tensors on the device being touched."""
        index = (torch.rand(count, generator=generator, device=self.place.device) * self.count).long()
        found = {name: value.flatten(0, 1)[index] for name, value in self.held.items()}
        rows = found.pop("rows")
        return self.kind(**{k: v.float() if v.dtype == torch.half else v for k, v in found.items()}), rows
