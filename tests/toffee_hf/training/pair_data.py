"""A small dataset of pairs as `toffee build` writes it, drawn with rectangles; and a process that trains on it.

As a program: DATA FAMILY OUTPUT STEP trains an editor and kills itself before that step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.toffee_hf.training.real_data import killed_before, mask, photo

CARD = "---\nconfigs:\n{configs}---\n"
CONFIG = "- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/*.parquet\n"
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
KINDS = {"prompt": pa.string(), "scores": pa.struct([("view_dino", pa.float32())])}
SETTINGS: dict[str, Any] = {"steps": 5, "batch_size": 3, "learning_rate": 1e-3, "every": 2}


def picture(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else {"bytes": data, "path": None}


def row(number: int, editing: bool, **other: Any) -> dict[str, Any]:
    """Pair `number`: a box of one colour in two places; every second reference is a new view."""
    thing, view = number % 4, number % 3
    told = {"prompt": f"a photo of a mug {number}", "reference": picture(photo(thing, view)),
            "reference_mask": picture(mask(view)), "target": picture(photo(thing, (view + 1) % 3)),
            "target_mask": picture(mask((view + 1) % 3)), "scores": {"view_dino": 0.9 if number % 2 else None}}
    if editing:
        told |= {"source": picture(photo(thing + 1, (view + 1) % 3)), "mask": picture(mask((view + 1) % 3))}
    return told | other


def rows_of(config: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    return [row(number, config == "editing") for number in range(first, first + count)]


def write_file(path: Path, rows: list[dict[str, Any]], group: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, KINDS.get(name, PICTURE)) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group)


def write_card(folder: Path, *configs: str) -> None:
    (folder / "README.md").write_text(CARD.format(configs="".join(CONFIG.format(name=name) for name in configs)))


def write_dataset(folder: Path, generation: int = 11, editing: int = 7) -> Path:
    """Two files of each config, row groups of four rows."""
    for config, count in (("generation", generation), ("editing", editing)):
        write_file(folder / config / "train-0.parquet", rows_of(config, count - 3))
        write_file(folder / config / "train-1.parquet", rows_of(config, 3, count - 3))
    write_card(folder, "generation", "editing")
    return folder


def train(data: Path, family: Path, folder: Path, **settings: Any) -> Any:
    """Train with SETTINGS unless told otherwise."""
    from toffee_hf.training.backbone import open_backbone
    from toffee_hf.training.editor import train_editor_on
    from toffee_hf.training.editor_examples import EditorConfig

    return train_editor_on(str(data), open_backbone(str(family)), EditorConfig(**{**SETTINGS, **settings}), folder)


if __name__ == "__main__":
    from toffee_hf.training.editor import EditorTask

    torch.set_num_threads(1)
    killed_before(EditorTask, int(sys.argv[4]))
    train(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
