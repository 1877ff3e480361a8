"""What the trainers on real data share: settings, the folder they work in, the run itself, and what is said of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from toffee_hf.cards import CARDS, write_card
from toffee_hf.errors import FolderInUse, InputError, RunError
from toffee_hf.training.backbone import Backbone, TextCondition
from toffee_hf.training.loop import LOG, Extras, Schedule, fit, logged, state_of, writing
from toffee_hf.training.lora import add_lora, merged, save_trained
from toffee_hf.training.pictures import Picture, Prepared, prepare
from toffee_hf.training.tracking import tracker
from toffee_hf.versions import installed_versions

CONFIG, DONE = "config.json", "training.json"
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy")
GRID_ROWS, LAST_ROWS = 4, 50
SKIPPED = "skipped_"                  # of a loss's terms: how many rows of the batch were left out, by reason
NOT_IN_WEIGHTS = ("every",)           # settings that another run of the same training may change


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How to train. batch_size: of each process; size_px None: the base's own; lora_rank 0: every weight is trained;
    every: steps between validation grids, each with a checkpoint; checkpointing: less memory for more time."""

    steps: int = 20_000
    batch_size: int = 8
    learning_rate: float = 5e-5
    size_px: int | None = None
    lora_rank: int = 0
    seed: int = 0
    precision: str = "no"                 # or bf16
    every: int = 1000
    ema: float = 0.999
    drop_text: float = 0.12               # share of examples that learn without their words, for guidance
    checkpointing: bool = False

    def __post_init__(self) -> None:
        wrong = [name for name in ("steps", "batch_size") if getattr(self, name) < 1]
        wrong += [name for name in ("lora_rank", "every", "seed") if getattr(self, name) < 0]
        wrong += [] if 0 < self.learning_rate < 1 else ["learning_rate"]
        wrong += [name for name in ("ema", "drop_text") if not 0 <= getattr(self, name) <= 1]
        wrong += [] if self.precision in ("no", "bf16") else ["precision"]
        if wrong:
            raise InputError(f"training needs steps and batch_size >= 1, learning_rate in (0, 1), lora_rank, every and "
                             "seed >= 0, ema and drop_text in [0, 1], precision no or bf16; got "
                             f"{wrong[0]} {getattr(self, wrong[0])!r}")

    def size_for(self, backbone: Backbone) -> int:
        """Side of the pictures in pixels. Raises InputError where the base cannot work at it."""
        size = self.size_px or backbone.size_px
        if size < 2 * backbone.step_px or size % backbone.step_px:
            raise InputError(f"--size-px must be a multiple of {backbone.step_px}, at least {2 * backbone.step_px}, "
                             f"for base {backbone.name}; got {size}")
        return size


class Task(Protocol):
    """One model in training."""

    @property
    def model(self) -> Any: ...
    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars of one batch; "loss" is minimised."""
        ...
    def grid(self, model: Any, rows: Tensor) -> list[Tensor]:
        """Columns of a validation picture, each (rows, 3, H, W) in [-1, 1]; none where there is nothing to show."""
        ...


class Data(Protocol):
    """What a training reads. digest: of all that decides its examples."""

    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...
    def described(self, skipped: dict[str, int]) -> dict[str, Any]:
        """What a card says of it. skipped: what was left out before and while training, by reason."""
        ...


class Workshop:
    """A folder in which one model is trained by one process group: `with Workshop(...) as shop`."""

    def __init__(self, name: str, folder: Path, backbone: Backbone, config: TrainConfig) -> None:
        from accelerate import Accelerator

        self.name, self.folder, self.config = name, folder, config
        self.size_px = config.size_for(backbone)
        self.accelerator = Accelerator()
        self.backbone = backbone.to(self.accelerator.device)

    @property
    def leads(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def prepared(self, pictures: Sequence[Picture], views: int = 1, name: str = "") -> Prepared:
        """The pictures, prepared in the folder by the main process. name: of the data, for the card."""
        with self.accelerator.main_process_first():
            found = prepare(pictures, self.folder / "pictures", self.size_px, self.backbone, views)
        self.ready()
        return replace(found, name=name)

    def ready(self) -> None:
        """Before the model is made."""
        if self.config.lora_rank and self.config.precision == "bf16":
            self.backbone.unet.to(torch.bfloat16)         # frozen, so half the memory costs nothing
        torch.manual_seed(self.config.seed)               # of the new layers, the same in every process

    def run(self, task: Task, data: Data, skipped: dict[str, int]) -> Any:
        """Train, or go on; leave the model in `folder`/<name> and what a card needs in training.json."""
        config, model = self.config, task.model
        if config.lora_rank:
            add_lora(model, config.lora_rank)
        else:
            model.float()
        if config.checkpointing:
            model.enable_gradient_checkpointing()
        settings = {"trainer": self.name, **asdict(config), "size_px": self.size_px,
                    "base": self.backbone.description(), "data": data.digest,
                    "processes": self.accelerator.num_processes}
        fingerprint = self._claim(settings)
        extras = Extras(accelerator=self.accelerator, precision=config.precision, fingerprint=fingerprint,
                        every=config.every, validate=lambda step: self._draw(task, data, step),
                        track=tracker(self.name, self.folder, settings) if self.leads else None)
        schedule = Schedule(steps=config.steps, learning_rate=config.learning_rate, batch_size=config.batch_size,
                            ema=config.ema)
        try:
            fit(self.name, model, task.loss, schedule, self.folder, config.seed, extras=extras)
        except FloatingPointError as err:
            kept = "the checkpoint there is still good" if state_of(self.folder) else "there is no checkpoint yet"
            raise RunError(f"{err}; {kept}. The same settings end here again: give a lower --learning-rate or "
                           "--precision no, and another --output") from err
        if self.leads:
            self._finish(model, settings, data, skipped)
        self.accelerator.wait_for_everyone()
        return model

    def _claim(self, settings: dict[str, Any]) -> str:
        """Write config.json, or compare with it; returns the fingerprint of what decides the weights."""
        deciding = {key: value for key, value in settings.items() if key not in NOT_IN_WEIGHTS}
        text, path = json.dumps(deciding, sort_keys=True), self.folder / CONFIG
        with self.accelerator.main_process_first():
            if path.exists():
                check_config(path, deciding)
            else:
                with writing(self.folder):
                    _write_json(path, deciding)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _draw(self, task: Task, data: Data, step: int) -> None:
        """A validation grid as `grids/<step>.png`, of the same pictures every time."""
        rows = torch.linspace(0, len(data) - 1, min(GRID_ROWS, len(data))).long().to(self.accelerator.device)
        columns = [column.float().cpu() for column in task.grid(task.model, rows)]
        if columns:
            write_grid(self.folder / "grids" / f"{step:06d}.png", columns)

    def _finish(self, model: Any, settings: dict[str, Any], data: Data, skipped: dict[str, int]) -> None:
        if self.config.lora_rank:
            save_trained(model, self.folder / f"{self.name}_lora.safetensors", self.config.lora_rank)
            merged(model)
        told = self._told(settings, data, skipped)
        with writing(self.folder):
            part = self.folder / f"{self.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            model.save_pretrained(part)
            shutil.rmtree(self.folder / self.name, ignore_errors=True)
            part.replace(self.folder / self.name)
            _write_json(self.folder / DONE, told)
            if self.name in CARDS:
                write_card(self.name, self.folder)

    def _told(self, settings: dict[str, Any], data: Data, skipped: dict[str, int]) -> dict[str, Any]:
        """What a model card says of the training. Raises InputError where its log is gone."""
        rows, state = logged(self.folder), state_of(self.folder)
        if not rows:
            raise InputError(f"{self.folder / LOG} is missing or empty, and without it the figures of this finished "
                             "training cannot be told; put it back, or train in another folder")
        last = rows[-LAST_ROWS:]
        final = {key: sum(row[key] for row in last) / len(last) for key in last[-1]
                 if key not in ("step", "samples", "minutes") and not key.startswith(SKIPPED)}
        left_out = Counter(skipped)
        for row in rows:
            left_out.update({key.removeprefix(SKIPPED): int(n) for key, n in row.items() if key.startswith(SKIPPED)})
        return {"config": settings, "data": data.described(left_out),
                "steps": self.config.steps, "samples": rows[-1]["samples"],
                "seconds": None if state is None else state.seconds, "before": _before(settings.get("start", "")),
                "device": device_name(self.accelerator.device),
                "processes": self.accelerator.num_processes, "final_losses": final,
                "versions": installed_versions(LIBRARIES)}

    def __enter__(self) -> Workshop:
        self._made = not self.folder.exists()
        with writing(self.folder):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as err:
                raise InputError(f"--output {self.folder} is not a folder; give another") from err
        self._lock = os.open(self.folder, os.O_RDONLY)
        if self.leads:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                os.close(self._lock)
                raise FolderInUse(f"{self.folder} is in use by another training; wait for it, or give another folder"
                                  ) from err
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self._lock)
        if self._made and kind is not None and issubclass(kind, InputError) and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _before(start: str) -> dict[str, float]:
    """Examples and seconds that a training cost from which another goes on, those before it included. A complete model
    lies in a folder of its training."""
    told = [folder / DONE for folder in (Path(start), Path(start).parent) if start and (folder / DONE).is_file()]
    if not told:
        return {"samples": 0, "seconds": 0.0}
    cost = json.loads(told[0].read_text())
    earlier = cost.get("before", {"samples": 0, "seconds": 0.0})
    return {key: (cost[key] or 0) + earlier[key] for key in ("samples", "seconds")}


def check_config(path: Path, settings: dict[str, Any]) -> None:
    """Raises InputError, with the fields that differ, if `path` holds other settings."""
    try:
        before = json.loads(path.read_text())
    except ValueError as err:
        raise InputError(f"{path} cannot be read ({err}); give another folder") from err
    now = json.loads(json.dumps(settings))
    differ = [f"{key} {before.get(key)!r} there, {now.get(key)!r} given" for key in sorted({*before, *now})
              if before.get(key) != now.get(key)]
    if differ:
        raise InputError(f"{path.parent} holds a training of another configuration ({'; '.join(differ)}); give the "
                         "same settings, or another folder")


class Captions:
    """Words of prepared pictures as conditions, some of them dropped."""

    def __init__(self, name: str, data: Prepared, backbone: Backbone, config: TrainConfig, rank: int) -> None:
        self.key = f"{name}/{config.seed}/{rank}"
        self.data, self.backbone, self.drop = data, backbone, config.drop_text

    def __call__(self, index: Tensor, step: int) -> TextCondition:
        choice = random.Random(f"{self.key}/{step}")
        words = ["" if choice.random() < self.drop else self.data.prompt(i) for i in index.tolist()]
        return self.backbone.text(words, self.data.size_px)


def write_grid(path: Path, columns: Sequence[Tensor]) -> None:
    """Columns (rows, 3, H, W) in [-1, 1] side by side as one PNG."""
    from PIL import Image

    sheet = torch.cat([torch.cat(list(column), 1) for column in columns], 2)
    pixels = ((sheet + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    Image.fromarray(pixels).save(part, "PNG")
    part.replace(path)


def device_name(device: torch.device) -> str:
    """The accelerator's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _write_json(path: Path, data: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)
