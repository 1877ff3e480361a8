"""Toy subjects as a user of the command line meets them: a class word and a picture file."""

from __future__ import annotations

import io

from toffee_hf.toy.world import CLASSES, TOY_VERSION, Split, reference_shot, toy_subject

__all__ = ["TOY_VERSION", "toy_subject_class", "toy_subject_picture"]


def toy_subject_class(index: int) -> str:
    """The class word of a toy subject, of either split."""
    return CLASSES[index % len(CLASSES)]


def toy_subject_picture(split: Split, index: int, size_px: int) -> bytes:
    """The reference photo of a toy subject as PNG; the same bytes on the same libraries."""
    import torch
    from PIL import Image

    subject = toy_subject(split, index)
    with torch.no_grad():
        image = subject.render([reference_shot(subject)], size_px).image[0]
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
