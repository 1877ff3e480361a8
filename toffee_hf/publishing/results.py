"""Evaluation results as the Hub reads them, taken from the table of figures on the card itself."""

from __future__ import annotations

import re
from typing import Any

SECTION = re.compile(r"^## What it reaches\n(.*?)(?=^## )", re.DOTALL | re.MULTILINE)
OWN = {"refiner": ": refined,", "view": ": view,", "editor": "λ = 1,"}     # what a line about the model itself says
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
TYPES = ("psnr", "ssim", "dino", "clip", "loss")


def model_index(card: str, model: str, name: str, task: str, data: tuple[str, str]) -> list[dict[str, Any]]:
    """Metadata `model-index`, empty where the card has no figures. data: name and id of what it was measured on."""
    metrics = [{"type": _type(what), "name": what, "value": value} for what, value in _figures(card)
               if OWN[model] in what or _type(what) == "loss"]
    dataset = {"name": data[0], "type": data[1]}
    results = [{"task": {"type": task}, "dataset": dataset, "metrics": metrics}]
    return [{"name": name, "results": results}] if metrics else []


def _figures(card: str) -> list[tuple[str, float]]:
    match = SECTION.search(card)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in (match[1] if match else "").splitlines()
            if line.startswith("|")]
    found = [(row[0], NUMBER.match(row[1])) for row in rows if len(row) > 1]
    return [(what, float(number[0])) for what, number in found if number]


def _type(what: str) -> str:
    words = what.lower()
    return next((name for name in TYPES if name in words), "score")
