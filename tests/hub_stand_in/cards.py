"""What the Hub demands of a README's metadata; a commit with a README that fails is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0
epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research
intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql
ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3
llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
         "100B<n<1T", "n>1T")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "docker", "static", "streamlit")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def front_matter(text: str) -> dict[str, Any]:
    """The metadata of a README, {} without any. Raises yaml.YAMLError."""
    match = re.match(r"---\s*\n(.*?)\n?---\s*(\n|$)", text, re.DOTALL)
    told = yaml.safe_load(match.group(1)) if match else {}
    if told is not None and not isinstance(told, dict):
        raise yaml.YAMLError("the metadata must be an object")
    return told or {}


def errors(text: str, repo_type: str) -> list[str]:
    """Why the Hub would not take this README."""
    try:
        return list(_errors(front_matter(text), repo_type))
    except yaml.YAMLError as err:
        return [f"Error in metadata: {err}"]


def _errors(told: dict[str, Any], repo_type: str) -> Iterator[str]:
    for license in _listed(told, "license"):
        yield from _one_of("license", license, LICENSES.split())
    if told.get("license") == "other" and "license_name" in told and not isinstance(told["license_name"], str):
        yield '"license_name" must be a string'
    for number, dataset in enumerate(_listed(told, "datasets")):
        if not REPOSITORY.fullmatch(str(dataset)):
            yield (f'"datasets[{number}]" with value "{dataset}" is not valid. '
                   "If possible, use a dataset id from https://hf.co/datasets.")
    for model in _listed(told, "base_model"):
        if not REPOSITORY.fullmatch(str(model)):
            yield f'"base_model" with value "{model}" is not valid. Use a model id from https://hf.co/models.'
    for tag in _listed(told, "tags"):
        if not isinstance(tag, str):
            yield '"tags" must be an array of strings'
    yield from _of_dataset(told) if repo_type == "dataset" else _of_space(told) if repo_type == "space" else ()


def _of_dataset(told: dict[str, Any]) -> Iterator[str]:
    for size in _listed(told, "size_categories"):
        yield from _one_of("size_categories", size, SIZES)


def _of_space(told: dict[str, Any]) -> Iterator[str]:
    yield from _one_of("sdk", told.get("sdk", "gradio"), SDKS)
    for name in ("colorFrom", "colorTo"):
        yield from _one_of(name, told.get(name, "red"), COLOURS)
    if len(str(told.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


def _listed(told: dict[str, Any], name: str) -> list[Any]:
    value = told.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def _one_of(name: str, value: Any, allowed: Any) -> Iterator[str]:
    if value not in allowed:
        yield f'"{name}" must be one of [{", ".join(allowed)}]'
