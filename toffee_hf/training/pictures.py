"""Real pictures with their subjects' masks, prepared once: decoded, cropped, masked, checked, kept as arrays.

A folder of N usable pictures: `image.npy` (N, 3, S, S) and `mask.npy` (N, S, S), uint8, and `pictures.json`, written
last. Rows of one thing stand together. B batch, H, W pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from toffee_hf.errors import InputError
from toffee_hf.images import REASONS as IMAGE_REASONS
from toffee_hf.images import ImageError, decode, decode_any_mask, probe
from toffee_hf.toy.captions import article
from toffee_hf.training.backbone import Backbone
from toffee_hf.training.loop import writing

REASONS = {
    **IMAGE_REASONS,
    "unreadable_file": "the file cannot be read",
    "no_class_word": "there is neither a mask nor a class word to find one by",
    "mask_unreadable": "the mask's file cannot be read",
    "mask_shape": "the mask has another aspect than the picture",
    "no_subject": "the mask covers less than 2 % of the picture",
    "fills_the_picture": "the mask covers more than 90 % of the picture",
    "single_view": "there is only one usable view of the object",
}
MIN_AREA, MAX_AREA = 0.02, 0.9
CHUNK, READERS = 16, 4
INDEX = "pictures.json"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to train on. file: for people and as its identity; class_name: empty if unknown; read_mask: white
    where the subject is; thing: which object it shows; yaw: radians by which the camera has gone around it, or NaN;
    version: changes with the bytes, where the file's name does not."""

    file: str
    read: Callable[[], bytes]
    class_name: str = ""
    read_mask: Callable[[], bytes] | None = None
    thing: str = ""
    yaw: float = math.nan
    version: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` left in a folder. skipped: how many pictures were left out, by reason; name: of the data."""

    folder: Path
    size_px: int
    class_names: tuple[str, ...]
    things: tuple[str, ...]
    yaw: tuple[float, ...]
    skipped: dict[str, int]
    digest: str
    name: str = ""

    def __len__(self) -> int:
        return len(self.class_names)

    def images(self, index: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [-1, 1]."""
        return self._rows("image", index).float() / 127.5 - 1

    def masks(self, index: Tensor) -> Tensor:
        """(B, 1, H, W) float32 of 0 and 1."""
        return self._rows("mask", index).float().unsqueeze(1) / 255

    def prompt(self, i: int) -> str:
        """What picture i shows, in words."""
        name = self.class_names[i]
        return f"a photo of {article(name)}" if name else "a photo"

    def spans(self) -> Tensor:
        """First row and number of rows of each thing, (things, 2)."""
        rows = Counter(self.things)
        counts = torch.tensor([rows[thing] for thing in dict.fromkeys(self.things)])
        return torch.stack([counts.cumsum(0) - counts, counts], 1)

    def described(self, skipped: dict[str, int]) -> dict[str, Any]:
        """What a card says of it. skipped: pictures that were left out before, by reason."""
        left_out = Counter(self.skipped) + Counter(skipped)
        return {"dataset": self.name, "pictures": len(self), "things": len(set(self.things)),
                "with_camera": sum(yaw == yaw for yaw in self.yaw), "skipped": dict(sorted(left_out.items()))}

    def _rows(self, field: str, index: Tensor) -> Tensor:
        rows = np.load(self.folder / f"{field}.npy", mmap_mode="r")[index.cpu().numpy()]
        return torch.from_numpy(rows).to(index.device)


def prepare(pictures: Sequence[Picture], folder: Path, size_px: int, backbone: Backbone, views: int = 1) -> Prepared:
    """Prepare pictures in `folder`, or find them prepared there. views: fewest usable ones of a thing that are kept.

    Raises InputError where none is left, or `folder` holds others.
    """
    digest = _digest(pictures, size_px, views)
    if (folder / INDEX).exists():
        return _opened(folder, digest)
    skipped: Counter[str] = Counter()
    if not pictures:
        raise InputError(_nothing(pictures, skipped, views))
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            rows = list(_stored(pictures, folder, size_px, backbone, skipped))
            kept = _ordered(rows, pictures, views, skipped)
            if kept:
                _write(folder, kept, pictures, size_px, skipped, digest)
        if not kept:
            raise InputError(_nothing(pictures, skipped, views))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _opened(folder, digest)


def _digest(pictures: Sequence[Picture], size_px: int, views: int) -> str:
    """Of everything that decides what is prepared; of the pictures' own bytes by their names and versions."""
    digest = hashlib.sha256(repr((size_px, views)).encode())
    for p in pictures:
        digest.update((repr((p.file, p.class_name, p.read_mask is not None, p.thing, p.yaw)) + p.version).encode())
    return digest.hexdigest()[:16]


def _stored(pictures: Sequence[Picture], folder: Path, size_px: int, backbone: Backbone, skipped: Counter[str]
            ) -> Iterator[tuple[int, int]]:
    """(row in the raw arrays, number of the picture) of each usable picture, written to `raw-….npy`."""
    shape = (len(pictures), size_px, size_px)
    images = np.lib.format.open_memmap(folder / "raw-image.npy", "w+", np.uint8, (shape[0], 3, *shape[1:]))
    masks = np.lib.format.open_memmap(folder / "raw-mask.npy", "w+", np.uint8, shape)
    row = 0
    chunks = [range(i, min(i + CHUNK, len(pictures))) for i in range(0, len(pictures), CHUNK)]
    with ThreadPoolExecutor(READERS) as readers:
        for chunk in tqdm(chunks, desc="pictures", disable=None):
            read = list(readers.map(lambda i: _read(pictures[i], size_px), chunk))
            for i, (image, mask) in _masked(zip(chunk, read, strict=True), pictures, backbone, skipped):
                images[row], masks[row] = image, mask
                yield row, i
                row += 1


def _read(picture: Picture, size_px: int) -> str | tuple[Any, Any]:
    """Why the picture is left out; or its pixels (3, S, S), and its mask (S, S) of 0 and 255 or None."""
    if picture.read_mask is None and not _is_word(picture.class_name):
        return "no_class_word"
    try:
        data = picture.read()
        image = decode(data, size_px).transpose(2, 0, 1)
    except ImageError as err:
        return err.reason
    except OSError:
        return "unreadable_file"
    if picture.read_mask is None:
        return image, None
    try:
        given = picture.read_mask()
        if not _same_aspect(data, given):
            return "mask_shape"
        mask = decode_any_mask(given, size_px)
    except (ImageError, OSError):
        return "mask_unreadable"
    return image, mask.astype(np.uint8) * 255


def _is_word(name: str) -> bool:
    return any(letter.isalpha() for letter in name)


def _same_aspect(data: bytes, mask: bytes) -> bool:
    """Within 2 %, lying or standing: EXIF may turn one of them."""
    a, b = (probe(x) for x in (data, mask))
    aspect = a.width / a.height
    return any(abs(aspect / other - 1) < 0.02 for other in (b.width / b.height, b.height / b.width))


def _masked(read: Any, pictures: Sequence[Picture], backbone: Backbone, skipped: Counter[str]
            ) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Pictures with their masks, found by the class word where there was none; others are counted."""
    found = []
    for i, outcome in read:
        if isinstance(outcome, str):
            skipped[outcome] += 1
        else:
            found.append((i, outcome))
    bare = [(i, image) for i, (image, mask) in found if mask is None]
    made = {}
    if bare:
        pixels = torch.from_numpy(np.stack([image for _, image in bare])).float().to(backbone.device) / 127.5 - 1
        masks = backbone.masks(pixels, [pictures[i].class_name for i, _ in bare])
        made = {i: mask[0].cpu().numpy().astype(np.uint8) * 255 for (i, _), mask in zip(bare, masks, strict=True)}
    for i, (image, mask) in found:
        mask = made[i] if mask is None else mask
        area = (mask > 0).mean()
        if MIN_AREA <= area <= MAX_AREA:
            yield i, (image, mask)
        else:
            skipped["no_subject" if area < MIN_AREA else "fills_the_picture"] += 1


def _ordered(rows: list[tuple[int, int]], pictures: Sequence[Picture], views: int, skipped: Counter[str]
             ) -> list[tuple[int, int]]:
    """The rows by thing, in the order in which things first appear; things with too few of them are counted."""
    by_thing: dict[str, list[tuple[int, int]]] = {}
    for row, i in rows:
        by_thing.setdefault(pictures[i].thing or f"#{i}", []).append((row, i))
    kept = []
    for group in by_thing.values():
        if len(group) >= views:
            kept += group
        else:
            skipped["single_view"] += len(group)
    return kept


def _write(folder: Path, kept: list[tuple[int, int]], pictures: Sequence[Picture], size_px: int, skipped: Counter[str],
           digest: str) -> None:
    """The kept rows in their order, then the index, which says that all is done."""
    for name in ("image", "mask"):
        raw = np.load(folder / f"raw-{name}.npy", mmap_mode="r")
        final = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(kept), *raw.shape[1:]))
        for place, (row, _) in enumerate(kept):
            final[place] = raw[row]
        final.flush()
        (folder / f"raw-{name}.npy").unlink()
    chosen = [pictures[i] for _, i in kept]
    index = {"digest": digest, "size_px": size_px, "skipped": dict(sorted(skipped.items())),
             "class_names": [p.class_name if _is_word(p.class_name) else "" for p in chosen],
             "things": [p.thing or f"#{i}" for (_, i), p in zip(kept, chosen, strict=True)],
             "yaw": [None if math.isnan(p.yaw) else p.yaw for p in chosen]}
    part = folder / f"{INDEX}.part"
    part.write_text(json.dumps(index))
    part.replace(folder / INDEX)


def _opened(folder: Path, digest: str) -> Prepared:
    told = json.loads((folder / INDEX).read_text())
    if told["digest"] != digest:
        raise InputError(f"{folder} holds other pictures, or the same at another size; give the same data as before, "
                         "or another folder")
    yaw = tuple(math.nan if value is None else value for value in told["yaw"])
    return Prepared(folder, told["size_px"], tuple(told["class_names"]), tuple(told["things"]), yaw, told["skipped"],
                    digest)


def _nothing(pictures: Sequence[Picture], skipped: Counter[str], views: int) -> str:
    counts = ", ".join(f"{count} {reason} ({REASONS[reason]})" for reason, count in sorted(skipped.items()))
    need = {"no_class_word": "; give masks or class words", "single_view": "; give several views of each object"}
    advice = next((need[reason] for reason in need if skipped[reason]), "")
    what = "view of any object" if views > 1 else "picture"
    return f"no usable {what} among {len(pictures)}: {counts or 'there is none'}{advice}"
