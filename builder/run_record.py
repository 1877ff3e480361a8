"""`recipe.json`: what the runs of a folder were asked to do. With the receipts it is all that the card needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS, column_names
from builder.files import os_errors_are_input, write_atomically
from builder.fingerprint import canonical_recipe, weight_digests
from builder.receipts import FOLDER, read_receipts
from builder.run import Run
from toffee_hf import __version__
from toffee_hf.errors import InputError, RunMismatch

NAME = "recipe.json"
_TOY_LICENCE = "apache-2.0"
_OWN = (NAME, FOLDER, "published", "README.md", "contact_sheet.png", "score_histograms.png", *CONFIGS)


def read_record(output: Path) -> dict[str, Any] | None:
    """What `recipe.json` of the folder holds, or None. Raises `InputError` if it is damaged."""
    path = output / NAME
    if not path.exists():
        return None
    record = record_from(path.read_bytes())
    if record is None:
        raise InputError(f"{path} cannot be read; remove it, and the `toffee build` that made it writes it again")
    return record


def record_from(data: bytes) -> dict[str, Any] | None:
    """A record, or None if it is damaged."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(record: Any) -> bool:
    """What is there is of the type that we wrote, and every run has its name and seed."""
    if not isinstance(record, dict) or not isinstance(record.get("runs"), list) or not _is_described(record):
        return False
    return all(_is_run(run) and _is_described(run) for run in record["runs"])


def _is_run(run: Any) -> bool:
    return isinstance(run, dict) and isinstance(run.get("run8"), str) and isinstance(run.get("seed"), int)


def _is_described(found: dict[str, Any]) -> bool:
    """Of a run, or of the record, which tells the same of its latest run."""
    kinds = {"recipe": str, "subjects": str, "pairs": int, "subject_count": int, "skipped": list, "licences": dict}
    if any(name in found and not isinstance(found[name], kind) for name, kind in kinds.items()):
        return False
    weights = found.get("licences", {}).get("weights") or []
    return _all_have(found.get("skipped", []), "file", "reason") and _all_have(weights, "name", "licence", "source")


def _all_have(lines: Any, *names: str) -> bool:
    return all(isinstance(line, dict) and all(isinstance(line.get(name), str) for name in names) for line in lines)


@os_errors_are_input("cannot use")
def check_output(run: Run, append: bool) -> None:
    """Whether the run may write there: a new or empty folder, its own, or with `append` one of other runs.

    Raises `InputError` (`RunMismatch` for another run's folder); writes nothing.
    """
    output = run.request.output
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file; give a folder")
    record = read_record(output)
    if record is None:
        _check_foreign(run)
        return
    check_runs(run, record, append, str(output), "--output")


def check_runs(run: Run, record: dict[str, Any], append: bool, where: str, option: str) -> None:
    """Whether the run goes with those of a record, which is at `where`, named by `option`. Raises `RunMismatch`."""
    others = {other["run8"]: other for other in record["runs"]}
    if run.run8 in others:
        return
    known = ", ".join(others)
    if not append:
        raise RunMismatch(
            f"{where} holds run {known}, and these arguments make run {run.run8} (another recipe, seed, subjects or "
            f"weights); give the same arguments, another {option}, or --append with another --seed"
        )
    if any(other["seed"] == run.request.seed for other in others.values()):
        raise RunMismatch(f"--append needs a seed of its own: {where} has seed {run.request.seed} already")


def check_seeds(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Whether two records, one of them of `where`, go together. Raises `RunMismatch` for two runs of one seed."""
    known = {other["run8"]: other["seed"] for other in theirs["runs"]}
    for run in ours["runs"]:
        if run["run8"] not in known and run["seed"] in known.values():
            raise RunMismatch(f"{where} has seed {run['seed']} already, by another run than {run['run8']}, so rows "
                              "would have the same ids; build one of them with another --seed")


def _check_foreign(run: Run) -> None:
    """A folder without a record is empty, or what is left of this run."""
    output = run.request.output
    found = sorted(path.name for path in output.iterdir() if not path.name.startswith(".")) if output.exists() else []
    strange = [name for name in found if name not in _OWN]
    if strange or (found and FOLDER not in found):
        name = (strange or found)[0]
        raise InputError(f"{output} is not empty and has no {NAME} (it holds {name!r}); give another --output")
    others = sorted({receipt.run8 for receipt in read_receipts(output)} - {run.run8})
    if others:
        raise RunMismatch(f"{output} has no {NAME} and holds run {others[0]}, not {run.run8}; give another --output")


@os_errors_are_input("cannot write")
def write_record(run: Run, licence: str | None) -> None:
    """Add the run to the folder's record, in one step; unchanged if it says all of it already."""
    output = run.request.output
    old = read_record(output) or {"runs": []}
    runs = [_merged(run, licence, found) if found["run8"] == run.run8 else found for found in old["runs"]]
    if run.run8 not in [found["run8"] for found in runs]:
        runs.append(_entry(run, licence))
    record = _record(run, runs)
    if record != old:
        write_atomically(output / NAME, (json.dumps(record, indent=1, ensure_ascii=True) + "\n").encode())


def subjects_licence(run: Run, given: str | None) -> str | None:
    """Under which licence the run's subjects stand: as said now or by an earlier command, or as their own."""
    record = read_record(run.request.output) or {"runs": []}
    known = [found.get("licences", {}).get("subjects") for found in record["runs"] if found["run8"] == run.run8]
    return given or next(filter(None, known), default_licence(run))


@os_errors_are_input("cannot write")
def adopt_runs(output: Path, theirs: dict[str, Any]) -> None:
    """Put runs of another record of the same dataset before those of the folder."""
    ours = read_record(output) or {**theirs, "runs": []}
    known = {run["run8"] for run in ours["runs"]}
    new = [run for run in theirs["runs"] if run["run8"] not in known]
    if new or not (output / NAME).exists():
        record = {**ours, "runs": [*new, *ours["runs"]]}
        write_atomically(output / NAME, (json.dumps(record, indent=1, ensure_ascii=True) + "\n").encode())


def _merged(run: Run, licence: str | None, found: dict[str, Any]) -> dict[str, Any]:
    entry = _entry(run, licence)
    if licence is None:
        known = found.get("licences", {}).get("subjects")
        entry["licences"]["subjects"] = known or entry["licences"]["subjects"]
    return {**entry, "pairs": max(entry["pairs"], found.get("pairs", 0))}


def _entry(run: Run, licence: str | None) -> dict[str, Any]:
    recipe, request = run.recipe, run.request
    return {
        "run8": run.run8,
        "recipe": recipe.name,
        "seed": request.seed,
        "pairs": request.pairs,
        "pairs_per_shard": recipe.pairs_per_shard,
        "subjects": _subjects_name(request.subjects),
        "subject_count": len(run.subjects),
        "subjects_digest": run.subjects.digest,
        "size_px": recipe.size_px,
        "categories": list(recipe.prompts.categories),
        "skipped": [{"file": line.file, "reason": line.reason} for line in run.subjects.skipped],
        "licences": {"subjects": licence or default_licence(run), "weights": _weights(run)},
        "settings": canonical_recipe(recipe),
        "toffee_version": __version__,
    }


def _subjects_name(spec: str) -> str:
    """Of a folder its name alone: the record is published, and where the folder lies is nobody's business."""
    return Path(spec).resolve().name if Path(spec).is_dir() else spec


def _weights(run: Run) -> list[dict[str, Any]]:
    return [
        {"name": weight.name, "licence": weight.licence, "source": weight.source, "files": weight_digests(weight)}
        for weight in run.recipe.weights
    ]


def default_licence(run: Run) -> str | None:
    """Of subjects that come with this package."""
    return _TOY_LICENCE if run.request.subjects.startswith("toy:") else None


def _record(run: Run, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of the latest run at the top, for a folder has one run as a rule."""
    latest = next(found for found in runs if found["run8"] == run.run8)
    skipped = {(line["file"], line["reason"]): line for found in runs for line in found.get("skipped", ())}
    return {
        "schema_version": 1,
        "recipe": latest["recipe"],
        "size_px": latest["size_px"],
        "categories": latest["categories"],
        "licences": latest["licences"],
        "skipped": list(skipped.values()),
        "columns": {config: list(column_names(config)) for config in CONFIGS},
        "runs": runs,
    }
