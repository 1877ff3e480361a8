"""Toy pictures as small as the random family's, and a classifier whose answers a test sets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.tiny_family import SIZE_PX
from toffee_hf.toy.world import ToySubject


@pytest.fixture
def small_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renders are SIZE_PX wide where nobody asks for another size."""
    monkeypatch.setattr(ToySubject.render, "__defaults__", (SIZE_PX, "cpu"))


class Answers:
    """A classifier that answers what it is told, picture by picture."""

    def __init__(self, scene: Sequence[str], style: Sequence[str], class_name: Sequence[str] = ()) -> None:
        self.left = {"scene": list(scene), "style": list(style), "class": list(class_name)}

    def answers(self, pixels_BCHW):
        count = len(pixels_BCHW)
        found = {name: words[:count] for name, words in self.left.items()}
        self.left = {name: words[count:] for name, words in self.left.items()}
        return found


@pytest.fixture
def classifier() -> type[Answers]:
    return Answers
