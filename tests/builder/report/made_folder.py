"""An output folder as a build leaves it, with drawn pictures instead of generated ones."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from builder.columns import CONFIGS, MASKS, PICTURES, SCORES, arrow_schema, column_names
from builder.receipts import Receipt, ShardFile, write_receipt
from toffee_hf.images import encode_image, encode_mask

SIZE_PX = 128
REASONS = ("identity_lost", "copy_paste", "prompt_missed", "out_of_domain", "view_mismatch")
CATEGORIES = ("background", "style", "pose", "colour", "texture")
PLACES = (
    "on a wooden table by the window",
    "in the snow",
    "as a pencil drawing",
    "turned to the left, seen from above",
)
Picture = NDArray[np.uint8]


def make_folder(
    output: Path, counts: dict[str, int], *, run8: str = "0a1b2c3d", seed: int = 0, shards: int = 2
) -> Path:
    """`counts` rows of each config, spread over `shards` shards, with receipts and recipe.json. Returns `output`."""
    rows = [row for config in CONFIGS for row in _rows(config, counts.get(config, 0), run8, seed)]
    random.Random(seed).shuffle(rows)
    for shard in range(shards):
        _make_shard(output, run8, seed, shard, rows[shard::shards])
    (output / "recipe.json").write_text(json.dumps(_record(run8, seed, len(rows))))
    return output


def _rows(config: str, count: int, run8: str, seed: int) -> list[dict[str, Any]]:
    return [_row(config, number, run8, random.Random(f"{config} {number} {seed}")) for number in range(count)]


def _row(config: str, number: int, run8: str, draw: random.Random) -> dict[str, Any]:
    task = draw.choice(("generation", "editing")) if config == "rejected" else config
    early = config == "rejected" and draw.random() < 0.3  # fell before diffusion
    images = {} if early else _images(task, draw)
    if early:
        images["reference"] = _drawn(draw)[0]
    good = 0.25 if config == "rejected" else 0.0
    scores = (
        dict.fromkeys(SCORES, None) if early else {name: round(draw.gauss(0.75 - good, 0.07), 3) for name in SCORES}
    )
    return {
        "config": config,
        "id": hashlib.blake2b(f"{config} {number} {run8}".encode(), digest_size=16).hexdigest(),
        "subject_id": f"subject-{number % 5}",
        "class_name": "mug",
        "category": draw.choice(CATEGORIES),
        "prompt": f"a photo of a striped mug {draw.choice(PLACES)}",
        **{name: _cell(name, images.get(name)) for name in PICTURES + MASKS},
        "scores": {**scores, "in_domain": 0.1 if early else scores["in_domain"]},
        "seed": number,
        "attempt": 0,
        "run": run8,
        "task": task,
        "reason": "out_of_domain" if early else draw.choice(REASONS) if config == "rejected" else "kept",
    }


def _images(task: str, draw: random.Random) -> dict[str, Picture]:
    reference, reference_mask = _drawn(draw)
    target, target_mask = _drawn(draw)
    images = {"reference": reference, "reference_mask": reference_mask, "target": target, "target_mask": target_mask}
    if task == "editing":
        mask = np.array(Image.fromarray(target_mask).resize((SIZE_PX, SIZE_PX), 0, (6, 6, 122, 122)))
        images |= {"mask": mask, "source": np.where(mask[..., None] > 0, _drawn(draw)[0], target)}
    return images


def _drawn(draw: random.Random) -> tuple[Picture, Picture]:
    """A mug-like thing on a two-coloured ground, and its mask."""
    ground, floor, body = (tuple(draw.randrange(90, 250) for _ in range(3)) for _ in range(3))
    picture, mask = Image.new("RGB", (SIZE_PX, SIZE_PX), ground), Image.new("L", (SIZE_PX, SIZE_PX))
    paint, cut = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    paint.rectangle((0, 84, SIZE_PX, SIZE_PX), fill=floor)
    left, top = draw.randrange(24, 50), draw.randrange(28, 46)
    box, handle = (left, top, left + 46, top + 58), (left + 34, top + 12, left + 62, top + 44)
    for pen, ink in ((paint, body), (cut, 255)):
        pen.ellipse(handle, outline=ink, width=7)
        pen.rounded_rectangle(box, 10, fill=ink)
    for stripe in range(3):
        paint.rectangle((left, top + 9 + 17 * stripe, left + 46, top + 15 + 17 * stripe), fill=(40, 50, 90))
    return np.asarray(picture), np.asarray(mask)


def _cell(name: str, image: Picture | None) -> dict[str, Any] | None:
    if image is None:
        return None
    return {"bytes": encode_image(image, "webp") if name in PICTURES else encode_mask(image), "path": None}


def _make_shard(output: Path, run8: str, seed: int, shard: int, rows: list[dict[str, Any]]) -> None:
    files = [_make_file(output, config, f"{run8}-{shard:05d}", rows) for config in {row["config"]: 0 for row in rows}]
    receipt = Receipt(
        run8=run8, shard=shard, recipe="drawn", seed=seed,
        first_pair=shard * 100, last_pair=shard * 100 + len(rows) - 1,
        rows={file.config: file.rows for file in files}, files=files,
        reasons=dict(Counter(row["reason"] for row in rows)), retried={"identity_lost": 2}, attempts=len(rows) + 2,
        seconds={"draft": 11.5, "refine": 7.25, "score": 2.0}, seconds_total=21.0, device="cpu",
        versions={"torch": "2.13.0", "pillow": "12.3.0"}, cpu="x86_64 avx512", host="host",
        started="2026-01-01T00:00:00Z", finished="2026-01-01T00:00:21Z",
    )  # fmt: skip
    write_receipt(output, receipt)


def _make_file(output: Path, config: str, name: str, rows: list[dict[str, Any]]) -> ShardFile:
    path = output / config / f"train-{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    own = [{column: row[column] for column in column_names(config)} for row in rows if row["config"] == config]
    made = pa.Table.from_pylist(own, schema=arrow_schema(config))
    pq.write_table(made, path)
    data = path.read_bytes()
    return ShardFile(
        config=config, path=f"{config}/{path.name}", rows=len(own), bytes=len(data), num_bytes=made.nbytes,
        sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip


def _record(run8: str, seed: int, pairs: int) -> dict[str, Any]:
    weights = [{"name": "tiny", "licence": "apache-2.0", "source": "shipped with toffee-hf", "files": {}}]
    run = {
        "run8": run8, "recipe": "drawn", "seed": seed, "pairs": pairs, "subjects": "toy:held-out", "subject_count": 5,
        "skipped": [], "licences": {"subjects": "apache-2.0", "weights": weights},
    }  # fmt: skip
    skipped = [{"file": "odd | name\n<b>.jpg", "reason": "empty"}]
    shared = {key: run[key] for key in ("recipe", "licences")}
    return {
        "schema_version": 1,
        **shared,
        "size_px": SIZE_PX,
        "categories": list(CATEGORIES),
        "skipped": skipped,
        "runs": [run],
    }
