"""What each setting of the Refiner is worth: one changed at a time, on the same drafts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from toffee_hf.evaluation.figures import Figure, psnr_inside
from toffee_hf.evaluation.heldout import asked, jittered, pictures, references, subjects
from toffee_hf.evaluation.measure import BATCH, named
from toffee_hf.evaluation.processes import spread
from toffee_hf.evaluation.report import markdown_rows
from toffee_hf.evaluation.ways import REFINE, drafts, refined
from toffee_hf.family import Family
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline

ABLATIONS = "ablations of the Refiner"
# knob of ToffeeRefinerPipeline: its name in the table, and the values tried beside the shipped one
KNOBS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "strength": ("start strength t₀", (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)), "num_inference_steps": ("steps", (1, 2, 4)),
    "top_k": ("top k", (1, 2, 4, 8)), "temperature": ("temperature", (0.02, 0.05, 0.2)),
    "threshold": ("threshold", (-1.0, 0.3, 0.6)),
}
MATCHING, INPUT, DEGRADATIONS = "patch matching", "matching sees", "training"
# settings of more than one value, or without one that can be named by itself
NAMED: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    (MATCHING, "by features and place", {}), (MATCHING, "by features alone", {"nearness": 0.0}),
    (MATCHING, "off: the reference as the boxes lay it", {"nearness": 100.0, "top_k": 1}),
    (MATCHING, "off: no reference at all", {"threshold": 2.0}),
    (INPUT, "the subject cut out", {"cutout": True}), (INPUT, "the whole picture", {"cutout": False}),
)
UNSEEN = 10_000                       # training subjects, here to 19,999, are in no pool: settings are chosen on them
POOL_SUBJECTS, TRAIN_BATCH, TRAIN_RATE = 256, 16, 2e-4
Values = dict[str, list[float]]       # by column, one a subject


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the table: `settings` of the pipeline, or the folder of another Refiner."""

    what: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    refiner: Path | None = None

    @property
    def shipped(self) -> bool:
        """Whether this is how the Refiner ships."""
        known = shipped_settings()
        return self.refiner is None and all(known[key] == value for key, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Part:
    """What one process measures at a time."""

    first: int
    count: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """A Refiner to train on from the shipped one, on the toys in `pool`."""

    pool: Path
    folder: Path
    steps: int
    degraded: bool


def shipped_settings() -> dict[str, Any]:
    """Every knob of the pipeline as the recipe has it."""
    known = inspect.signature(ToffeeRefinerPipeline.__call__).parameters
    return {name: parameter.default for name, parameter in known.items()} | REFINE


def changes() -> list[Change]:
    """KNOBS and NAMED, with the shipped value of every knob among its values."""
    known = shipped_settings()
    found = [Change(name, f"{value:g}", {knob: value}) for knob, (name, values) in KNOBS.items()
             for value in sorted({*values, known[knob]})]
    return [*(Change(*line) for line in NAMED), *found]


def ablate(family: Family, count: int, workers: int, train_steps: int = 0) -> str:
    """The table over `count` subjects of the training split that no model has seen.

    train_steps: of two Refiners trained on, with and without degraded starts; 0 leaves them out.
    """
    with TemporaryDirectory() as place:
        lines = [*changes(), *(_trained(family, train_steps, workers, Path(place)) if train_steps else [])]
        asked_for = tuple(line for line in lines if not line.shipped)
        parts = [Part(first, min(BATCH, count - first), (Change("", ""), *asked_for))
                 for first in range(0, count, BATCH)]
        found: dict[int, Values] = {}
        for some in spread(measure_part, family, parts, workers, "ablations"):
            for i, values in enumerate(some):
                held = found.setdefault(i, {})
                for column, more in values.items():
                    held.setdefault(column, []).extend(more)
    others = iter(range(1, 1 + len(asked_for)))
    return ablation_table([(line, found[0 if line.shipped else next(others)]) for line in lines])


def ablation_table(lines: list[tuple[Change, Values]]) -> str:
    """Markdown: a line a setting, the shipped ones in bold."""
    rows = []
    for line, values in lines:
        label = f"**{line.label}** (shipped)" if line.shipped else line.label
        rows.append((line.what, label, *(Figure.of(torch.tensor(some)) for some in values.values())))
    return markdown_rows(("changed", "to", *lines[0][1]), rows)


@torch.no_grad()
def measure_part(family: Family, part: Part) -> list[Values]:
    """PSNR in dB inside the mask, by kind of prompt and pose of the reference, and styles named right; by change."""
    people = subjects("train", UNSEEN + part.first, part.count)
    same, moved = references(people), jittered(people)
    found: list[Values] = [{} for _ in part.changes]
    for kind in ("photo", "style"):
        wish = asked(people, kind)
        truth, draft = pictures(wish.become, wish.shots), drafts(family, same, wish.prompts, wish.styles)
        for change, values in zip(part.changes, found, strict=True):
            with _with_refiner(family, change.refiner):
                x, y = (refined(family, draft, same, reference, wish.prompts, **change.settings)
                        for reference in (same, moved))
            values[f"{kind} prompts, same pose, dB"] = psnr_inside(x, truth.x, truth.mask).tolist()
            values[f"{kind} prompts, jittered, dB"] = psnr_inside(y, truth.x, truth.mask).tolist()
            values[f"{kind} prompts: style right"] = named(family, x, wish, same.names)["style"].tolist()
    return found


@contextmanager
def _with_refiner(family: Family, folder: Path | None) -> Iterator[None]:
    """The family's Refiner pipeline with the model in `folder`, if there is one."""
    if folder is None:
        yield
        return
    pipeline, original = family.refiner_pipeline, family.refiner_unet
    unet = ToffeeRefinerUNet.from_pretrained(folder, use_safetensors=True)
    pipeline.unet = unet.eval().to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        pipeline.unet = original


def _trained(family: Family, steps: int, workers: int, place: Path) -> list[Change]:
    """The shipped Refiner trained on for as many steps with starts degraded and not."""
    from toffee_hf.training.pool import SHOTS, encode_pool, render_pool

    people = max(4, min(POOL_SUBJECTS, steps * TRAIN_BATCH // SHOTS))
    encode_pool(render_pool(place / "pool", people, workers), family.vae)
    jobs = [Training(place / "pool", place / name, steps, name == "on") for name in ("on", "off")]
    folders = list(spread(train_on, family, jobs, min(workers, len(jobs)), "training"))
    told = {True: "from degraded copies", False: "from the pictures themselves"}
    return [Change(DEGRADATIONS, "no further steps"),
            *(Change(DEGRADATIONS, f"{steps} steps more, {told[job.degraded]}", refiner=folder)
              for job, folder in zip(jobs, folders, strict=True))]


def train_on(family: Family, job: Training) -> Path:
    """Train a copy of the family's Refiner; returns the folder of the model."""
    from toffee_hf.training.diffusion import Captions, refiner_loss
    from toffee_hf.training.loop import Extras, Schedule, fit
    from toffee_hf.training.pool import Pool
    from toffee_hf.training.refiner_examples import refiner_examples

    pool, model = Pool(job.pool), copy.deepcopy(family.refiner_unet).requires_grad_(True)
    captions = Captions(pool, family.tokenizer, family.text_encoder, "ablation")
    alphas = family.scheduler().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (TRAIN_BATCH,), generator=generator)
        example = refiner_examples(pool, index, family.vae, family.dino, generator)
        if not job.degraded:
            example = replace(example, draft=example.clean)
        return refiner_loss(model, example, (captions(index, step), None), alphas, generator)

    schedule = Schedule(steps=job.steps, learning_rate=TRAIN_RATE, batch_size=TRAIN_BATCH)
    fit("refiner", model, loss, schedule, job.folder / "training", extras=Extras())
    model.save_pretrained(job.folder / "refiner")
    return job.folder / "refiner"
