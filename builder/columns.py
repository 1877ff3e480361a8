"""The columns of the three configs: what each means, its type, and the Arrow schema that `datasets` understands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import pyarrow

CONFIGS = ("generation", "editing", "rejected")
TASKS = ("generation", "editing")
PICTURES = ("reference", "source", "target")
MASKS = ("reference_mask", "mask", "target_mask")

# name -> what it measures; every one a float32 in [-1, 1], or null where it was not measured
SCORES: dict[str, str] = {
    "seg_dino": "DINO similarity of the subject in the target to the subject in the reference, inside their masks",
    "detail": "1 minus the difference of the target to what the Refiner was given, inside the subject's mask",
    "dino": "DINO similarity of the whole target to the whole reference",
    "clip_i": "CLIP similarity of the whole target to the whole reference",
    "clip_t": "CLIP similarity of the target to the prompt",
    "copy": "how much the target repeats the reference patch by patch; high means copy-paste",
    "in_domain": "how near the reference lies to the pictures that the models were trained on",
    "view_dino": "DINO similarity of the subject in the new view to the subject in the picture it was made from",
    "mask_area": "share of the target that the subject's mask covers",
    "outside": "mean absolute difference of source and target outside the mask; 0 when they are equal",
}

COLUMNS: dict[str, str] = {
    "id": "hash of the subject's picture, the task, the prompt, the seed and the attempt",
    "subject_id": "which subject; pictures of one thing share it",
    "class_name": "the class word of the subject, as in the prompt",
    "category": "the kind of change that the prompt asks for",
    "prompt": "the text that the target follows",
    "reference": "the subject, as a model is shown it",
    "reference_mask": "where the subject is in the reference: 255 on it, 0 elsewhere",
    "source": "the picture to edit",
    "mask": "where to edit: 255 inside, 0 where source and target are equal",
    "target": "the picture that a model should make",
    "target_mask": "where the subject is in the target: 255 on it, 0 elsewhere",
    "scores": "the judge's measurements, each in [-1, 1] or null",
    "seed": "the seed of the pair; with the run it gives every random number",
    "attempt": "which attempt the row shows, from 0",
    "run": "the run that made the row: a fingerprint of recipe, seed, subjects and weights",
    "task": "the task the pair was meant for: generation or editing",
    "reason": "why the pair was rejected, a code that the card explains",
}

_EDITING_ONLY = ("source", "mask")
_REJECTED_ONLY = ("task", "reason")
_INTEGERS = {"seed": "int64", "attempt": "int32"}


def column_names(config: str) -> tuple[str, ...]:
    """The columns of `config`, in the order of the file."""
    left_out = {"generation": _EDITING_ONLY + _REJECTED_ONLY, "editing": _REJECTED_ONLY, "rejected": ()}[config]
    return tuple(name for name in COLUMNS if name not in left_out)


def features(config: str) -> datasets.Features:
    """The `datasets.Features` of `config`; loads `datasets`."""
    import datasets

    return datasets.Features.from_dict({name: _feature(name) for name in column_names(config)})


def arrow_schema(config: str) -> pyarrow.Schema:
    """What is written: equal to `features(config).arrow_schema`, made without loading `datasets`."""
    import pyarrow as pa

    metadata = {"info": {"features": {name: _feature(name) for name in column_names(config)}}}
    fields = [pa.field(name, _arrow_type(name)) for name in column_names(config)]
    return pa.schema(fields, metadata={"huggingface": json.dumps(metadata)})


def _feature(name: str) -> dict[str, Any]:
    if name in PICTURES:
        return {"_type": "Image"}
    if name in MASKS:
        return {"mode": "L", "_type": "Image"}
    if name == "scores":
        return {score: {"dtype": "float32", "_type": "Value"} for score in SCORES}
    return {"dtype": _INTEGERS.get(name, "string"), "_type": "Value"}


def _arrow_type(name: str) -> pyarrow.DataType:
    import pyarrow as pa

    if name in PICTURES + MASKS:
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if name == "scores":
        return pa.struct([(score, pa.float32()) for score in SCORES])
    integers = {"seed": pa.int64(), "attempt": pa.int32()}
    return integers.get(name, pa.string())
