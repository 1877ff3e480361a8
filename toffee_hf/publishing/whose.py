"""Whether what a repository holds is ours to replace."""

from __future__ import annotations

import json
from collections.abc import Callable

from toffee_hf.errors import InputError
from toffee_hf.publishing.card_check import metadata_of
from toffee_hf.publishing.hub import Repository

BLANK = {"model": {".gitattributes"}, "space": {".gitattributes", "README.md"}}      # what a new one holds
CARD, INDEX, TAG = "README.md", "model_index.json", "subject-driven"      # a tag of all that we publish


def check_model_is_ours(repository: Repository) -> None:
    """Raises InputError for a repository that holds anything but a pipeline of ours, or nothing."""
    _check(repository, INDEX, "no model of ours", _is_our_index)


def check_space_is_ours(repository: Repository) -> None:
    """Raises InputError for a Space with files, whose card is not tagged as ours."""
    _check(repository, CARD, "no Space of ours", _is_our_card)


def _check(repository: Repository, proof: str, what: str, is_ours: Callable[[bytes], bool]) -> None:
    there = repository.files()
    strange = sorted(there.keys() - BLANK[repository.kind])
    if not strange:
        return
    data = repository.fetch([proof], repository.head()).get(proof, b"") if proof in there else b""
    if not is_ours(data):
        raise InputError(f"{repository.name} is taken: it holds {strange[0]} and is {what}; give a name that is free")


def _is_our_index(data: bytes) -> bool:
    try:
        name = json.loads(data)["_class_name"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(name, list) and len(name) == 2 and str(name[1]).startswith("Toffee")


def _is_our_card(data: bytes) -> bool:
    try:
        return TAG in (metadata_of(data.decode(errors="replace")).get("tags") or ())
    except InputError:
        return False
