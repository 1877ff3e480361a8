"""A folder of photos: `metadata.csv` or `metadata.jsonl`, or one folder per class."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from builder.subject_metadata import NAMES, metadata_lines, text_of
from builder.subject_pictures import Candidate, index_candidates
from builder.subjects import Skipped, SubjectIndex
from toffee_hf.errors import InputError

PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".mpo", ".jp2", ".png", ".webp", ".avif", ".heic", ".heif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
)
_MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A picture file. path: absolute."""

    path: str

    def read(self) -> bytes:
        path = Path(self.path)
        found = path.stat()
        if S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device")
        if found.st_size > _MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()


def index_folder(spec: str) -> SubjectIndex:
    """Index a photo folder that exists. A bad line or picture is left out with its reason; nothing else happens."""
    root = Path(spec).resolve()
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{spec} holds {' and '.join(NAMES)}; keep one of them")
    lines = list(_from_metadata(found[0]) if found else _from_class_folders(root))
    candidates = [line for line in lines if isinstance(line, Candidate)]
    skipped = [line for line in lines if isinstance(line, Skipped)]
    return index_candidates(spec, candidates, skipped, len(candidates))


def class_folders(root: Path) -> list[Path]:
    """Folders that may be named after a class, links to folders among them; not hidden ones, not outputs of ours."""
    found = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    return [path for path in found if path.is_dir() and not _is_output(path)]


def pictures_in(folder: Path) -> list[Path]:
    """What is named like a picture; raises `OSError` if the folder cannot be listed."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in found if path.suffix.lower() in PICTURE_SUFFIXES)


def _is_output(folder: Path) -> bool:
    try:
        return (folder / "recipe.json").is_file() and (folder / "receipts").is_dir()
    except OSError:
        return False


def _from_class_folders(root: Path) -> Iterator[Candidate | Skipped]:
    for folder in class_folders(root):
        try:
            pictures = pictures_in(folder)
        except OSError as err:
            yield Skipped(f"{folder.name}/", f"unreadable_file: {err.strerror}")
            continue
        places = (root, folder.resolve())
        for path in pictures:
            yield _candidate(places, path, f"{folder.name}/{path.name}", folder.name, "")


def _from_metadata(metadata: Path) -> Iterator[Candidate | Skipped]:
    root = metadata.parent
    for number, line in metadata_lines(metadata):
        if line is None:
            yield Skipped(f"{metadata.name}:{number}", "bad_line")
            continue
        name = text_of(line, "file_name")
        if Path(name).is_absolute():
            yield Skipped(Path(name).name, "outside_folder")  # its folder is nobody's business
        else:
            yield _candidate((root,), root / name, name, text_of(line, "class_name"), text_of(line, "subject_id"))


def _candidate(
    places: tuple[Path, ...], path: Path, name: str, class_name: str, subject_id: str
) -> Candidate | Skipped:
    """Refuses pictures that do not lie in one of the places, by `..` or a link."""
    try:
        real = path.resolve()
        inside = any(real.is_relative_to(place) for place in places)
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, a loop of links
        return Skipped(name, "bad_name")
    if not inside:
        return Skipped(name, "outside_folder")
    return Candidate(name, class_name, subject_id, PhotoFile(str(real)))
