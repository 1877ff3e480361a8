"""The training loop that all tiny models share: seeded by step, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SAVE_EVERY_S = 90.0
Loss = Callable[[int, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast to train: linear warm-up, then a cosine to a tenth of the rate."""

    steps: int
    learning_rate: float
    batch_size: int
    warmup: float = 0.05              # part of the steps
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0                 # largest norm of the gradient

    def rate(self, step: int) -> float:
        """Learning rate at `step` in [0, steps)."""
        rising = max(1.0, self.steps * self.warmup)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(1.0, self.steps - rising)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def step_generator(name: str, seed: int, step: int) -> torch.Generator:
    """All randomness of one step."""
    digest = hashlib.sha256(f"{name}/{seed}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def fit(name: str, module: nn.Module, loss: Loss, schedule: Schedule, folder: Path, seed: int = 0) -> nn.Module:
    """Train the parameters of `module` that require gradients; return it with their moving average loaded.

    `loss(step, generator)` gives named scalars, of which "loss" is minimised. State is kept in `folder` (safetensors
    and JSON, written whole or not at all); a killed run continues to the same parameters as an uninterrupted one.
    Raises FloatingPointError when the loss or its gradient is not finite; the last checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = {key: p for key, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=schedule.learning_rate, betas=(0.9, 0.98),
                                  weight_decay=schedule.weight_decay, foreach=True)
    average = {key: p.detach().clone() for key, p in trained.items()}
    first = _restore(folder, module, optimizer, average)
    module.train()
    begun = saved = time.monotonic()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        terms = loss(step, step_generator(name, seed, step))
        if not torch.isfinite(terms["loss"]):
            raise FloatingPointError(
                f"{name}: loss is {terms['loss'].item()} at step {step}; last checkpoint in {folder}")
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), schedule.clip, foreach=True)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{name}: the gradient is {norm.item()} at step {step}; see {folder}")
        optimizer.step()
        decay = min(schedule.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.values()), [p.detach() for p in trained.values()], 1 - decay)
        if step % 50 == 0 or step + 1 == schedule.steps:
            _log(folder, name, step, schedule, terms, (time.monotonic() - begun) / (step + 1 - first))
        if time.monotonic() - saved > SAVE_EVERY_S or step + 1 == schedule.steps:
            _save(folder, step + 1, module, optimizer, average)
            saved = time.monotonic()
    with torch.no_grad():
        for key, p in trained.items():
            p.copy_(average[key])
    return module.eval()


def _log(folder: Path, name: str, step: int, schedule: Schedule, terms: dict[str, Tensor], seconds: float) -> None:
    row = {"step": step, **{k: round(v.item(), 5) for k, v in terms.items()},
           "samples_per_s": round(schedule.batch_size / max(seconds, 1e-9), 1)}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(name, f"{step}/{schedule.steps}", row, flush=True)


def _save(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
          ) -> None:
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
    part = folder / f"state.{os.getpid()}.part"
    dense = {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    save_file(dense, part, metadata={"step": str(step)})
    part.replace(folder / "state.safetensors")


def _restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        step = int(opened.metadata()["step"])
    tensors = load_file(path)
    module.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("module.")})
    for key in average:
        average[key].copy_(tensors[f"average.{key}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
