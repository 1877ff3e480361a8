"""Draws a benchmark's pictures with a diffusers pipeline, each once: a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from tqdm import tqdm

from toffee_hf.errors import InputError, RunMismatch
from toffee_hf.evaluation.dreambench.protocol import Job, by_subject
from toffee_hf.family import default_device

RECORD = "drawn.json"
Drawer = Callable[[Sequence[Job]], Sequence[Image.Image]]      # jobs of one subject to a picture each


@dataclass(frozen=True, slots=True)
class Reference:
    """What a pipeline is shown of a subject: an RGB picture, its mask (L, white is the subject) and its depth (L)."""

    picture: Image.Image
    mask: Image.Image | None = None
    depth: Image.Image | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Steps and guidance; what is None is left to the pipeline."""

    steps: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps must be at least 1, got {self.steps}")

    def settings(self) -> dict[str, Any]:
        """As a pipeline's arguments."""
        named = {"num_inference_steps": self.steps, "guidance_scale": self.guidance}
        return {name: value for name, value in named.items() if value is not None}


def takes_subject(pipeline: Any) -> bool:
    """Whether a pipeline is shown a subject, as Toffee's editor is, or only told of it."""
    return "subject_image" in inspect.signature(pipeline.__call__).parameters


def draw_with(pipeline: Any, jobs: Sequence[Job], reference: Reference | None, sampling: Sampling
              ) -> Sequence[Image.Image]:
    """One picture a job; with a reference as `ToffeePipeline` takes it, without from the words alone.

    A picture does not depend on its batch: each has a generator of its own, on the CPU.
    """
    told: dict[str, Any] = sampling.settings()
    if reference is not None:
        masked, posed = reference.mask is not None, reference.depth is not None
        told |= {"subject_image": [reference.picture] * len(jobs),
                 "subject_mask": [reference.mask] * len(jobs) if masked else None}
        told |= {"depth_image": [reference.depth] * len(jobs)} if posed else {}
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    try:
        found: Sequence[Image.Image] = pipeline(prompt=[job.prompt for job in jobs], generator=generators,
                                                output_type="pil", **told).images
    except (ValueError, TypeError) as err:
        reason = str(err).strip().partition("\n")[0][:300]
        raise InputError(f"{type(pipeline).__name__} cannot draw from prompts, subjects if it takes them, and what "
                         f"--steps and --guidance say ({reason})") from err
    return found


@dataclass(frozen=True, slots=True)
class Located:
    """A pipeline that is at hand: what the user called it, its folder, its commit on the Hub, or its weights' hash."""

    name: str
    folder: Path
    revision: str | None
    sha256: str | None

    def identity(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"model": self.name, "revision": self.revision, "sha256": self.sha256}


def locate_pipeline(name: str, trust_remote_code: bool) -> Located:
    """Find a pipeline's folder, or fetch it from the Hub. Raises InputError where there is none."""
    if Path(name).is_dir():
        return Located(name, Path(name), None, weights_hash(Path(name)))
    from diffusers import DiffusionPipeline

    with _opening(name, trust_remote_code):
        folder = Path(DiffusionPipeline.download(name, trust_remote_code=trust_remote_code, use_safetensors=True))
    return Located(name, folder, folder.name, None)


def weights_hash(folder: Path) -> str:
    """One sha256 over every safetensors file below a folder and its place."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        whole.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def open_pipeline(located: Located, trust_remote_code: bool) -> Any:
    """The pipeline, from safetensors only, on the accelerator where there is one. Raises InputError if it fails."""
    from diffusers import DiffusionPipeline

    with _opening(located.name, trust_remote_code):
        pipeline = DiffusionPipeline.from_pretrained(str(located.folder), trust_remote_code=trust_remote_code,
                                                     use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(default_device())


@contextmanager
def _opening(name: str, trusted: bool) -> Iterator[None]:
    """What diffusers says of a pipeline that it cannot open, as one sentence."""
    try:
        yield
    except (OSError, ValueError, ImportError, AttributeError, TypeError, KeyError, SafetensorError) as err:
        if "trust_remote_code" in str(err) and not trusted:
            raise InputError(f"{name} brings code of its own; read it, then add --trust-remote-code") from err
        reason = str(err).strip().partition("\n")[0][:300]
        raise InputError(f"--model {name!r} cannot be opened as a diffusers pipeline; it is a folder or a Hub id with "
                         f"safetensors ({reason})") from err


def draw_missing(jobs: Sequence[Job], folder: Path, drawer: Drawer, record: Mapping[str, Any], batch_size: int,
                 what: str = "draw") -> int:
    """Draw the pictures that `folder` lacks, as PNG; returns how many.

    record: everything that a picture depends on beside its job. Raises RunMismatch if the folder's is another.
    """
    check_record(folder, record)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECORD, json.dumps(record, indent=2, sort_keys=True).encode())
    left = [job for job in jobs if not _path(folder, job).exists()]
    with tqdm(total=len(jobs), initial=len(jobs) - len(left), desc=what, disable=None) as progress:
        for some in by_subject(left).values():
            for first in range(0, len(some), batch_size):
                batch = some[first : first + batch_size]
                for job, picture in zip(batch, drawer(batch), strict=True):
                    _save(picture, _path(folder, job))
                progress.update(len(batch))
    return len(left)


def check_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Raises RunMismatch where a folder's pictures were drawn otherwise, and InputError where nobody knows how."""
    path = folder / RECORD
    if not path.exists():
        if folder.is_dir() and any(not held.name.startswith(".") for held in folder.iterdir()):
            raise InputError(f"{folder} holds files, but no {RECORD} about how they were drawn; give another --output")
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as err:
        raise InputError(f"{path} is damaged, and with it how its pictures were drawn; give another --output") from err
    differs = sorted(key for key in {*before, *record} if before.get(key) != record.get(key))
    if differs:
        raise RunMismatch(f"{folder} was drawn with another {', '.join(differs)}; give another --output")


def _path(folder: Path, job: Job) -> Path:
    return folder / f"{job.place}.png"


def _save(picture: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """A file is either whole or not there."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
