"""How good a family is, model by model, on subjects that no training has seen. B batch, H, W pixels."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from toffee_hf.evaluation.figures import Figure, psnr_inside, ssim_inside
from toffee_hf.evaluation.heldout import (
    Asked,
    Pictures,
    any_pictures,
    asked,
    jittered,
    pictures,
    references,
    subjects,
    turned_by,
)
from toffee_hf.evaluation.ways import (
    Drafts,
    as_built,
    drafts,
    pasted,
    posed_as,
    refined,
    text_to_image,
    through_autoencoder,
    views,
)
from toffee_hf.family import Family
from toffee_hf.perception.depth import LOOKS, depth_looks, estimate_depth
from toffee_hf.perception.masks import subject_masks
from toffee_hf.toy.world import ToySubject

BATCH = 16
VIEW_TURN = 0.9                       # radians
Values = dict[str, Tensor]            # one value a subject


@torch.no_grad()
def measure(family: Family, count: int = 304, only: tuple[str, ...] = ()) -> dict[str, Figure]:
    """Figures over `count` held-out subjects, of the groups in `only` or of all GROUPS."""
    found: dict[str, list[Tensor]] = {}
    for first in range(0, count, BATCH):
        people = subjects("held-out", first, min(BATCH, count - first))
        for group in only or GROUPS:
            for name, values in GROUPS[group](family, people).items():
                found.setdefault(name, []).append(values)
    return {name: Figure.of(torch.cat(values)) for name, values in found.items()}


@torch.no_grad()
def autoencoder_psnr(autoencoder: Any, count: int = 64) -> Figure:
    """PSNR in dB inside the subject's mask over `count` held-out pictures in any scene and style."""
    found = []
    for person in subjects("held-out", 0, count):
        shown = any_pictures([person])
        found.append(psnr_inside(autoencoder.pictures(autoencoder.latents(shown.x)).clamp(-1, 1), shown.x, shown.mask))
    return Figure.of(torch.cat(found))


def _autoencoder(family: Family, people: list[ToySubject]) -> Values:
    shown, photos = any_pictures(people), references(people)
    return {f"autoencoder, {name}: PSNR in the mask": psnr_inside(through_autoencoder(family, p.x), p.x, p.mask)
            for name, p in (("any style", shown), ("photos", photos))}


def _perception(family: Family, people: list[ToySubject]) -> Values:
    """Masks and depth of pictures in any scene and style."""
    shown = any_pictures(people)
    masks = subject_masks(family.segmenter, family.clip, family.tokenizer, shown.x, shown.names) > 0.5
    truth = shown.mask > 0.5
    iou = (masks & truth).sum((1, 2, 3)) / (masks | truth).sum((1, 2, 3)).clamp_min(1)
    depth, everywhere = estimate_depth(family.depth, shown.x), torch.ones_like(shown.mask)
    return {"text to mask: IoU": iou.float(), "depth: correlation": correlation(depth, shown.depth, everywhere),
            "depth: correlation in the mask": correlation(depth, shown.depth, shown.mask)}


def correlation(a_B1HW: Tensor, b_B1HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Pearson's correlation of two planes inside a mask, (B,)."""
    inside = mask_B1HW > 0.5
    return torch.stack([torch.corrcoef(torch.stack([a[i], b[i]]))[0, 1]
                        for a, b, i in zip(a_B1HW, b_B1HW, inside, strict=True)])


def named(family: Family, x_B3HW: Tensor, truth: Pictures | Asked, names: list[str]) -> Values:
    """Whether the classifier names scene, style and class right, 0 or 1, (B,) each."""
    answers = family.classifier.answers(x_B3HW)
    right = {"scene": [shot.scene for shot in truth.shots], "style": [shot.style for shot in truth.shots],
             "class": names}
    return {what: torch.tensor([float(a == r) for a, r in zip(answers[what], right[what], strict=True)])
            for what in right}


def _classifier(family: Family, people: list[ToySubject]) -> Values:
    """The yardstick itself, on true renders."""
    shown = any_pictures(people)
    return {f"classifier on true renders: {what} right": values
            for what, values in named(family, shown.x, shown, shown.names).items()}


def _text_to_image(family: Family, people: list[ToySubject]) -> Values:
    found: Values = {}
    for kind in ("photo", "style"):
        wish = asked(people, kind)
        x = text_to_image(family, wish.prompts, [s.index for s in people])
        for what, values in named(family, x, wish, [s.class_name for s in people]).items():
            found[f"text to image, {kind} prompts: {what} right"] = values
    return found


def _targets(family: Family, people: list[ToySubject]) -> Values:
    """Drafts, pasted references and refined targets, with the reference in the target's pose and jittered."""
    found: Values = {}
    same, moved = references(people), jittered(people)
    for kind in ("photo", "style"):
        wish = asked(people, kind)
        truth, draft = pictures(people, wish.shots), drafts(family, same, wish.prompts, wish.styles)
        for what, values in named(family, draft.x, wish, same.names).items():
            found[f"ControlNet, {kind} prompts: {what} right"] = values
        depth = depth_looks(family.depth, draft.x, len(LOOKS)).mean(1, keepdim=True)
        found[f"ControlNet, {kind} prompts: depth correlation in the mask, four looks"] = correlation(
            depth, same.depth, same.mask)
        for pose, reference in (("same pose", same), ("jittered", moved)):
            for way, x in _ways(family, draft, same, reference, wish):
                found |= _fidelity(family, f"{kind} prompts, {pose}: {way}", x, truth, wish)
        for way, x in (("draft", draft.x), ("truth through the autoencoder", through_autoencoder(family, truth.x))):
            found |= _fidelity(family, f"{kind} prompts: {way}", x, truth, wish)
    return found


def _ways(family: Family, draft: Drafts, posed: Pictures, reference: Pictures, wish: Asked
          ) -> Iterator[tuple[str, Tensor]]:
    yield "reference pasted", pasted(draft, posed, reference)
    yield "refined", refined(family, draft, posed, reference, wish.prompts)
    yield "refined as built", refined(family, draft, posed, reference, wish.prompts, **as_built(wish))
    if reference is not posed:        # in another pose
        turned = posed_as(family, posed, reference)
        yield "pasted, reference turned", pasted(draft, posed, turned, placed=True)
        yield "refined as built, reference turned", refined(family, draft, posed, turned, wish.prompts, placed=True,
                                                            **as_built(wish))


def _fidelity(family: Family, name: str, x: Tensor, truth: Pictures, wish: Asked) -> Values:
    style = named(family, x, wish, truth.names)["style"]
    return {f"{name}, PSNR in the mask": psnr_inside(x, truth.x, truth.mask),
            f"{name}, SSIM in the mask": ssim_inside(x, truth.x, truth.mask), f"{name}, style right": style}


def _views(family: Family, people: list[ToySubject]) -> Values:
    """The View Generator against the reference copied; masks true, depth estimated."""
    turns = [random.Random(f"turn/{s.index}").choice((-1, 1)) * VIEW_TURN for s in people]
    shown, truth = references(people), turned_by(people, turns)
    ways = {"reference copied": shown.x, "view": views(family, shown, turns),
            "view by one look": views(family, shown, turns, looks=1),
            "view without depth": views(family, shown, turns, in_space=False),
            "truth through the autoencoder": through_autoencoder(family, truth.x)}
    found: Values = {}
    for name, x in ways.items():
        found[f"view by {VIEW_TURN} rad: {name}, PSNR in the mask"] = psnr_inside(x, truth.x, truth.mask)
        found[f"view by {VIEW_TURN} rad: {name}, SSIM in the mask"] = ssim_inside(x, truth.x, truth.mask)
    return found


def _matching(family: Family, people: list[ToySubject]) -> Values:
    """Patches of a subject that find their counterpart in another design, by deep features alone."""
    from toffee_hf.evaluation.matching import matched_within_a_patch

    found = [matched_within_a_patch(family.dino, "held-out", s.index) for s in people]
    return {f"matching, {kind}: within one patch": torch.tensor([f[kind] for f in found]) for kind in found[0]}


GROUPS: dict[str, Callable[[Family, list[ToySubject]], Values]] = {
    "autoencoder": _autoencoder, "perception": _perception, "classifier": _classifier, "matching": _matching,
    "text_to_image": _text_to_image, "targets": _targets, "views": _views,
}
