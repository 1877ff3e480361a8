"""Editing inside a mask, several subjects, their weight, depth: what may change, and what must not."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingForDepthEstimation

from tests.tiny_family import LATENTS, small_dino, stirred
from tests.toffee_hf.pipelines.conftest import box, own, photo, seeded
from toffee_hf.pipelines import pipeline_toffee
from toffee_hf.training.perception import depth_config


def clear(image, opacity=None):
    """The picture with an alpha channel."""
    image = image.convert("RGBA")
    image.putalpha(opacity or Image.new("L", image.size, 255))
    return image


LINE = (0.5, 0.0, 0.5 + 1 / 64, 1.0)
MASKS = [((64, 64), (.25, .25, .75, .75)), ((61, 47), (.3, .3, .6, .9)), ((130, 90), (0, 0, .5, 1)), ((64, 64), LINE),
         ((1300, 900), (.4, .5, .9, .8)), ((700, 1023), (0, .6, 1, .601)), ((33, 257), (.5, .5, .6, .6))]  # fmt: skip


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("size", "part"), MASKS, ids=str)
def test_outside_the_mask_every_pixel_stays_and_inside_it_is_drawn(draw, size, part, transparent):
    source, mask = photo(7, *size), box(*size, part)
    drawn = draw(image=clear(source) if transparent else source, mask_image=mask, output_type="pil",
                 num_inference_steps=1)[0]
    assert drawn.size == size and drawn.mode == "RGB"
    outside, same = np.array(mask) == 0, np.array(drawn) == np.array(source)
    assert same[outside].all() and (~same[~outside]).any(-1).mean() > 0.5


@pytest.mark.parametrize("kind", ["np", "pt"])
def test_arrays_and_tensors_are_edited_like_pictures(draw, kind):
    sources, mask = [photo(7, 70, 50), photo(8, 70, 50)], box(70, 50)
    expected = draw(prompt=["a", "b"], image=sources, mask_image=mask, output_type="np")
    array = np.stack([np.array(source) for source in sources])
    told = {"np": {"image": array, "mask_image": np.array(mask)},
            "pt": {"image": torch.from_numpy(array).movedim(-1, 1) / 255,
                   "mask_image": torch.from_numpy(np.array(mask) > 0)}}[kind]  # fmt: skip
    assert np.array_equal(draw(prompt=["a", "b"], **told, output_type="np"), expected)
    outside = np.array(mask) == 0
    assert np.array_equal((expected * 255).round()[:, outside], array[:, outside])


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_source_of_more_than_8_bits_stays_as_it_is(draw, mode):
    values = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    source = Image.fromarray({"I;16": values, "I": values.astype(np.int32), "F": np.float32(values / 65535)}[mode])
    assert source.mode == mode
    drawn = draw(image=source, mask_image=box(), output_type="np")[0]
    outside = np.array(box()) == 0
    assert np.abs(drawn[outside] - values[outside][:, None] / 65535).max() < 1e-6


def test_each_picture_of_a_batch_is_joined_to_its_own_source(draw):
    sources, masks = [photo(7), photo(8)], [box(), box(part=(0, 0, .5, 1))]
    told = {"output_type": "pt", "num_images_per_prompt": 2}
    both = draw(prompt=["a", "b"], image=sources, mask_image=masks, generator=seeded(1, 2, 3, 4), **told)
    for i in range(2):
        alone = draw(prompt="ab"[i], image=sources[i], mask_image=masks[i],
                     generator=seeded(2 * i + 1, 2 * i + 2), **told)
        assert (both[2 * i : 2 * i + 2] - alone).abs().max() < 1e-3


def test_a_see_through_source_comes_back_on_the_ground(draw):
    source, mask = clear(photo(7), box(part=(0, 0, .1, 1))), box()
    drawn = np.array(draw(image=source, mask_image=mask, output_type="pil")[0])
    outside, opaque = np.array(mask) == 0, np.array(source)[..., 3] > 0
    assert (drawn[outside & ~opaque] == pipeline_toffee.GROUND).all()
    assert (drawn[opaque] == np.array(source)[opaque, :3]).all()


def test_a_picture_that_lies_on_its_side_is_put_upright(draw):
    source, mask = photo(7, 60, 40), box(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = [image.transpose(Image.Transpose.ROTATE_90) for image in (source, mask)]
    for image in turned:
        image.getexif()[0x0112] = 6
    drawn = draw(image=turned[0], mask_image=turned[1], output_type="np")
    assert drawn.shape[1:3] == (40, 60) and np.array_equal(drawn, draw(image=source, mask_image=mask, output_type="np"))


def test_an_edited_picture_keeps_its_size_whatever_it_is_drawn_in(draw):
    source, mask = photo(7, 100, 50), box(100, 50)
    for asked in ({}, {"height": 32, "width": 64}, {"height": 96}):
        drawn = draw(image=source, mask_image=mask, output_type="pil", **asked)[0]
        assert drawn.size == (100, 50)
        assert (np.array(drawn) == np.array(source))[np.array(mask) == 0].all()
    assert draw(image=source, mask_image=mask).shape[-2:] == (6, 12), "the shape of 2:1 at the UNet's own area"
    assert draw(image=source, mask_image=mask, height=32, width=64).shape[-2:] == (4, 8)


def test_a_picture_of_5000_pixels_is_edited_in_seconds(draw):
    source, mask = photo(7, 5000, 1000), box(5000, 1000, (.2, .3, .6, .9))
    began = time.process_time()
    drawn = draw(image=source, mask_image=mask, output_type="pil", num_inference_steps=1)[0]
    assert time.process_time() - began < 10
    assert drawn.size == source.size
    same = (np.array(drawn) == np.array(source)).all(-1)
    assert same[np.array(mask) == 0].all() and same[np.array(mask) > 0].mean() < 0.1


def test_the_seam_is_soft_inside_the_mask_and_thin_parts_are_drawn_in_full():
    source, drawn = torch.zeros(3, 200, 200), torch.ones(3, 200, 200)
    mask = torch.zeros(1, 200, 200)
    mask[:, 40:160, 40:160] = mask[:, :, 10:12] = mask[:, 195:] = 1
    joined = pipeline_toffee._joined(drawn, source, mask)[0]
    assert (joined[mask[0] == 0] == 0).all() and (joined[60:140, 60:140] == 1).all()
    assert 0 < joined[100, 41] < joined[100, 43] < 1 and (joined[:180, 10:12] > 0.9).all()
    assert (joined[199] > 0.9).all() and (joined[195, 20:180] < 0.5).all(), "no seam at the picture's own border"


# --- subjects -----------------------------------------------------------------------------------------------------


def test_without_weight_there_is_no_subject(draw):
    for told in ({}, {"image": photo(7), "mask_image": box()}, {"subject_regions": box()}):
        one, other = (draw(subject_image=photo(n), subject_scale=0, **told) for n in (1, 2))
        assert torch.equal(one, other), told
        assert (draw(subject_image=photo(1), **told) - one).abs().max() > 1e-3


def test_several_subjects_each_in_its_region(pipe, draw):
    left, right = box(part=(0, 0, .5, 1)), box(part=(.5, 0, 1, 1))
    told = {"subject_image": [photo(1), photo(2)], "subject_regions": [left, right]}
    seen = []
    layer = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    hint_gone = pipe.unet.register_forward_pre_hook(
        lambda module, given, known: (given, {**known, "space": known["space"] * 0}), with_kwargs=True)
    with hint_gone, layer.register_forward_hook(lambda *call: seen.append(call[-1][-1].unflatten(0, (8, 8)))):
        draw(**told, num_inference_steps=1)
        draw(**{**told, "subject_image": [photo(3), photo(2)]}, num_inference_steps=1)
    moved = (seen[0] - seen[1]).abs().amax(-1)
    assert moved[:, :4].min() > 0 and moved[:, 4:].max() == 0
    swapped = draw(**{**told, "subject_regions": [right, left]})
    assert (swapped - draw(**told)).abs().max() > 1e-3


def test_hints_lie_in_the_regions(pipe, draw):
    shown = []
    with pipe.unet.register_forward_pre_hook(lambda module, given, known: shown.append(known["space"][0, -1]),
                                             with_kwargs=True):  # fmt: skip
        draw(subject_regions=box(part=(0, 0, .5, .5)), num_inference_steps=1)
        draw(image=photo(7), mask_image=box(part=(.5, .5, 1, 1)), num_inference_steps=1)
    assert shown[0].max() > 0 and shown[0][4:].max() == shown[0][:, 4:].max() == 0
    assert shown[1].max() > 0 and shown[1][:4].max() == shown[1][:, :4].max() == 0


def test_subjects_of_several_prompts_are_lists_of_lists(draw):
    rows = [[photo(1), photo(2)], [photo(3), photo(4)]]
    told = {"generator": None, "latents": torch.randn(2, LATENTS, 8, 8)}
    both = draw(prompt=["a", "b"], subject_image=rows, **told)
    for i in range(2):
        alone = draw(prompt="ab"[i], subject_image=rows[i], generator=None, latents=told["latents"][i : i + 1])
        assert (alone[0] - both[i]).abs().max() < 1e-4
    same = draw(prompt=["a", "b"], subject_image=photo(1), **told)
    assert torch.equal(draw(prompt=["a", "b"], subject_image=[photo(1)], **told), same)
    assert torch.equal(draw(prompt=["a", "b"], subject_image=[[photo(1)]], **told), same)


def test_a_subject_is_the_same_as_picture_array_and_tensor_and_by_mask_or_transparency(draw):
    picture, mask = photo(1), box()
    cut = Image.composite(picture, Image.new("RGB", picture.size, pipeline_toffee.GROUND), mask)
    base = draw(subject_image=cut, subject_mask=mask)
    array = np.array(clear(picture, mask))
    for same in ({"subject_image": clear(picture, mask)}, {"subject_image": array},
                 {"subject_image": torch.from_numpy(array).movedim(-1, 0)},
                 {"subject_image": np.array(cut) / 255.0, "subject_mask": np.array(mask) > 0},
                 {"subject_image": torch.from_numpy(np.array(cut)).movedim(-1, 0)[None],
                  "subject_mask": torch.from_numpy(np.array(mask)) / 255}):  # fmt: skip
        assert (draw(**same) - base).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (90, 64)], ids=str)
def test_a_long_subject_is_seen_from_end_to_end(size):
    mask = box(*size, (0.02, 0.02, 0.98, 0.98))
    x, seen = pipeline_toffee._square(photo(1, *size), mask, 64)
    x0, y0, x1, y1 = ((pipeline_toffee.mask_box(seen[None])[0] + 1) * 32).tolist()
    assert x.shape == (3, 64, 64) and max(x1 - x0, y1 - y0) >= 60
    assert (x1 - x0) / (y1 - y0) == pytest.approx(size[0] / size[1], rel=0.1)


def test_a_small_subject_stays_as_large_as_it_is():
    _, seen = pipeline_toffee._square(photo(1, 300, 100), box(300, 100, (0.9, 0.4, 1, 0.6)), 100)
    x0, y0, x1, y1 = ((pipeline_toffee.mask_box(seen[None])[0] + 1) * 50).round().tolist()
    assert (x0, y0, x1, y1) == (70, 40, 100, 60)


# --- depth --------------------------------------------------------------------------------------------------------


def test_depth_has_a_say_in_any_form_and_all_black_tells_nothing(draw):
    ramp = np.tile(np.linspace(0.2, 1, 64, dtype=np.float32), (64, 1))
    base = draw(depth_image=ramp)
    deep = Image.fromarray((ramp * 65535).astype(np.uint16))
    for same in (torch.from_numpy(ramp), deep, Image.fromarray(ramp), [ramp]):
        assert (draw(depth_image=same) - base).abs().max() < 1e-3
    assert (base - draw()).abs().max() > 1e-3
    assert torch.equal(draw(depth_image=ramp * 0), draw())


def test_a_poses_depth_is_estimated(components, draw):
    torch.manual_seed(0)
    estimator = stirred(DepthAnythingForDepthEstimation(depth_config(small_dino())))
    estimator.head.conv3.bias.add_(1)
    made, seen = own(components, depth_estimator=estimator), []
    estimator.register_forward_pre_hook(lambda module, args, given: seen.append(given["pixel_values"].shape),
                                        with_kwargs=True)
    posed = draw(on=made, pose_image=photo(8, 100, 70))
    assert seen == [(1, 3, 192, 192)], "at the size that it learnt at"
    assert torch.isfinite(posed).all() and (posed - draw()).abs().max() > 1e-5
    assert torch.equal(draw(on=made), draw())
