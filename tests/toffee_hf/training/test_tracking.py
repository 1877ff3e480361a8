"""Where figures are shown: tensorboard, else trackio, else nowhere."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from toffee_hf.training import tracking
from toffee_hf.training.tracking import tracker


@pytest.fixture
def installed(monkeypatch):
    """Says which libraries are there."""
    names = set()
    monkeypatch.setattr(tracking, "find_spec", lambda name: importlib.util.find_spec("sys") if name in names else None)
    return names


def test_without_either_nothing_is_tracked(installed, tmp_path):
    assert tracker("refiner", tmp_path, {}) is None and list(tmp_path.iterdir()) == []


def test_trackio_gets_every_row_by_its_step(installed, tmp_path, monkeypatch):
    said = []
    fake = SimpleNamespace(init=lambda **told: said.append(told), log=lambda row, step: said.append((step, row)))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    installed.add("trackio")
    tracker("refiner", tmp_path, {"steps": 2})({"step": 7, "loss": 0.5})
    assert said == [{"project": "toffee", "name": "refiner", "config": {"steps": 2}}, (7, {"loss": 0.5})]


def test_tensorboard_comes_first(installed, tmp_path, monkeypatch):
    said = []

    class Writer:
        def __init__(self, folder):
            said.append(folder)

        def add_scalar(self, key, value, step):
            said.append((key, value, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    installed |= {"tensorboard", "trackio"}
    tracker("view", tmp_path, {})({"step": 3, "loss": 0.25, "minutes": 1.0})
    assert said == [str(tmp_path / "tensorboard"), ("loss", 0.25, 3), ("minutes", 1.0, 3)]
