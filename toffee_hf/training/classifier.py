"""Training of the evaluation's classifier on true renders: which scene, which style, which class."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from toffee_hf.models.toffee_classifier import ToffeeClassifier
from toffee_hf.pipelines.pipeline_toffee_refiner import box_to_box, mask_box, warp
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import CLASSES
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import SHOTS, Pool

CLOSE = 0.25                          # share of training pictures that show the subject alone
QUESTIONS = {"scene": list(SCENES), "style": list(STYLES), "class": list(CLASSES)}


def new_classifier() -> ToffeeClassifier:
    """A classifier that asks QUESTIONS."""
    return ToffeeClassifier(QUESTIONS)


def train_classifier(model: ToffeeClassifier, pool: Pool, schedule: Schedule, folder: Path, seed: int
                     ) -> ToffeeClassifier:
    """Cross-entropy of the three answers on pool pictures, whole and of the subject alone, worn by `worn`."""
    model = model.to(memory_format=torch.channels_last)
    truth = {"scene": torch.tensor([QUESTIONS["scene"].index(shot.scene) for shot in pool.shots]),
             "style": torch.tensor([QUESTIONS["style"].index(shot.style) for shot in pool.shots]),
             "class": torch.tensor([QUESTIONS["class"].index(subject.class_name) for subject in pool.people]
                                   ).repeat_interleave(SHOTS)}

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(pool), (schedule.batch_size,), generator=generator)
        x, close = pool.pictures("image", index), torch.rand(len(index), generator=generator) < CLOSE
        x = torch.where(close[:, None, None, None], subject_alone(x, pool.planes("mask", index)), x)
        logits = model(worn(x, generator).contiguous(memory_format=torch.channels_last))
        asked = {name: truth[name][index] for name in QUESTIONS}
        asked["scene"] = asked["scene"].masked_fill(close, -100)
        errors = [F.cross_entropy(logits[name], asked[name], label_smoothing=0.05) for name in QUESTIONS]
        hits = {name: (logits[name].argmax(-1) == truth[name][index]).float().mean() for name in QUESTIONS}
        return {"loss": torch.stack(errors).sum(), **hits}

    fit("classifier", model, loss, schedule, folder, seed)
    return model


def subject_alone(x_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """The square about the subject's box, enlarged to the whole picture."""
    box = mask_box(mask_B1HW)
    centre, half = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).amax(-1, keepdim=True) / 2
    whole = box.new_tensor((-1.0, -1.0, 1.0, 1.0)).expand(len(box), 4)
    return warp(x_B3HW, box_to_box(whole, torch.cat([centre - half, centre + half], -1)))


def worn(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in [-1, 1] as a generator might draw them: shifted, mirrored, some of them soft, some of them noisy."""
    b = len(x)
    shift = torch.randint(-10, 11, (2,), generator=generator).tolist()
    x = torch.roll(x, shift, (-2, -1))
    x = torch.where(_coin(b, 0.5, generator), x.flip(-1), x)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(_coin(b, 0.25, generator), soft, x)
    noise = 0.05 * torch.randn(x.shape, generator=generator)
    return torch.where(_coin(b, 0.25, generator), x + noise, x)


def _coin(count: int, chance: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator) < chance
