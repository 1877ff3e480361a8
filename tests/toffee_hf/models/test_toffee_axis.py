"""Axes of objects: at first those of the outlines, mirrored with the picture, saved as they are."""

import torch

from toffee_hf.models.toffee_axis import SIDE, ToffeeAxis, axis_view
from toffee_hf.pipelines.pipeline_toffee_view import outline_axis

CAMERA = {"field_of_view": 0.628, "nearest": 1.5, "farthest": 9.0}


def scene():
    """Two pictures of 128 pixels, masks and depths: a ball, and a box at the left."""
    generator = torch.Generator().manual_seed(0)
    line = (torch.arange(128) + 0.5) / 64 - 1
    x, y = line.expand(128, 128), line[:, None].expand(128, 128)
    ball = (x.square() + y.square() < 0.2).float()
    box = ((x > -0.7) & (x < -0.2) & (y.abs() < 0.4)).float()
    mask = torch.stack([ball, box])[:, None]
    depth = torch.stack([0.5 - 0.1 * (x.square() + y.square()), 0.45 + 0.1 * x])[:, None] * mask
    return torch.rand(2, 3, 128, 128, generator=generator) * 2 - 1, mask, depth


def stirred(seed=1):
    torch.manual_seed(seed)
    model = ToffeeAxis(widths=(8, 8, 8, 8)).eval()
    torch.nn.init.normal_(model.head[2].weight, std=0.3)
    return model


@torch.no_grad()
def test_an_untrained_one_leaves_the_outlines_axes():
    outline = outline_axis(*scene()[1:], **CAMERA)
    assert torch.equal(ToffeeAxis()(*scene(), outline), outline)
    assert abs(outline[0, 0]) < 0.01 and outline[1, 0] < -0.1 and (outline[:, 1] > 1.5).all()


@torch.no_grad()
def test_every_input_counts():
    image, mask, depth = scene()
    outline, model = outline_axis(mask, depth, **CAMERA), stirred()
    base = model(image, mask, depth, outline)
    assert base.shape == (2, 3) and (base - outline).abs().amin() > 0
    for changed in ((image.flip(1), mask, depth), (image, mask.roll(9, 2), depth), (image, mask, depth * 0.8),
                    (image, mask, depth.roll(9, 3))):
        assert (model(*changed, outline) - base).abs().max() > 1e-6
    first = model.body[0].weight
    for channel in range(first.shape[1]):
        kept = first[:, channel].clone()
        first[:, channel] = 0
        assert (model(image, mask, depth, outline) - base).abs().max() > 1e-7, channel
        first[:, channel] = kept


@torch.no_grad()
def test_a_mirrored_picture_has_the_mirrored_axis():
    image, mask, depth = scene()
    outline, model = outline_axis(mask, depth, **CAMERA), stirred()
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    found = model(*(x.flip(-1) for x in scene()), outline * mirror)
    assert torch.allclose(found, model(image, mask, depth, outline) * mirror, atol=1e-6)


@torch.no_grad()
def test_it_sees_pictures_of_any_size_alike():
    image, mask, depth = scene()
    seen = axis_view(image, mask, depth)
    assert seen.shape == (2, 8, SIDE, SIDE) and 0.9 < seen.abs().max() <= 5
    twice = axis_view(*(x.repeat_interleave(2, -1).repeat_interleave(2, -2) for x in scene()))
    assert torch.allclose(seen, twice, atol=1e-4)
    assert torch.isfinite(axis_view(image, 0 * mask, depth)).all()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = stirred()
    model.save_pretrained(tmp_path)
    again = ToffeeAxis.from_pretrained(tmp_path)
    outline = outline_axis(*scene()[1:], **CAMERA)
    with torch.no_grad():
        assert torch.equal(again(*scene(), outline), model(*scene(), outline))
