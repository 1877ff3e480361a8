"""Pictures on a model's card: inputs from the toy world's held-out subjects, and what the card's code makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from toffee_hf.cards import table
from toffee_hf.toy.captions import article, place
from toffee_hf.toy.render import Render
from toffee_hf.toy.world import ToySubject, reference_shot, toy_subject

SUBJECT, OTHER = 4, 18                # two held-out toy cars
SCENE, OTHER_SCENE, OWN_SCENE = "beach", "meadow", "table"
TURN = 0.6                            # radians, of the view
WITH_DEPTH = "Without `depth` nothing is turned in space, and the view is drawn from patches of the object alone."
WITHOUT_DEPTH = "It has learnt without depth: nothing is turned in space, the view is drawn from patches of the object."


@dataclass(frozen=True, slots=True)
class Examples:
    """pictures: by file name; words: what the card's code is told of them, by placeholder."""

    pictures: dict[str, Image.Image]
    words: dict[str, str]


def examples_of(model: str, pipeline: Any, depth: bool = True) -> Examples:
    """Inputs and outputs of an `editor`, `refiner` or `view` pipeline, by the calls that its card shows.

    depth: a View Generator is given depth.
    """
    makers: dict[str, Callable[[Any, int], Examples]] = {"editor": _editor, "refiner": _refiner,
                                                         "view": partial(_view, with_depth=depth)}
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):         # as it loads: the layout in memory is seen in last bits
            part.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found = makers[model](pipeline, size_of(pipeline))
    return Examples({f"examples/{name}.png": picture for name, picture in found.pictures.items()}, found.words)


def size_of(pipeline: Any) -> int:
    """Side in pixels of the pictures that a pipeline of ours was made for."""
    unet = pipeline.unet.config
    cells = unet["unet_config"]["sample_size"] if "unet_config" in unet else unet["sample_size"]
    return int(cells * 2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def _editor(pipeline: Any, size_px: int) -> Examples:
    subject, other = toy_subject("held-out", SUBJECT), toy_subject("held-out", OTHER)
    shown, source = (_shot(toy, scene, size_px) for toy, scene in ((subject, OWN_SCENE), (other, OTHER_SCENE)))
    cutout = _pil(shown.image)
    cutout.putalpha(_pil(shown.mask))
    mask = _pil((F.max_pool2d(source.mask, 9, 1, 4) > 0.1).float())
    words = {"prompt": _words(subject, SCENE), "edit": _words(subject, OTHER_SCENE)}
    drawn = pipeline(words["prompt"], cutout, generator=_seeded()).images[0]
    edited = pipeline(words["edit"], cutout, image=_pil(source.image), mask_image=mask, generator=_seeded()).images[0]
    return Examples({"subject": cutout, "source": _pil(source.image), "mask": mask, "drawn": drawn, "edited": edited},
                    words)


def _refiner(pipeline: Any, size_px: int) -> Examples:
    subject = toy_subject("held-out", SUBJECT)
    draft, reference = _shot(subject.resurfaced("marble"), SCENE, size_px), _shot(subject, OWN_SCENE, size_px)
    pictures = {"draft": _pil(draft.image), "draft_mask": _pil(draft.mask), "reference": _pil(reference.image),
                "reference_mask": _pil(reference.mask)}
    told = [_planes(picture) * (1 if name.endswith("mask") else 2) - (0 if name.endswith("mask") else 1)
            for name, picture in pictures.items()]
    prompt = _words(subject, SCENE)
    pictures["refined"] = pipeline(prompt, *told, generator=_seeded()).images[0]
    return Examples(pictures, {"prompt": prompt})


def _view(pipeline: Any, size_px: int, with_depth: bool) -> Examples:
    subject = toy_subject("held-out", SUBJECT)
    shown = _shot(subject, OWN_SCENE, size_px)
    pictures = {"shown": _pil(shown.image), "mask": _pil(shown.mask)}
    pictures |= {"depth": _pil(shown.depth)} if with_depth else {}
    prompt = f"a photo of {article(subject.class_name)}"
    view = pipeline(prompt, _planes(pictures["shown"]) * 2 - 1, _planes(pictures["mask"]), [TURN],
                    depth=_planes(pictures["depth"]) if with_depth else None, generator=_seeded())
    pictures["view"] = view.images[0]
    heading = {"shown": "shown", "mask": "its mask", "depth": "its depth", "view": f"turned by {TURN} rad"}
    rows = table([heading[name] for name in pictures], [[f"![{name}](examples/{name}.png)" for name in pictures]])
    return Examples(pictures, {"prompt": prompt, "turn": str(TURN), "pictures": rows,
                               "depth": 'depth=picture("depth", "L"), ' if with_depth else "",
                               "about_depth": WITH_DEPTH if with_depth else WITHOUT_DEPTH})


def _shot(subject: ToySubject, scene: str, size_px: int) -> Render:
    """The subject in a scene, in the pose of its reference picture."""
    return subject.render([replace(reference_shot(subject), scene=scene)], size_px)


def _words(subject: ToySubject, scene: str) -> str:
    return f"{article(subject.class_name)} {place(scene, random.Random(0))}"


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _pil(x_1CHW: Tensor) -> Image.Image:
    """A picture, or with one channel a plane, of values in [0, 1]."""
    pixels = (x_1CHW[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _planes(picture: Image.Image) -> Tensor:
    """(1, C, H, W) in [0, 1]"""
    pixels = np.array(picture, dtype=np.float32) / 255
    return torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], -1).movedim(-1, 1)
