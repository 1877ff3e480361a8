"""Randomness: every number comes from a name, never from the order in which things happen."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(seed: int, *names: int | str) -> int:
    """A seed in [0, 2**63) that depends on every argument and on nothing else."""
    text = json.dumps([seed, *names]).encode()
    return int.from_bytes(blake2b(text, digest_size=8, person=b"toffee-seed").digest(), "big") >> 1


def generator_for(seed: int, pair_id: int | str, stage: str, attempt: int) -> torch.Generator:
    """A fresh CPU generator for one pair in one stage; draw on the CPU and move, so that devices agree."""
    import torch

    return torch.Generator("cpu").manual_seed(seed_for(seed, pair_id, stage, attempt))
