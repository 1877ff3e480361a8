"""What a training reads: subjects of a folder, a dataset or the toy world as pictures with masks, by object."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.subject_datasets import DatasetRow, columns, index_dataset, is_dataset
from builder.subject_folders import PhotoFile
from builder.subjects import Subject, SubjectIndex, ToyPicture, index_subjects
from toffee_hf.cards import placeless
from toffee_hf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from toffee_hf.training.pictures import Picture

UNNAMED = "object"                    # class word of a dataset that has masks and no words
_TOYS, _MEASURED = "toy:train", "toy:held-out"
MOST_TOYS = 1000                      # of these subjects, since their pictures are drawn before the first step


@dataclass(frozen=True, slots=True)
class TrainingData:
    """pictures to prepare; skipped: those left out by the index, by reason; same_place: an object's views share their
    surroundings; name: of the data, without its place."""

    pictures: list[Picture]
    skipped: dict[str, int]
    name: str
    same_place: bool = False


def photos_of(spec: str, size_px: int) -> TrainingData:
    """Single pictures: a photo folder, a dataset with `image` and `class_name` or `mask`, MVImgNet, or toys.

    A photo's mask is `masks/<name>.png` beside it. Raises `InputError` as `index_subjects`.
    """
    return _multiview_folder(spec) or _indexed(spec, size_px)


def views_of(spec: str, size_px: int) -> TrainingData:
    """Objects with several views: MVImgNet's layout, toys, or pictures that share a `subject_id`.

    A dataset may have a column `yaw` of radians. Raises `InputError` where no object has two views.
    """
    if spec == _TOYS:
        return _toy_views(spec, size_px)
    data = _multiview_folder(spec) or _indexed(spec, size_px)
    if data.pictures and max(Counter(picture.thing for picture in data.pictures).values()) < 2:
        raise InputError(f"every object in {spec} has a single view; give views of an object the same subject_id (in "
                         "metadata.csv or the dataset), or the folders of MVImgNet")
    return data


def _multiview_folder(spec: str) -> TrainingData | None:
    from toffee_hf.training.multiview import is_mvimgnet, mvimgnet_pictures

    if spec == _TOYS or not is_mvimgnet(Path(spec)):
        return None
    return TrainingData(mvimgnet_pictures(Path(spec)), {}, placeless(spec))


def _indexed(spec: str, size_px: int) -> TrainingData:
    index, told = _index(spec, size_px)
    skipped = Counter(line.reason.partition(":")[0] for line in index.skipped)
    pictures = [_picture(subject, told) for subject in _drawn(index, spec)]
    return TrainingData(pictures, dict(sorted(skipped.items())), placeless(spec))


def _drawn(index: SubjectIndex, spec: str) -> list[Subject]:
    """The subjects to train on: all that there are, but of toys the first MOST_TOYS."""
    return list(index)[: MOST_TOYS if spec == _TOYS else None]


def _index(spec: str, size_px: int) -> tuple[SubjectIndex, dict[str, list[object]]]:
    """The subjects, and the columns of a dataset."""
    if spec == _MEASURED:
        raise InputError(f"--data {spec} is for measuring what a training has reached; train on {_TOYS}")
    if spec == _TOYS or not is_dataset(spec):
        return index_subjects(spec, size_px), {}
    told = columns(spec)
    if "class_name" not in told and "mask" not in told:
        raise InputError(f"dataset {spec} has neither class words nor masks; it needs a column class_name or mask")
    return index_dataset(spec, UNNAMED if "mask" in told else ""), told


def _picture(subject: Subject, told: dict[str, list[object]]) -> Picture:
    from toffee_hf.training.pictures import Picture

    yaw = math.nan
    if isinstance(subject.locator, DatasetRow) and told.get("yaw"):
        value = told["yaw"][subject.locator.row]
        yaw = float(value) if isinstance(value, int | float) else math.nan
    mask = _mask_of(subject.locator, "mask" in told)
    return Picture(subject.content_hash, subject.read, subject.class_name, mask,
                   f"{subject.class_name}/{subject.subject_id}", yaw)


def _mask_of(locator: object, in_dataset: bool) -> Callable[[], bytes] | None:
    if isinstance(locator, DatasetRow):
        return locator.read_mask if in_dataset else None
    if isinstance(locator, PhotoFile):
        path = Path(locator.path)
        places = (path.parent / "masks" / f"{path.stem}.png", path.parent / "masks" / f"{path.name}.png")
        return next((place.read_bytes for place in places if place.is_file()), None)
    return None


def _toy_views(spec: str, size_px: int) -> TrainingData:
    from toffee_hf.training.multiview import toy_views

    found: list[Picture] = []
    for subject in _drawn(index_subjects(spec, size_px), spec):
        assert isinstance(subject.locator, ToyPicture)
        found += toy_views(subject.locator.split, subject.locator.index, subject.class_name, size_px)
    return TrainingData(found, {}, spec, same_place=True)

