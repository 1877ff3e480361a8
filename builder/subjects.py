"""Subjects: what there is to make pairs of. Indexed once, by content, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

from toffee_hf.errors import InputError

TOY_SUBJECTS = {"held-out": 256, "train": 9600}     # of the toy world's splits; an editor learns from many
_TOY_SPLITS: dict[str, Literal["train", "held-out"]] = {"toy:held-out": "held-out", "toy:train": "train"}


class Locator(Protocol):
    """Where a picture is; small, so that it travels to workers."""

    def read(self) -> bytes:
        """The picture's file, undecoded; raises `OSError` if it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One picture of one thing. content_hash: 32 hex digits of its bytes (of its recipe, for a toy)."""

    content_hash: str
    subject_id: str
    class_name: str
    locator: Locator
    file: str = ""  # the picture's name for people, relative to the folder; never part of a row

    @property
    def shown_name(self) -> str:
        return self.file or self.subject_id

    def read(self) -> bytes:
        """The picture's file, undecoded; raises `OSError` if it is gone, or no longer what was indexed."""
        data = self.locator.read()
        if not isinstance(self.locator, ToyPicture) and content_hash(data) != self.content_hash:
            raise OSError("the picture has changed since it was indexed")
        return data


# Code -> sentence, beside those of `toffee_hf.images.REASONS`. After a code may stand ": " and what was found.
SKIP_REASONS = {
    "bad_line": "the line of the metadata cannot be parsed, or has no file_name",
    "bad_name": "no file can have this name",
    "duplicate": "the same picture under another name, which stays",
    "long_class_name": "the class name has more than 100 characters",
    "no_class_name": "the picture has no class name",
    "not_utf8": "the name of the file, the class or the subject is not UTF-8",
    "outside_folder": "the name leads out of the folder of photos",
    "unreadable_file": "the file cannot be read",
}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was left out, and the code of the reason: one line of the report."""

    file: str
    reason: str


@dataclass(frozen=True)
class SubjectIndex:
    """The usable subjects, sorted by content, so that file names and folders do not matter."""

    spec: str
    subjects: tuple[Subject, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> Subject:
        return self.subjects[index]

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects)

    @property
    def digest(self) -> str:
        """Hash of content, id and class of every subject, in order."""
        digest = blake2b(digest_size=16)
        for subject in self.subjects:
            digest.update(repr((subject.content_hash, subject.subject_id, subject.class_name)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ToyPicture:
    """A subject of the toy world; drawn when it is read. size_px: side of the square picture."""

    split: Literal["train", "held-out"]
    index: int
    size_px: int

    def read(self) -> bytes:
        from toffee_hf.toy.subjects import toy_subject_picture

        return toy_subject_picture(self.split, self.index, self.size_px)


def content_hash(data: bytes) -> str:
    """32 hex digits of a picture's bytes."""
    return blake2b(data, digest_size=16).hexdigest()


def index_subjects(spec: str, size_px: int) -> SubjectIndex:
    """Index `toy:held-out`, `toy:train`, a folder of photos, or a dataset with `image` and `class_name` columns.

    size_px: the side at which toy subjects are drawn. Raises `InputError` if there is not one usable picture.
    """
    if spec in _TOY_SPLITS:
        return _toy_index(spec, size_px)
    if spec.startswith("toy:"):
        raise InputError(f"unknown subjects {spec!r}; the toy world has {', '.join(_TOY_SPLITS)}")
    index = _index_of_pictures(spec)
    if not index.subjects:
        raise InputError(f"no usable picture in {spec}{_first_skipped(index)}")
    return index


def _index_of_pictures(spec: str) -> SubjectIndex:
    from builder.subject_datasets import index_dataset, is_dataset
    from builder.subject_folders import index_folder

    if is_dataset(spec):
        return index_dataset(spec)
    path = Path(spec)
    if not path.is_dir():
        found = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"--subjects {spec!r} {found}; give a folder of photos, a dataset, or toy:held-out")
    return index_folder(spec)


def _first_skipped(index: SubjectIndex) -> str:
    if not index.skipped:
        return "; put pictures into <class name>/ folders, or write a metadata.csv with file_name,class_name"
    first = index.skipped[0]
    return f": {len(index.skipped)} left out, the first is {first.file!r} ({first.reason})"


def _toy_index(spec: str, size_px: int) -> SubjectIndex:
    from toffee_hf.toy.subjects import TOY_VERSION, toy_subject_class

    split = _TOY_SPLITS[spec]
    subjects = []
    for number in range(TOY_SUBJECTS[split]):
        digest = content_hash(repr((TOY_VERSION, split, number, size_px)).encode())
        picture = ToyPicture(split, number, size_px)
        subjects.append(Subject(digest, f"toy-{split}-{number:04d}", toy_subject_class(number), picture))
    return SubjectIndex(spec, tuple(subjects))
