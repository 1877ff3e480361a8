"""The arrows between packages, light imports, and the command line's start."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "datasets", "pyarrow", "gradio", "ray", "pandas", "numpy", "PIL")
KNOWS_DATASETS = {"builder/toffee.py"}  # its class derives from one of `datasets`


def sources(*packages):
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def packages_of(path, **options):
    return {name.partition(".")[0] for name in imports(path, **options)}


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources("toffee_hf"), ids=name)
def test_the_library_knows_neither_builder_nor_spaces(path):
    assert not packages_of(path) & {"builder", "spaces", "tests"}


@pytest.mark.parametrize("path", sources("spaces"), ids=name)
def test_spaces_stand_alone(path):
    assert not packages_of(path) & {"builder", "toffee_hf", "model_cards", "tests"}


@pytest.mark.parametrize("path", [p for p in sources("builder") if "cli" not in p.parts], ids=name)
def test_inside_builder_only_the_command_line_knows_the_command_line(path):
    assert not [module for module in imports(path) if module.startswith("builder.cli")]


@pytest.mark.parametrize("path", sources("builder"), ids=name)
def test_builder_modules_load_heavy_libraries_on_first_use(path):
    allowed = {"datasets"} if name(path) in KNOWS_DATASETS else set()
    assert not packages_of(path, top_level_only=True) & set(HEAVY) - allowed


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


@pytest.mark.parametrize("module", ["toffee_hf", "builder", "builder.cli", "builder.shard", "builder.engines.worker"])
def test_importing_loads_nothing_heavy_and_writes_nothing(module, tmp_path):
    seen = f"set({HEAVY!r}) & sys.modules.keys()"
    done = run(f"import sys, os; os.chdir({str(tmp_path)!r}); import {module}; print(*{seen})")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_parses_without_heavy_libraries():
    seen = f"set({HEAVY!r}) & sys.modules.keys()"
    done = run(f"import sys; from builder.cli import make_parser; make_parser(); print(*{seen})")
    assert done.stdout.strip() == "", done.stderr


@pytest.mark.parametrize("command", [[], ["build"], ["plan"], ["report"], ["space"]])
def test_help_is_there(command):
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "builder.cli", *command, "--help"],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("usage: toffee")
    assert time.monotonic() - began < 10  # the target of one second is for a quiet machine


FILES_TO_AVOID = {"utils.py", "common.py", "helpers.py", "misc.py"}


def test_no_drawer_for_odds_and_ends():
    assert not [name(path) for path in sources("builder", "toffee_hf") if path.name in FILES_TO_AVOID]
    assert not [path for path in (ROOT / "builder").rglob("helpers")]
