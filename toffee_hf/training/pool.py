"""The pool of toy pictures that all tiny models are trained on: rendered once, read by everyone.

Four shots of each training subject: 0 its reference photo, 1 the same photo with only the subject turned, 2 and 3 any
pose, scene and style. Arrays of N = 4 · subjects rows: `image` and `photo` (the same before its style) (N, 3, 128, 128)
uint8, `mask` and `depth` (N, 128, 128) uint8; `image_latents` (N, C, 16, 16) float16 once encoded; `draft_rows` (K,)
and `draft_latents` (K, C, 16, 16) float16 once the base and its ControlNet have drawn some rows again; `estimated`
like `depth`, once the depth model has seen the photos; `axes` (N, 3) float32, about which these surfaces turn best.
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from toffee_hf.perception.depth import estimate_depth
from toffee_hf.toy.captions import caption
from toffee_hf.toy.render import Shot
from toffee_hf.toy.world import ToySubject, reference_shot, toy_shot, toy_subject
from toffee_hf.training.loop import CPU, Place

SHOTS, SIZE_PX, CHUNK = 4, 128, 32
FIELDS = {"image": (3,), "photo": (3,), "mask": (), "depth": ()}


def pool_shots(subject: ToySubject) -> list[Shot]:
    """The four shots of a subject, the same for ever."""
    choice = random.Random(f"pool/{subject.split}/{subject.index}")
    first = reference_shot(subject)
    turn = choice.choice((-1, 1)) * choice.uniform(0.35, 1.4)
    second = replace(first, camera=replace(first.camera, yaw=first.camera.yaw + turn))
    return [first, second, toy_shot(choice), toy_shot(choice)]


class Pool:
    """A folder of rendered shots, read through memory maps; or, at a place that is no CPU, held there."""

    def __init__(self, folder: Path, place: Place = CPU) -> None:
        self.folder, self.place = folder, place
        self.held: dict[str, Tensor] = {}
        self.subjects = int((folder / "subjects.txt").read_text())
        self.arrays: dict[str, np.ndarray[Any, Any]] = {p.stem: np.load(p, mmap_mode="r") for p in folder.glob("*.npy")}

    def __len__(self) -> int:
        return self.subjects * SHOTS

    @cached_property
    def people(self) -> list[ToySubject]:
        return [toy_subject("train", i) for i in range(self.subjects)]

    @cached_property
    def shots(self) -> list[Shot]:
        return [shot for subject in self.people for shot in pool_shots(subject)]

    def rows(self, field: str, index: Tensor) -> Tensor:
        """Rows of a field as stored, (B, …)."""
        if self.place.device.type != "cpu":
            if field not in self.held:
                self.held[field] = torch.from_numpy(np.array(self.arrays[field])).to(self.place.device)
            return self.held[field][index]
        order = index.sort()
        found = torch.from_numpy(self.arrays[field][order.values.numpy()])
        return found[order.indices.argsort()]

    def pictures(self, field: str, index: Tensor) -> Tensor:
        """`image` or `photo` as (B, 3, H, W) float32 in [-1, 1]."""
        return self.rows(field, index).float() / 127.5 - 1

    def planes(self, field: str, index: Tensor) -> Tensor:
        """`mask`, `depth` or `estimated` as (B, 1, H, W) float32 in [0, 1]."""
        return self.rows(field, index).float().unsqueeze(1) / 255

    def drafts(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of the drafts of some rows (B, C, h, w), and which rows have one (B,); others are 0."""
        like = self.rows("image_latents", index).float()
        if "draft_rows" not in self.arrays:
            return torch.zeros_like(like), torch.zeros_like(index, dtype=torch.bool)
        rows = torch.from_numpy(np.array(self.arrays["draft_rows"])).to(index)
        place = torch.searchsorted(rows, index).clamp(max=len(rows) - 1)
        has = rows[place] == index
        return self.rows("draft_latents", place).float() * has[:, None, None, None], has

    @cached_property
    def yaw(self) -> Tensor:
        """How far the subject is turned in each row, radians (N,)."""
        return torch.tensor([shot.camera.yaw for shot in self.shots], device=self.place.device)

    def caption(self, i: int, choice: random.Random) -> str:
        """A wording for row i."""
        subject, shot = self.people[i // SHOTS], self.shots[i]
        return caption(subject.class_name, subject.design, shot.scene, shot.style, shot.camera.yaw, choice)


def render_pool(folder: Path, subjects: int, workers: int) -> Pool:
    """Render the pool, in chunks that a killed run does not lose."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    done.mkdir(exist_ok=True)
    for field, extra in FIELDS.items():
        if not (folder / f"{field}.npy").exists():
            np.lib.format.open_memmap(folder / f"{field}.npy", "w+", np.uint8,
                                      (subjects * SHOTS, *extra, SIZE_PX, SIZE_PX)).flush()
    missing = [k for k in range(0, subjects, CHUNK) if not (done / str(k)).exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in tqdm(pool.map(partial(_render_chunk, folder, subjects), missing), total=len(missing), desc="render",
                      disable=None):
            pass
    (folder / "subjects.txt").write_text(str(subjects))
    return Pool(folder)


@torch.no_grad()
def _render_chunk(folder: Path, subjects: int, first: int) -> None:
    torch.set_num_threads(1)
    arrays = {field: np.load(folder / f"{field}.npy", mmap_mode="r+") for field in FIELDS}
    for i in range(first, min(first + CHUNK, subjects)):
        subject = toy_subject("train", i)
        shown = subject.render(pool_shots(subject), SIZE_PX)
        for field, extra in FIELDS.items():
            values = (getattr(shown, field) * 255).round().clamp(0, 255).byte()
            arrays[field][i * SHOTS : (i + 1) * SHOTS] = (values if extra else values[:, 0]).numpy()
    for array in arrays.values():
        array.flush()
    (folder / "done" / str(first)).touch()


@torch.no_grad()
def estimate_pool(pool: Pool, depth: Any, batch_size: int = 32) -> None:
    """Store the depth that a model sees in the photos, which is what a View Generator works with."""
    target = pool.folder / "estimated.npy"
    found, depth = np.zeros((len(pool), SIZE_PX, SIZE_PX), np.uint8), depth.to(pool.place.device)
    for index in tqdm(torch.arange(len(pool)).split(batch_size), desc="depth", disable=None):
        seen = estimate_depth(depth, pool.pictures("photo", index))[:, 0]
        found[index.numpy()] = (seen * 255).round().clamp(0, 255).byte().cpu().numpy()
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, found)
    part.rename(target)


@torch.no_grad()
def encode_pool(pool: Pool, autoencoder: Any, batch_size: int = 64) -> None:
    """Store the latents of every `image`. (Those of shots 0 and 1 are the latents of photos.)"""
    target = pool.folder / "image_latents.npy"
    if not target.exists():
        starts = tqdm(range(0, len(pool), batch_size), desc="encode", disable=None)
        batches = (torch.arange(i, min(i + batch_size, len(pool))) for i in starts)
        latents = [autoencoder.latents(pool.pictures("image", batch)).half().numpy() for batch in batches]
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, np.concatenate(latents))
        part.rename(target)
