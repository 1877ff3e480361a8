"""The YAML head of a dataset card: what the Hub and `datasets` read. Loads `datasets` for the types of the columns."""

from __future__ import annotations

from typing import Any

from builder.columns import features
from builder.report.statistics import Statistics

TAGS = ["subject-driven", "image-editing", "personalization", "synthetic", "toffee"]
TASKS = ["text-to-image", "image-to-image"]
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)


def metadata_yaml(statistics: Statistics, title: str) -> str:
    """The metadata, without the `---` lines around it. Only configs with rows are listed; the first is the default."""
    import yaml

    text: str = yaml.safe_dump(metadata(statistics, title), sort_keys=False, allow_unicode=True, width=10_000)
    return text


def metadata(statistics: Statistics, title: str) -> dict[str, Any]:
    """The same as plain data, in the Hub's order of fields."""
    found: dict[str, Any] = {
        "pretty_name": title,
        **licence_fields(statistics),
        "language": ["en"],
        "task_categories": TASKS,
        "size_categories": [_size_category(statistics.tried)],
        "tags": TAGS,
    }
    if statistics.rows:
        found["configs"] = [_config(statistics, config) for config in statistics.rows]
        found["dataset_info"] = [_info(statistics, config) for config in statistics.rows]
    return found


def licences(statistics: Statistics) -> tuple[list[str], list[dict[str, Any]]]:
    """Licences of the subjects of all runs ("unknown" where none was given), and all weights, each once."""
    of_runs = [run["licences"] for run in statistics.recipe.get("runs", ())]
    found = of_runs or [statistics.recipe.get("licences") or {}]
    subjects = dict.fromkeys(str(licence.get("subjects") or "unknown") for licence in found)
    weights = {(it["name"], it["source"]): it for licence in found for it in licence.get("weights") or ()}
    return list(subjects), list(weights.values())


def licence_fields(statistics: Statistics) -> dict[str, str]:
    """One licence where all ingredients share it; otherwise the user has to look at the table."""
    subjects, weights = licences(statistics)
    every = {*subjects, *(str(weight["licence"]) for weight in weights)}
    if len(every) == 1:
        return {"license": every.pop().lower()}
    if "unknown" in every:
        return {"license": "unknown"}
    return {"license": "other", "license_name": "see-licences-of-ingredients"}


def _size_category(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), "1B<n<10B")


def _config(statistics: Statistics, config: str) -> dict[str, Any]:
    default = {"default": True} if config == next(iter(statistics.rows)) else {}
    return {
        "config_name": config,
        **default,
        "version": statistics.version(config),
        "data_files": [{"split": "train", "path": f"{config}/train-*"}],
    }


def _info(statistics: Statistics, config: str) -> dict[str, Any]:
    files = statistics.files(config)
    num_bytes = sum(file.num_bytes for file in files)
    return {
        "config_name": config,
        "features": features(config)._to_yaml_list(),
        "splits": [{"name": "train", "num_bytes": num_bytes, "num_examples": statistics.rows[config]}],
        "download_size": sum(file.bytes for file in files),
        "dataset_size": num_bytes,
    }
