"""DreamBench: pictures of a pipeline, or ready ones, scored by its protocol, beside what others have published.

Source of protocol, prompts and photographs: Ruiz et al., CVPR 2023 (DreamBooth), arXiv 2208.12242, section 4.1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from toffee_hf.errors import InputError
from toffee_hf.evaluation.dreambench.drawing import (
    Drawer,
    Located,
    Reference,
    Sampling,
    check_record,
    draw_missing,
    draw_with,
    open_pipeline,
    takes_subject,
    write_whole,
)
from toffee_hf.evaluation.dreambench.metric_models import DreamBenchJudge, open_picture
from toffee_hf.evaluation.dreambench.protocol import BenchSubject, Extent, Found, Job, by_subject, find_pictures
from toffee_hf.evaluation.figures import Figure
from toffee_hf.evaluation.report import markdown_rows
from toffee_hf.versions import installed_versions

COLUMNS = ("DINO", "CLIP-I", "CLIP-T", "Seg-DINO")
LIBRARIES = ("torch", "diffusers", "transformers", "pillow", "numpy", "toffee-hf")
RESULT, TABLE = "result.json", "table.md"
TOFFEE = "Toffee, arXiv 2406.09305"


@dataclass(frozen=True, slots=True)
class Published:
    """A method's line of the published table. paper: where the method is from; reported_in: where its figures are."""

    method: str
    dino: float
    clip_i: float
    clip_t: float
    paper: str
    reported_in: str = TOFFEE


PUBLISHED = (
    Published("ToffeeNet", .728, .817, .306, "arXiv 2406.09305"),
    Published("SuTI", .741, .819, .304, "arXiv 2304.00186"),
    Published("CAFE", .715, .827, .294, "arXiv 2312.03045"),
    Published("BootPIG", .674, .797, .311, "arXiv 2401.13974"),
    Published("Subject-Diffusion", .771, .779, .293, "arXiv 2307.11410"),
    Published("DreamBooth, SD 1.5", .668, .803, .305, "arXiv 2208.12242"),
    Published("IP-Adapter, SD 1.5", .667, .813, .289, "arXiv 2308.06721"),
)


class Judge(Protocol):
    """Whatever scores pictures of one subject: a value a picture, (B,), by the name of the score."""

    def scores(self, jobs: Sequence[Job], pictures: Sequence[Image.Image]) -> dict[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by subject: name of the score to its mean over the subject's pictures, and how many pictures that were."""

    means: dict[str, dict[str, float]]
    pictures: dict[str, int]

    def values(self, column: str) -> Tensor:
        """(subjects,); NaN where a subject has no such score."""
        return torch.tensor([means.get(column, math.nan) for means in self.means.values()])

    def figure(self, column: str) -> Figure:
        """Over subjects, each counting once."""
        return Figure.of(self.values(column))

    @property
    def columns(self) -> list[str]:
        return list(next(iter(self.means.values())))


def score(found: Found, judge: Judge, batch_size: int, what: str = "score") -> Scored:
    """Scores of all pictures that were found. Raises InputError at one that cannot be read."""
    means, counts = {}, {}
    with tqdm(total=len(found.paths), desc=what, disable=None) as progress:
        for subject, jobs in by_subject(found.paths).items():
            values: dict[str, list[Tensor]] = {}
            for first in range(0, len(jobs), batch_size):
                some = jobs[first : first + batch_size]
                pictures = [open_picture(found.paths[job]) for job in some]
                for name, scores in judge.scores(some, pictures).items():
                    values.setdefault(name, []).append(scores)
                progress.update(len(some))
            means[subject] = {name: torch.cat(some).nanmean().item() for name, some in values.items()}
            counts[subject] = len(jobs)
    return Scored(means, counts)


def subject_drawer(pipeline: Any, subjects: Sequence[BenchSubject], judge: DreamBenchJudge, sampling: Sampling
                   ) -> Drawer:
    """Draws with each subject's first photograph and its mask, or by words alone where a pipeline takes no more."""
    if not takes_subject(pipeline):
        return partial(draw_with, pipeline, reference=None, sampling=sampling)
    named = {subject.name: subject for subject in subjects}
    shown: dict[str, Reference] = {}

    def draw(jobs: Sequence[Job]) -> Sequence[Image.Image]:
        name = jobs[0].subject
        if name not in shown:
            shown.clear()
            shown[name] = first_photo(named[name], judge)
        return draw_with(pipeline, jobs, shown[name], sampling)

    return draw


def first_photo(subject: BenchSubject, judge: DreamBenchJudge) -> Reference:
    """A subject's first photograph with its mask by class word; without one where none is found."""
    picture = open_picture(subject.photos[0])
    mask = judge.mask(picture, subject.class_name)
    if not mask.any():
        return Reference(picture)
    return Reference(picture, Image.fromarray((mask[0, 0] * 255).byte().numpy()))


def draw_dreambench(subjects: Sequence[BenchSubject], jobs: Sequence[Job], judge: DreamBenchJudge, folder: Path,
                    located: Located, sampling: Sampling, *, trusted: bool, seed: int, batch_size: int) -> Found:
    """Draw with a pipeline what `folder` lacks; returns the pictures. Raises RunMismatch if it holds others."""
    record = {**located.identity(), "seed": seed, "masks": judge.sources["segmenter"], **asdict(sampling)}
    check_record(folder, record)
    pipeline = open_pipeline(located, trusted)
    draw_missing(jobs, folder, subject_drawer(pipeline, subjects, judge, sampling), record, batch_size)
    return find_pictures(folder, jobs)


def result(scored: Mapping[str, Scored], found: Mapping[str, Found], extent: Extent, facts: Mapping[str, Any]
           ) -> dict[str, Any]:
    """Everything that a card needs, ready for JSON; a figure of nothing is null.

    scored, found: by the way that the pictures were made. facts: metric models, seed, what drew the pictures.
    """
    return {"asked": asdict(extent), **facts, "versions": installed_versions(LIBRARIES),
            "interval": "95 %, normal approximation over means of subjects",
            "ways": {way: {"figures": {name: _figure(s.figure(name)) for name in s.columns},
                           "subjects": {name: {"pictures": s.pictures[name],
                                               **{column: _number(v) for column, v in means.items()}}
                                        for name, means in s.means.items()},
                           "pictures": {"scored": len(found[way].paths), "missing": len(found[way].missing),
                                        "unused": found[way].unused}}
                     for way, s in scored.items()}}


def _figure(figure: Figure) -> dict[str, Any]:
    return {"mean": _number(figure.mean), "half": _number(figure.half), "n": figure.n}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def told(figure: Figure) -> str:
    """A figure as a cell of a table; a dash where there is none."""
    return str(figure) if figure.n else "–"


def dreambench_table(way: str, scored: Scored, given: Sequence[str] = ()) -> str:
    """Markdown: ours with its intervals, and the published figures with their sources.

    given: metric models that were read from the user's folders, which nobody vouches for.
    """
    measured = f"measured here, {len(scored.means)} subjects, {sum(scored.pictures.values())} pictures"
    measured += f"; {', '.join(given)} from given folders" if given else ""
    ours = (way, *(told(scored.figure(column)) for column in COLUMNS), measured)
    rows = [(p.method, f"{p.dino:.3f}", f"{p.clip_i:.3f}", f"{p.clip_t:.3f}", "–",
             p.paper if p.paper in p.reported_in else f"{p.paper}; figures as in {p.reported_in}") for p in PUBLISHED]
    return markdown_rows(("method", *COLUMNS, "source"), [ours, *rows])


def shortfall(found: Found, jobs: Sequence[Job]) -> str:
    """One sentence about what is missing, or nothing."""
    if not found.missing:
        return ""
    prompts = {(job.subject, job.prompt_index) for job in found.missing}
    whole = {job.subject for job in jobs} - {job.subject for job in found.paths}
    return (f"{len(found.missing)} of {len(jobs)} pictures are missing, of {len(prompts)} prompts of "
            f"{len({name for name, _ in prompts})} subjects ({len(whole)} subjects have none and do not count); first: "
            f"{found.missing[0].place}")


def write_result(output: Path, found: Mapping[str, Any], table: str) -> None:
    """Write the result and its table into a folder. Raises InputError where that cannot be."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / TABLE, f"{table}\n".encode())
        write_whole(output / RESULT, (json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
    except OSError as err:
        raise InputError(f"{output} cannot be written ({err})") from err
