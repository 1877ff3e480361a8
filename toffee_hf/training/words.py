"""The text tower taught to tell apart whatever a caption names: class, scene, style, pose, colours and surface.

Contrastive training stops at the words that tell a batch's pictures apart, scene and style; what it leaves unsaid no
diffusion model can draw.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from toffee_hf.toy.captions import POSES, caption, colours_of, understood
from toffee_hf.toy.designs import COLOURS, DESIGNS, MATERIALS
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import CLASSES, ToySubject
from toffee_hf.training.loop import Schedule, fit
from toffee_hf.training.pool import Pool
from toffee_hf.training.text import tokens

NAMED = {"class": list(CLASSES), "scene": list(SCENES), "style": list(STYLES), "pose": list(POSES),
         "colour": list(COLOURS), "second colour": list(COLOURS), "surface": [*MATERIALS, *DESIGNS]}
HELD = 20.0                           # weight of what the tower tells CLIP, which stays as it was
UNSAID = -100


def train_words(clip: CLIPModel, pool: Pool, tokenizer: CLIPTokenizer, schedule: Schedule, folder: Path, seed: int
                ) -> CLIPModel:
    """Train the text tower until the mean of its hidden states names all of NAMED, each by directions of its own.

    The heads have weights of norm 1, so that a word must move the states to be told. The projected text, by which
    pictures are scored and found, is held to what it was.
    """
    tower, before = clip.text_model.requires_grad_(True), copy.deepcopy(clip.text_model).eval().requires_grad_(False)
    width = clip.config.text_config.hidden_size
    heads = nn.ParameterDict({name: nn.Parameter(0.05 * torch.randn(width, len(v))) for name, v in NAMED.items()})
    clip.text_projection.requires_grad_(False)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        choice = random.Random(f"words/{seed}/{step}")
        captions, truth = _captions(pool, schedule.batch_size, choice)
        ids = tokens(tokenizer, captions)
        found = tower(**ids)
        with torch.no_grad():
            wanted = clip.text_projection(before(**ids).pooler_output)
        mean = F.layer_norm(found.last_hidden_state.mean(1), (width,))
        logits = {name: mean @ F.normalize(head, dim=0) for name, head in heads.items()}
        errors = [F.cross_entropy(logits[name], truth[name], ignore_index=UNSAID, reduction="sum") / len(captions)
                  for name in NAMED]
        moved = 1 - F.cosine_similarity(clip.text_projection(found.pooler_output), wanted, dim=-1).mean()
        right = torch.stack([(logits[n].argmax(-1) == truth[n])[truth[n] != UNSAID].float().mean() for n in NAMED])
        return {"loss": torch.stack(errors).sum() + HELD * moved, "right": right.nanmean(), "moved": moved.detach()}

    fit("words", nn.ModuleDict({"tower": tower, "heads": heads}), loss, schedule, folder, seed)
    return clip


def _captions(pool: Pool, count: int, choice: random.Random) -> tuple[list[str], dict[str, Tensor]]:
    """Captions of subjects of the pool in any scene, style and pose, and what each names, by its place in NAMED."""
    captions: list[str] = []
    truth: dict[str, list[int]] = {name: [] for name in NAMED}
    for _ in range(count):
        subject = pool.people[choice.randrange(pool.subjects)]
        captions.append(caption(subject.class_name, subject.design, choice.choice(NAMED["scene"]),
                                choice.choice(NAMED["style"]), choice.uniform(-3.1416, 3.1416), choice))
        for name, said in _said(captions[-1], subject).items():
            truth[name].append(UNSAID if said is None else NAMED[name].index(said))
    return captions, {name: torch.tensor(values) for name, values in truth.items()}


def _said(words: str, subject: ToySubject) -> dict[str, str | None]:
    wish, colours = understood(words), colours_of(words)
    return {"class": subject.class_name, "scene": wish.scene, "style": wish.style, "pose": wish.pose,
            "colour": colours[0] if colours else None, "second colour": colours[1] if len(colours) > 1 else None,
            "surface": wish.surface}
