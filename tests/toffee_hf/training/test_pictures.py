"""Preparing real pictures: masks given or made, everything unusable counted by its reason, nothing read twice."""

import io
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toffee_hf.training.real_data import VIEWS, mask, photo, pictures, png
from toffee_hf.errors import DiskFull, InputError
from toffee_hf.training import pictures as module
from toffee_hf.training.backbone import open_backbone
from toffee_hf.training.pictures import REASONS, Picture, prepare


@pytest.fixture
def asked():
    """The class words that masks were asked for."""
    return []


@pytest.fixture
def backbone(family, asked):
    """Its text→mask model finds a box in the middle."""

    def masks(x, names):
        asked.extend(names)
        made = torch.zeros(len(x), 1, *x.shape[-2:])
        made[:, :, 16:48, 16:48] = 1
        return made

    return replace(open_backbone(str(family.folder)), find_masks=masks)


def prepared(tmp_path, backbone, some, views=1):
    return prepare(some, tmp_path / "pictures", 64, backbone, views)


def test_pixels_masks_and_things_are_as_given(tmp_path, backbone, asked):
    found = prepared(tmp_path, backbone, pictures())
    index = torch.tensor([4, 0])
    wanted = [np.array(Image.open(io.BytesIO(photo(i // VIEWS, i % VIEWS)))) for i in (4, 0)]
    assert torch.equal(found.images(index), torch.from_numpy(np.stack(wanted)).permute(0, 3, 1, 2) / 127.5 - 1)
    assert torch.equal(found.masks(index)[0, 0] > 0, torch.from_numpy(np.array(Image.open(io.BytesIO(mask(1))))) > 0)
    assert len(found) == 12 and found.spans().tolist() == [[0, 3], [3, 3], [6, 3], [9, 3]]
    assert found.prompt(0) == "a photo of a mug" and found.skipped == {} and asked == []
    assert found.yaw[:3] == (0.0, 0.4, 0.8) and all(math.isnan(yaw) for yaw in found.yaw[9:])


def test_rows_of_one_thing_stand_together(tmp_path, backbone):
    mixed = sorted(pictures(), key=lambda p: p.file[::-1])
    found = prepared(tmp_path, backbone, mixed)
    assert list(found.things) == [thing for thing in dict.fromkeys(p.thing for p in mixed) for _ in range(VIEWS)]


def test_masks_are_made_by_the_class_word_where_there_are_none(tmp_path, backbone, asked):
    some = [replace(p, read_mask=None, class_name="red mug") if i % 2 else p for i, p in enumerate(pictures())]
    found = prepared(tmp_path, backbone, some)
    assert asked == ["red mug"] * 6
    assert found.masks(torch.tensor([1]))[0, 0].sum() == 32 * 32
    assert found.masks(torch.tensor([0]))[0, 0].sum() == 32 * 28


def test_a_mask_without_a_word_is_enough(tmp_path, backbone):
    found = prepared(tmp_path, backbone, [replace(p, class_name="00137") for p in pictures()])
    assert found.prompt(0) == "a photo" and len(found) == 12


def gone():
    raise FileNotFoundError("gone")


BAD = {
    "empty": {"read": lambda: b""},
    "not_a_picture": {"read": lambda: b"GIF but not really"},
    "truncated": {"read": lambda: photo(0, 0)[:-200]},
    "too_small": {"read": lambda: png(np.zeros((8, 8, 3), np.uint8))},
    "too_long": {"read": lambda: png(np.zeros((40, 400, 3), np.uint8))},
    "unreadable_file": {"read": gone},
    "no_class_word": {"read_mask": None, "class_name": ""},
    "mask_unreadable": {"read_mask": lambda: b"no mask"},
    "mask_shape": {"read_mask": partial(mask, 1, (64, 100))},
    "no_subject": {"read_mask": lambda: png(np.zeros((64, 64), np.uint8))},
    "fills_the_picture": {"read_mask": lambda: png(np.full((64, 64), 255, np.uint8))},
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_used_is_counted_and_the_rest_stays(tmp_path, backbone, reason):
    some = [*pictures(), replace(pictures()[0], file="bad", **BAD[reason])]
    found = prepared(tmp_path, backbone, some)
    assert found.skipped == {reason: 1} and len(found) == 12 and reason in REASONS


def stored(mode, opaque=None, scale=1):
    """The mask of view 1 in another mode, with 255 / scale for its subject."""
    shades = np.array(Image.open(io.BytesIO(mask(1)))) // scale
    if mode in ("LA", "RGBA"):
        plane = Image.fromarray(shades)
        alpha = plane if opaque is None else Image.new("L", plane.size, opaque)
        found = (Image.new("RGB", plane.size, "red") if opaque is None else plane).convert(mode)
        found.putalpha(alpha)
    else:
        found = Image.fromarray(shades.astype({"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)))
        found = found if mode in ("I;16", "F") else found.convert(mode)
    stream = io.BytesIO()
    found.save(stream, "TIFF" if mode == "F" else "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("mode", "opaque", "scale"), [
    ("L", None, 1), ("1", None, 1), ("RGB", None, 1), ("P", None, 1), ("F", None, 1),
    ("L", None, 255), ("RGB", None, 255), ("I;16", None, 255), ("F", None, 255),          # labels of 0 and 1
    ("RGBA", None, 1), ("LA", None, 1),                                                   # the subject cut out
    ("RGBA", 255, 1), ("LA", 255, 1), ("RGBA", 0, 1), ("RGBA", 255, 255)])  # fmt: skip
def test_masks_are_read_as_people_store_them(tmp_path, backbone, mode, opaque, scale):
    some = [replace(pictures()[1], read_mask=partial(stored, mode, opaque, scale))]
    found = prepared(tmp_path, backbone, some)
    assert torch.equal(found.masks(torch.tensor([0]))[0, 0] > 0, torch.from_numpy(np.array(Image.open(io.BytesIO(
        mask(1))))) > 0)  # fmt: skip


def test_a_mask_that_is_gone_is_counted_too(tmp_path, backbone):
    found = prepared(tmp_path, backbone, [*pictures(), replace(pictures()[0], file="bad", read_mask=gone)])
    assert found.skipped == {"mask_unreadable": 1}


def test_single_views_are_left_out_and_counted(tmp_path, backbone):
    some = [p for p in pictures() if p.thing != "thing 1" or p.file == "1-2"]
    found = prepared(tmp_path, backbone, some, views=2)
    assert found.skipped == {"single_view": 1} and sorted(set(found.things)) == ["thing 0", "thing 2", "thing 3"]


@pytest.mark.parametrize(("some", "views", "says"), [
    ([], 1, "no usable picture among 0"),
    ([replace(p, read_mask=None, class_name="") for p in pictures()], 1, "12 no_class_word.*give masks or class words"),
    ([p for p in pictures() if p.file.endswith("0")], 2, "4 single_view.*give several views"),
    ([replace(p, read=lambda: b"") for p in pictures()], 1, r"12 empty \(the file has no bytes\)"),
])  # fmt: skip
def test_nothing_usable_is_an_error_that_leaves_nothing(tmp_path, backbone, some, views, says):
    with pytest.raises(InputError, match=says):
        prepared(tmp_path, backbone, some, views)
    assert list(tmp_path.iterdir()) == []


def test_prepared_once_nothing_is_read_again(tmp_path, backbone):
    first = prepared(tmp_path, backbone, pictures())
    again = prepared(tmp_path, backbone, [replace(p, read=gone) for p in pictures()])
    assert again.class_names == first.class_names and again.digest == first.digest
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["image.npy", "mask.npy", "pictures.json"]


@pytest.mark.parametrize("other", [
    lambda some: some[:-1], lambda some: [replace(some[0], class_name="duck"), *some[1:]],
    lambda some: [replace(some[0], yaw=1.0), *some[1:]], lambda some: [replace(some[0], version="new"), *some[1:]],
    lambda some: [replace(some[0], read_mask=None), *some[1:]]])  # fmt: skip
def test_other_pictures_in_the_same_folder_are_refused(tmp_path, backbone, other):
    prepared(tmp_path, backbone, pictures())
    with pytest.raises(InputError, match="holds other pictures"):
        prepared(tmp_path, backbone, other(pictures()))
    assert prepared(tmp_path, backbone, pictures()).skipped == {}


def test_a_full_disk_is_told_and_what_was_begun_goes(tmp_path, backbone, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", full)
        with pytest.raises(DiskFull, match="no space left"):
            prepared(tmp_path, backbone, pictures())
    assert list(tmp_path.iterdir()) == []
    assert len(prepared(tmp_path, backbone, pictures())) == 12


def test_a_wide_picture_is_cropped_like_its_mask(tmp_path, backbone):
    wide = Picture("wide", partial(photo, 0, 1, (64, 96)), "mug", partial(mask, 1, (64, 96)))
    found = prepared(tmp_path, backbone, [wide])
    inside = found.masks(torch.tensor([0]))[0, 0] > 0
    assert torch.equal(inside, torch.from_numpy(np.array(Image.open(io.BytesIO(mask(1, (64, 96)))))[:, 16:-16] > 0))
    red = found.images(torch.tensor([0]))[0, 0]
    assert torch.equal((red < -0.9) | (red > 0.9), inside), "of the box, on a ground of greys"
