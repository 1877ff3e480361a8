"""Photographs for the trainers on real data, drawn with rectangles; and a process that trains on them and is killed.

As a program: KIND FAMILY OUTPUT STEP trains and kills itself before that step.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from toffee_hf.training.pictures import Picture
from toffee_hf.training.refiner import RefinerConfig, RefinerTask, train_refiner_on
from toffee_hf.training.view_generator import ViewConfig, ViewTask, train_view_on

SIDE_PX, THINGS, VIEWS = 64, 4, 3


def png(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def photo(thing: int, view: int, size: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> bytes:
    """A coloured box with a stripe on a ground of noise, (height, width)."""
    choice = np.random.default_rng([thing, view])
    image = choice.integers(90, 130, (*size, 3), dtype=np.uint8)
    top, left = 14 + 3 * view, 12 + 4 * view
    image[top : top + 32, left : left + 28] = (60 * thing % 256, 200 - 40 * thing, 120)
    image[top + 8 : top + 14, left : left + 28] = (250, 250, 40 * thing)
    return png(image)


def mask(view: int, size: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> bytes:
    inside = np.zeros(size, np.uint8)
    top, left = 14 + 3 * view, 12 + 4 * view
    inside[top : top + 32, left : left + 28] = 255
    return png(inside)


def pictures() -> list[Picture]:
    """Four things in three views, all masked; the last thing has no cameras."""
    return [Picture(f"{thing}-{view}", partial(photo, thing, view), "mug", partial(mask, view), f"thing {thing}",
                    0.4 * view if thing < THINGS - 1 else float("nan"))
            for thing in range(THINGS) for view in range(VIEWS)]  # fmt: skip


SETTINGS: dict[str, Any] = {"steps": 8, "batch_size": 2, "learning_rate": 1e-3, "every": 4}
TRAINERS: dict[str, Any] = {"refiner": (train_refiner_on, RefinerConfig, RefinerTask),
                            "view": (train_view_on, ViewConfig, ViewTask)}  # fmt: skip


def train(kind: str, family: Path, folder: Path, **settings: Any) -> Any:
    """Train on `pictures` from that family, with SETTINGS unless told otherwise."""
    from toffee_hf.training.backbone import open_backbone

    run, config, _ = TRAINERS[kind]
    return run(pictures(), open_backbone(str(family)), config(**{**SETTINGS, **settings}), folder, name="boxes")


def killed_before(task: Any, step: int) -> None:
    """Let SIGKILL fall before a step of that task."""
    loss = task.loss

    def killing(self: Any, at: int, generator: torch.Generator) -> Any:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, at, generator)

    task.loss = killing


if __name__ == "__main__":
    torch.set_num_threads(1)
    killed_before(TRAINERS[sys.argv[1]][2], int(sys.argv[4]))
    train(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
