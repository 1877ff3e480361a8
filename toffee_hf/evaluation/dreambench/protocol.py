"""A subject benchmark as pure data: which subject, prompt, picture and seed, and where each picture lies.

DreamBench (Ruiz et al., CVPR 2023) is 30 subjects × 25 prompts × 4 pictures. Nothing here loads a model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toffee_hf.errors import InputError

PROMPTS, PICTURES = 25, 4             # of a subject; of a prompt
LIVE_CLASSES = ("cat", "dog")         # the other thirteen are objects, with prompts of their own
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LISTS = {"Object Prompts": False, "Live Subject Prompts": True}
WORDS_FILE = "prompts_and_classes.txt"


@dataclass(frozen=True, slots=True)
class BenchSubject:
    """One subject: its folder's name, its class word, its photographs (the first is shown to a model), its prompts."""

    name: str
    class_name: str
    photos: tuple[Path, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to draw: picture `number` of prompt `prompt_index` of a subject. The seed depends on nothing else."""

    subject: str
    prompt_index: int
    number: int
    prompt: str
    seed: int

    @property
    def place(self) -> str:
        """Where the picture lies in a folder, without its suffix."""
        return f"{self.subject}/{self.prompt_index:02d}/{self.number}"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of the benchmark is run: subjects, prompts a subject, pictures a prompt, spread over the whole."""

    subjects: int
    prompts: int = PROMPTS
    pictures: int = PICTURES

    def __post_init__(self) -> None:
        if self.subjects < 2 or not 1 <= self.prompts <= PROMPTS or self.pictures < 1:
            raise InputError(f"the benchmark needs at least 2 subjects, 1 to {PROMPTS} prompts and at least 1 picture, "
                             f"got {self.subjects}, {self.prompts}, {self.pictures}")


@dataclass(frozen=True, slots=True)
class Found:
    """Pictures of jobs in a folder. missing: jobs without one; unused: what lies there and belongs to no job."""

    paths: Mapping[Job, Path]
    missing: tuple[Job, ...]
    unused: int


def read_dreambench(folder: Path) -> list[BenchSubject]:
    """The subjects of a copy of the DreamBooth dataset, in its order. Raises InputError where something lacks.

    folder: that repository's, or its `dataset` folder, with `prompts_and_classes.txt` beside a folder a subject.
    """
    root = next((place for place in (folder, folder / "dataset") if (place / WORDS_FILE).is_file()), None)
    if root is None:
        raise InputError(f"{folder} holds no copy of DreamBench ({WORDS_FILE} and a folder a subject); clone "
                         "https://github.com/google/dreambooth and give its folder as --data")
    classes, prompts = _words((root / WORDS_FILE).read_text(encoding="utf-8"))
    if not classes or any(len(prompts[live]) != PROMPTS for live in (False, True)):
        raise InputError(f"{root / WORDS_FILE} should name subjects and two lists of {PROMPTS} prompts, found "
                         f"{len(classes)} subjects, {len(prompts[False])} and {len(prompts[True])} prompts")
    subjects = [BenchSubject(name, word, photos_of(root / name),
                             tuple(p.format(word) for p in prompts[word in LIVE_CLASSES]))
                for name, word in classes.items()]
    bare = [subject.name for subject in subjects if not subject.photos]
    if bare:
        raise InputError(f"{root} holds no photographs of {', '.join(bare)}; the copy of DreamBench is not whole")
    return subjects


def _words(text: str) -> tuple[dict[str, str], dict[bool, list[str]]]:
    """Class words by subject, and prompts with `{}` for the class word, of objects (False) and live subjects (True).

    The unique token stands for a tuned subject; a model that is shown a picture, or nothing, is asked without it.
    """
    classes: dict[str, str] = {}
    prompts: dict[bool, list[str]] = {False: [], True: []}
    live = False
    for line in (raw.strip() for raw in text.splitlines()):
        live = LISTS.get(line, live)
        if quoted := re.match(r"'(.*\{1\}.*)'\.format", line):
            prompts[live].append(quoted[1].replace("{0} ", "").replace("{1}", "{}"))
        elif (named := re.fullmatch(r"(\w+),([\w ]+)", line)) and line != "subject_name,class":
            classes[named[1]] = named[2]
    return classes, prompts


def photos_of(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder in the order of their numbers; none where there is no such folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")),
                        key=_numbered))


def _numbered(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name


def spread(count: int, whole: int) -> list[int]:
    """`count` indices spread evenly over `whole`, so that a short run meets every kind."""
    count = min(count, whole)
    return [i * whole // count for i in range(count)]


def jobs_of(subjects: Sequence[BenchSubject], extent: Extent, seed: int) -> list[Job]:
    """Every picture of a run, subject by subject. A shorter run draws a part of the pictures of a longer one."""
    chosen = [subjects[i] for i in spread(extent.subjects, len(subjects))]
    return [Job(s.name, i, n, s.prompts[i], picture_seed(seed, s.name, i, n))
            for s in chosen for i in spread(extent.prompts, len(s.prompts)) for n in range(extent.pictures)]


def picture_seed(seed: int, subject: str, prompt_index: int, number: int) -> int:
    """The seed of one picture, 31 bits."""
    words = f"dreambench/{seed}/{subject}/{prompt_index}/{number}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") >> 1


def by_subject(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Jobs by subject, in their order."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.subject, []).append(job)
    return found


def find_pictures(folder: Path, jobs: Sequence[Job]) -> Found:
    """Which pictures of `jobs` lie in `folder/<subject>/<prompt index>/`, PNG, JPEG or WebP.

    A prompt's folder may be called 3 or 03. Its pictures count in the order of their numbers, whatever these are: the
    first is picture 0. Raises InputError where there is no such folder, or no picture of any job in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; pictures to score lie in DIR/<subject>/<prompt index>/<n>.png")
    places = {(job.subject, job.prompt_index) for job in jobs}
    shown = {place: _of_prompt(folder / place[0], place[1]) for place in sorted(places)}
    paths = {job: shown[job.subject, job.prompt_index][job.number] for job in jobs
             if job.number < len(shown[job.subject, job.prompt_index])}
    if not paths:
        raise InputError(f"{folder} holds no picture of the benchmark; the first would be {folder / jobs[0].place}.png")
    every = sum(1 for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return Found(paths, tuple(job for job in jobs if job not in paths), every - len(paths))


def _of_prompt(folder: Path, index: int) -> tuple[Path, ...]:
    named = [photos_of(folder / name) for name in dict.fromkeys((f"{index:02d}", str(index)))]
    both = [pictures for pictures in named if pictures]
    if len(both) > 1:
        raise InputError(f"{folder} holds both {index:02d} and {index}; which are the pictures of prompt {index}?")
    return both[0] if both else ()
