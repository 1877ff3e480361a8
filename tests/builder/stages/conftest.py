"""A batch of toy pairs, and the small random family in the place of the recipe's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from builder.batch import Batch
from builder.plan import Pair
from builder.subjects import Subject, ToyPicture
from tests.tiny_family import SIZE_PX, write_family
from toffee_hf.family import Family

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def family(family_folder: Path) -> str:
    """The name under which stages open the small family."""
    return str(family_folder)


@pytest.fixture
def opened(family_folder: Path) -> Family:
    from toffee_hf.family import open_family

    return open_family(str(family_folder))


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Pairs of these categories with their subject's picture, and with further columns that a stage reads."""

    def make(*categories: str, **columns: object) -> Batch:
        pairs = []
        for k, category in enumerate(categories):
            subject = Subject(f"{k:032d}", f"s{k}", "mug", ToyPicture("held-out", 14 * k, SIZE_PX))
            words = "turned to the left " if category == "pose" else ""
            pairs.append(Pair(k, subject, "editing", category, f"a photo of a mug {words}on the beach", 100 + k))
        made = Batch(tuple(pairs), 0).with_columns(
            reference_bytes=[pair.subject.read() for pair in pairs], scores=[{} for _ in pairs])
        return made.with_columns(**columns)

    return make


def noise(count: int, seed: int = 0) -> torch.Tensor:
    """uint8 pictures (count, 3, 64, 64)."""
    return torch.randint(256, (count, 3, SIZE_PX, SIZE_PX), generator=torch.Generator().manual_seed(seed)).byte()


def box(count: int, low: int = 20, high: int = 44) -> torch.Tensor:
    """uint8 masks (count, 64, 64): a box of 255."""
    mask = torch.zeros(count, SIZE_PX, SIZE_PX, dtype=torch.uint8)
    mask[:, low:high, low:high] = 255
    return mask
