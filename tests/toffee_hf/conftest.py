"""One small random family for all tests of the library."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_family import SIZE_PX, write_family
from toffee_hf.family import Family

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(write_family(tmp_path_factory.mktemp("family")), "cpu")


@pytest.fixture
def picture() -> torch.Tensor:
    """(2, 3, 64, 64) in [-1, 1], no two patches alike."""
    return torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture
def mask() -> torch.Tensor:
    """(2, 1, 64, 64) of 0 and 1: a box of 32 pixels in the middle."""
    inside = torch.zeros(2, 1, SIZE_PX, SIZE_PX)
    inside[:, :, 16:48, 16:48] = 1
    return inside
