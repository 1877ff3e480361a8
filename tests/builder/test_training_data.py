"""What a training reads: folders, datasets, MVImgNet and toys become pictures with masks, by object."""

import io
import math

import datasets
import numpy as np
import pytest
from PIL import Image

from builder.training_data import MOST_TOYS, UNNAMED, photos_of, views_of
from tests.toffee_hf.training.real_data import mask, photo
from toffee_hf.errors import InputError


def pictures_of(count=4):
    return [Image.open(io.BytesIO(photo(k // 2, k % 2))) for k in range(count)]


def dataset(folder, **columns):
    made = datasets.Dataset.from_dict({"image": pictures_of(), **columns}).cast_column("image", datasets.Image())
    if "mask" in columns:
        made = made.cast_column("mask", datasets.Image())
    folder.mkdir()
    made.to_parquet(folder / "train-0.parquet")
    return str(folder)


def masks_of(count=4):
    return [Image.open(io.BytesIO(mask(k % 2))) for k in range(count)]


def test_photos_of_class_folders_with_masks_beside_them(tmp_path):
    home = tmp_path / "mug"
    (home / "masks").mkdir(parents=True)
    for k in range(3):
        (home / f"{k}.png").write_bytes(photo(0, k))
    (home / "masks" / "0.png").write_bytes(mask(0))
    (home / "masks" / "1.png.png").write_bytes(mask(1))
    (home / "broken.jpg").write_bytes(b"not a picture")
    found = photos_of(str(tmp_path), 64)
    by_pixels = {p.read(): p for p in found.pictures}
    given = [by_pixels[photo(0, k)].read_mask for k in range(3)]
    assert given[0]() == mask(0) and given[1]() == mask(1) and given[2] is None
    assert {p.class_name for p in found.pictures} == {"mug"} and found.skipped == {"not_a_picture": 1}
    assert all(math.isnan(p.yaw) for p in found.pictures) and not found.same_place


def test_views_are_grouped_by_the_subject_id_of_metadata(tmp_path):
    lines = ["file_name,class_name,subject_id"]
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(photo(k // 2, k % 2))
        lines.append(f"{k}.png,{'mug' if k < 2 else 'duck'},one")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = views_of(str(tmp_path), 64)
    assert sorted(p.thing for p in found.pictures) == ["duck/one"] * 2 + ["mug/one"] * 2


def test_a_dataset_gives_masks_objects_and_cameras(tmp_path):
    spec = dataset(tmp_path / "d", class_name=["mug"] * 4, subject_id=["a", "a", "b", "b"], mask=masks_of(),
                   yaw=[0.0, 0.5, None, 1.0])  # fmt: skip
    found = {p.read(): p for p in views_of(spec, 64).pictures}
    first, third = found[photo(0, 0)], found[photo(1, 0)]
    assert (first.thing, first.yaw, found[photo(0, 1)].yaw) == ("mug/a", 0.0, 0.5) and math.isnan(third.yaw)
    assert np.array_equal(np.array(Image.open(io.BytesIO(third.read_mask()))), np.array(masks_of()[0]))


def test_masks_alone_are_enough(tmp_path):
    found = photos_of(dataset(tmp_path / "d", mask=masks_of()), 64)
    assert len(found.pictures) == 4 and {p.class_name for p in found.pictures} == {UNNAMED}


def test_neither_masks_nor_words_is_an_error(tmp_path):
    with pytest.raises(InputError, match="neither class words nor masks"):
        photos_of(dataset(tmp_path / "d", label=[1, 2, 3, 4]), 64)


@pytest.mark.parametrize("kind", ["folder", "dataset"])
def test_objects_with_a_single_view_are_an_error_where_there_are_no_others(tmp_path, kind):
    if kind == "folder":
        (tmp_path / "d" / "mug").mkdir(parents=True)
        for k in range(3):
            (tmp_path / "d" / "mug" / f"{k}.png").write_bytes(photo(0, k))
        spec = str(tmp_path / "d")
    else:
        spec = dataset(tmp_path / "d", class_name=["mug"] * 4)
    assert len(photos_of(spec, 64).pictures) >= 3
    with pytest.raises(InputError, match="single view.*subject_id"):
        views_of(spec, 64)


def test_the_folders_of_mvimgnet_serve_both(tmp_path):
    for thing in ("a", "b"):
        (tmp_path / "mug" / thing / "images").mkdir(parents=True)
        for k in range(2):
            (tmp_path / "mug" / thing / "images" / f"{k}.jpg").write_bytes(photo(0, k))
    assert len(photos_of(str(tmp_path), 64).pictures) == 4
    assert {p.thing for p in views_of(str(tmp_path), 64).pictures} == {"mug/a", "mug/b"}


def test_folders_of_mvimgnet_without_pictures_are_left_to_be_told(tmp_path):
    (tmp_path / "mug" / "a" / "images").mkdir(parents=True)
    assert views_of(str(tmp_path), 64).pictures == photos_of(str(tmp_path), 64).pictures == []


@pytest.mark.parametrize("read", [photos_of, views_of])
def test_what_is_for_measuring_is_not_trained_on(read):
    with pytest.raises(InputError, match="toy:held-out is for measuring.*toy:train"):
        read("toy:held-out", 64)


def test_data_has_the_name_of_its_folder_and_not_its_place(tmp_path, monkeypatch):
    (tmp_path / "things" / "mug").mkdir(parents=True)
    (tmp_path / "things" / "mug" / "0.png").write_bytes(photo(0, 0))
    monkeypatch.chdir(tmp_path)
    for spec in (str(tmp_path / "things"), "things", "./things/", "things/../things"):
        assert photos_of(spec, 64).name == "things"
    assert photos_of("toy:train", 64).name == views_of("toy:train", 64).name == "toy:train"


def test_toys_come_in_two_views_in_the_same_place_with_masks_and_cameras():
    found = views_of("toy:train", 64)
    first, second = found.pictures[:2]
    assert found.same_place and first.thing == second.thing and len(found.pictures) == 2 * MOST_TOYS
    a, b = (np.array(Image.open(io.BytesIO(p.read()))) for p in (first, second))
    inside = [np.array(Image.open(io.BytesIO(p.read_mask()))) > 0 for p in (first, second)]
    assert a.shape == (64, 64, 3) and 0.02 < inside[0].mean() < 0.7
    away = ~(inside[0] | inside[1])
    assert np.abs(a[away].astype(int) - b[away]).mean() < 8 < np.abs(a[inside[0]].astype(int) - b[inside[0]]).mean()
    assert 0.3 < abs(second.yaw - first.yaw) < 1.5


@pytest.mark.parametrize("read", [photos_of, views_of])
def test_what_is_not_there_is_told(tmp_path, read):
    with pytest.raises(InputError, match="does not exist"):
        read(str(tmp_path / "nowhere"), 64)
