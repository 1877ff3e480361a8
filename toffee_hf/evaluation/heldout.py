"""How good a family is, model by model, on subjects that no training has seen. B batch, H, W pixels.

Every figure is the mean over subjects with the half-width of its 95 % interval (normal approximation).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toffee_hf.family import Family
from toffee_hf.perception.depth import control_picture, estimate_depth
from toffee_hf.perception.masks import subject_masks
from toffee_hf.pipelines.pipeline_toffee_refiner import box_to_box, mask_box, warp
from toffee_hf.toy.captions import article, in_style, place
from toffee_hf.toy.render import Shot
from toffee_hf.toy.scenes import SCENES
from toffee_hf.toy.styles import STYLES
from toffee_hf.toy.world import ToySubject, reference_shot, toy_shot, toy_subject

BATCH = 16


@dataclass(frozen=True, slots=True)
class Figure:
    """mean ± half (95 %) over n subjects."""

    mean: float
    half: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Figure:
        """values: (N,), N ≥ 2."""
        v = values.double()
        return cls(round(v.mean().item(), 3), round(1.96 * v.std().item() / len(v) ** 0.5, 3), len(v))


@dataclass(frozen=True, slots=True)
class Pictures:
    """A batch of held-out pictures: x (B, 3, H, W) in [-1, 1], mask and depth (B, 1, H, W) in [0, 1]."""

    subjects: list[ToySubject]
    shots: list[Shot]
    x: Tensor
    mask: Tensor
    depth: Tensor

    @property
    def names(self) -> list[str]:
        return [subject.class_name for subject in self.subjects]


def pictures(subjects: list[ToySubject], shots: list[Shot]) -> Pictures:
    """One picture of each subject."""
    shown = [subject.render([shot]) for subject, shot in zip(subjects, shots, strict=True)]
    image, mask, depth = (torch.cat([getattr(r, field) for r in shown]) for field in ("image", "mask", "depth"))
    return Pictures(subjects, shots, image * 2 - 1, mask, depth)


def psnr_inside(x_B3HW: Tensor, truth_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """PSNR in dB (B,) of pictures in [-1, 1], over the mask only."""
    squared = ((x_B3HW - truth_B3HW) / 2).square() * mask_B1HW
    return -10 * torch.log10((squared.sum((1, 2, 3)) / (3 * mask_B1HW.sum((1, 2, 3)))).clamp_min(1e-8))


@torch.no_grad()
def measure(family: Family, count: int = 64) -> dict[str, Figure]:
    """All figures over `count` held-out subjects."""
    found: dict[str, list[Tensor]] = {}
    for first in range(0, count, BATCH):
        people = [toy_subject("held-out", i) for i in range(first, min(first + BATCH, count))]
        for measured in (_perception, _method, _view):
            for name, values in measured(family, people).items():
                found.setdefault(name, []).append(values)
    return {name: Figure.of(torch.cat(values)) for name, values in found.items()}


@torch.no_grad()
def autoencoder_psnr(autoencoder: Any, count: int = 64) -> Figure:
    """PSNR in dB inside the subject's mask over `count` held-out pictures in any scene and style."""
    found = []
    for i in range(count):
        subject = toy_subject("held-out", i)
        shown = pictures([subject], [_any_shot(subject)])
        found.append(psnr_inside(autoencoder.pictures(autoencoder.latents(shown.x)).clamp(-1, 1), shown.x, shown.mask))
    return Figure.of(torch.cat(found))


def _any_shot(subject: ToySubject) -> Shot:
    return toy_shot(random.Random(f"held-out/{subject.index}"))


def _perception(family: Family, people: list[ToySubject]) -> dict[str, Tensor]:
    """Autoencoder, masks and depth on pictures in any scene and style."""
    shown = pictures(people, [_any_shot(subject) for subject in people])
    again = family.vae.pictures(family.vae.latents(shown.x)).clamp(-1, 1)
    masks = subject_masks(family.segmenter, family.clip, family.tokenizer, shown.x, shown.names) > 0.5
    truth = shown.mask > 0.5
    iou = (masks & truth).sum((1, 2, 3)) / (masks | truth).sum((1, 2, 3)).clamp_min(1)
    depth = estimate_depth(family.depth, shown.x)
    corr = torch.stack([torch.corrcoef(torch.stack([d.flatten(), t.flatten()]))[0, 1]
                        for d, t in zip(depth, shown.depth, strict=True)])
    return {"autoencoder, PSNR in mask": psnr_inside(again, shown.x, shown.mask), "mask IoU": iou.float(),
            "depth correlation": corr}


def _method(family: Family, people: list[ToySubject]) -> dict[str, Tensor]:
    """Draft, pasted reference and refined target against the truth: background prompts and style prompts."""
    found: dict[str, Tensor] = {}
    for kind in ("photo", "style"):
        prompts, shots = _asked(people, kind)
        reference = pictures(people, [reference_shot(s) for s in people])
        truth = pictures(people, shots)
        targets = targets_of(family, reference, prompts)
        for name, x in targets.items():
            found[f"{kind} prompts: {name}, PSNR in mask"] = psnr_inside(x, truth.x, truth.mask)
        best = family.vae.pictures(family.vae.latents(truth.x)).clamp(-1, 1)
        found[f"{kind} prompts: truth through the autoencoder, PSNR in mask"] = psnr_inside(best, truth.x, truth.mask)
    return found


def _asked(people: list[ToySubject], kind: str) -> tuple[list[str], list[Shot]]:
    """Prompts, and the shots that would show them: the reference's camera, the prompt's scene and style."""
    prompts, shots = [], []
    for subject in people:
        choice = random.Random(f"asked/{kind}/{subject.index}")
        scene = choice.choice(list(SCENES))
        style = "photo" if kind == "photo" else choice.choice([s for s in STYLES if s != "photo"])
        prompts.append(in_style(style, f"{article(subject.class_name)} {place(scene, choice)}", choice))
        shots.append(replace(reference_shot(subject), scene=scene, style=style, scene_seed=choice.randrange(2**31)))
    return prompts, shots


def targets_of(family: Family, reference: Pictures, prompts: list[str], **refine: Any) -> dict[str, Tensor]:
    """Ways to make a target from a reference and a prompt, each (B, 3, H, W) in [-1, 1]; true masks and depth."""
    generators = [torch.Generator().manual_seed(s.index) for s in reference.subjects]
    picture = control_picture(reference.depth, reference.mask)
    latents = family.draft_pipeline(prompts, picture, num_inference_steps=12, guidance_scale=2.0, generator=generators,
                                    output_type="latent", height=128, width=128).images
    draft = family.vae.pictures(latents).clamp(-1, 1)
    lay = box_to_box(mask_box(reference.mask), mask_box(reference.mask))
    paste = draft * (1 - reference.mask) + warp(reference.x, lay) * reference.mask
    settings: dict[str, Any] = {"strength": 0.9, "num_inference_steps": 1, **refine}
    refined = family.refiner_pipeline(prompts, draft, reference.mask, reference.x, reference.mask,
                                      draft_latents=latents, generator=generators, output_type="pt",
                                      **settings).images * 2 - 1
    return {"draft": draft, "reference pasted": paste, "refined": refined}


def _view(family: Family, people: list[ToySubject]) -> dict[str, Tensor]:
    """The View Generator against the reference copied."""
    shots = [reference_shot(s) for s in people]
    turns = [random.Random(f"turn/{s.index}").choice((-1, 1)) * 0.9 for s in people]
    turned = [replace(shot, camera=replace(shot.camera, yaw=shot.camera.yaw + turn))
              for shot, turn in zip(shots, turns, strict=True)]
    reference, truth = pictures(people, shots), pictures(people, turned)
    view = family.view_pipeline([f"a photo of a {n}" for n in reference.names], reference.x, reference.mask, turns,
                                generator=[torch.Generator().manual_seed(s.index) for s in people],
                                output_type="pt").images * 2 - 1
    through = family.vae.pictures(family.vae.latents(truth.x)).clamp(-1, 1)
    ways = {"reference copied": reference.x, "view": view, "truth through the autoencoder": through}
    return {f"view by 0.9 rad: {name}, PSNR in mask": psnr_inside(x, truth.x, truth.mask) for name, x in ways.items()}


def grid(rows: list[Tensor]) -> Any:
    """Rows of pictures (B, 3, H, W) in [-1, 1] as one PIL picture."""
    from PIL import Image

    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    return Image.fromarray(((sheet + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


