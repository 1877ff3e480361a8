"""`toffee train refiner` and `toffee train view-generator`: on real photos or toys, from any text-to-image base."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from builder.cli.arguments import folder, positive, seed


def add_trainers(models: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    refiner = models.add_parser("refiner", help="restores a subject's details: from single pictures",
                                allow_abbrev=False)
    _add_arguments(refiner)
    refiner.set_defaults(run=train_refiner)
    view = models.add_parser("view-generator", help="draws a subject from another side: from several views of objects",
                             allow_abbrev=False)
    _add_arguments(view)
    view.set_defaults(run=train_view_generator)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", default="toy:train", metavar="DIR|DATASET|toy:train",
        help="photos in class folders or with metadata.csv, MVImgNet's folders, a dataset with image and class_name, "
        "subject_id, mask, yaw, or toys (default: %(default)s)")  # fmt: skip
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """What every trainer is told beside its data."""
    add = parser.add_argument
    add("--base", default="tiny", metavar="tiny|sd21|sdxl|ID",
        help="text-to-image model to start from: also a Hub id or a folder (default: %(default)s)")
    add("--output", type=folder, required=True, metavar="DIR",
        help="checkpoints, grids, and the model; the same command again goes on")
    add("--steps", type=positive, default=20_000, metavar="N", help="(default: %(default)s)")
    add("--batch-size", type=positive, default=8, metavar="B", help="of each process (default: %(default)s)")
    add("--learning-rate", type=float, default=5e-5, metavar="R", help="(default: %(default)s)")
    add("--size-px", type=positive, default=None, metavar="S", help="side of the pictures (default: the base's own)")
    add("--lora-rank", type=positive, default=None, metavar="K", help="train LoRA of this rank (default: all weights)")
    add("--seed", type=seed, default=0, metavar="S", help="(default: %(default)s)")
    add("--precision", choices=("no", "bf16"), default="no", help="bf16 is for GPUs (default: %(default)s)")
    add("--every", type=positive, default=1000, metavar="N",
        help="steps between validation grids (default: %(default)s)")
    add("--ema", type=float, default=0.999, metavar="D",
        help="decay of the average of the weights, which is what stays (default: %(default)s)")
    add("--checkpointing", action="store_true", help="less memory for more time")


def train_refiner(arguments: argparse.Namespace) -> int:
    """Train or go on, and say where the Refiner is."""
    from builder.training_data import photos_of
    from toffee_hf.training.refiner import RefinerConfig, train_refiner_on

    return _train(arguments, "refiner", photos_of, lambda data: RefinerConfig(**settings(arguments)), train_refiner_on)


def train_view_generator(arguments: argparse.Namespace) -> int:
    """Train or go on, and say where the View Generator is."""
    from builder.training_data import views_of
    from toffee_hf.training.view_generator import ViewConfig, train_view_on

    def config(data: Any) -> ViewConfig:
        return ViewConfig(**settings(arguments), same_place=data is not None and data.same_place)

    return _train(arguments, "view", views_of, config, train_view_on)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Of a TrainConfig."""
    return {"steps": arguments.steps, "batch_size": arguments.batch_size, "learning_rate": arguments.learning_rate,
            "size_px": arguments.size_px, "lora_rank": arguments.lora_rank or 0, "seed": arguments.seed,
            "precision": arguments.precision, "every": arguments.every, "ema": arguments.ema,
            "checkpointing": arguments.checkpointing}


def _train(arguments: argparse.Namespace, member: str, read: Callable[[str, int], Any],
           make_config: Callable[[Any], Any], train: Callable[..., Any]) -> int:
    from toffee_hf.training.backbone import open_backbone

    make_config(None)                     # a wrong number is told before anything loads
    backbone = open_backbone(arguments.base)
    size_px = make_config(None).size_for(backbone)
    data = read(arguments.data, size_px)
    train(data.pictures, backbone, make_config(data), arguments.output, data.skipped, data.name)
    print(f"model: {arguments.output / member}\nfigures: {arguments.output / 'training.json'}\n"
          f"pictures: {arguments.output / 'grids'}")
    return 0
