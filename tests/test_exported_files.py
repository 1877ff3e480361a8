"""Model and pipeline files are exported verbatim, one by one: each stands alone under a name of its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPORTED = [path for folder in ("models", "pipelines") for path in sorted((ROOT / "toffee_hf" / folder).glob("*.py"))
            if path.name != "__init__.py"]  # fmt: skip
OURS = {"toffee_hf", "builder", "spaces", "model_cards", "tests"}
# Modular blocks are many classes, and steps of the classic pipeline, which every repository with blocks holds beside
# them: they import that one file, by its name alone.
BLOCKS = {"toffee_blocks": "pipeline_toffee"}


def test_there_are_files():
    found = {path.stem for path in EXPORTED}
    assert found >= {"toffee_autoencoder", "toffee_classifier", "toffee_refiner_unet", "toffee_view_unet"}
    assert found >= {"pipeline_toffee_refiner", "pipeline_toffee_view"}


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_an_exported_file_imports_nothing_of_ours(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & OURS
        if isinstance(node, ast.ImportFrom):
            beside = node.level == 1 and node.module == BLOCKS.get(path.stem)
            assert node.level == 0 or beside, "a relative import is one of ours"
            assert (node.module or "").partition(".")[0] not in OURS


def test_names_are_unique_in_the_whole_repository():
    names = [path.name for package in OURS for path in (ROOT / package).rglob("*.py")]
    assert [path.name for path in EXPORTED if names.count(path.name) != 1] == []


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_an_exported_file_has_one_public_class_that_begins_with_toffee(path):
    classes = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    public = [name for name in classes if not name.startswith("_")]
    assert len(public) == 1 or path.stem in BLOCKS
    assert public and all(name.startswith("Toffee") for name in public)
