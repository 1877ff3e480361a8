"""Where the figures of a training are shown while it runs, if something for it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Track = Callable[[dict[str, float]], None]


def tracker(name: str, folder: Path, settings: dict[str, Any]) -> Track | None:
    """Into tensorboard's files in `folder`/tensorboard, else into trackio, else nowhere: the log is written anyway."""
    if find_spec("tensorboard") is not None:
        return _tensorboard(folder)
    if find_spec("trackio") is not None:
        return _trackio(name, settings)
    return None


def _tensorboard(folder: Path) -> Track:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def track(row: dict[str, float]) -> None:
        for key, value in row.items():
            if key != "step":
                writer.add_scalar(key, value, int(row["step"]))

    return track


def _trackio(name: str, settings: dict[str, Any]) -> Track:
    trackio = import_module("trackio")            # of the user's choosing, so no dependency of ours
    trackio.init(project="toffee", name=name, config=settings)
    return lambda row: trackio.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
