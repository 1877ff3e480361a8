"""The package is whole: its list of packages, its data, its dependencies, and a wheel that works alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("toffee_hf", "builder", "model_cards")
SPACE = ROOT / "spaces" / "toffee-editor"
OURS = {*TOP, "spaces", "tests", *(path.stem for path in SPACE.glob("*.py"))}
# where the name to import is not the name to install
INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub", "gradio_client": "gradio",
                "mcp": "gradio", "anyio": "gradio"}


def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text()))


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def requirements() -> dict[str, list[str]]:
    """Requirement lines by extra; "" holds the plain dependencies."""
    table = project()["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def sources() -> list[Path]:
    return [path for top in TOP for path in sorted((ROOT / top).rglob("*.py"))]


def test_the_list_of_packages_is_the_tree() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in sources() if path.name == "__init__.py"}
    packages = project()["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted([*found, "builder.spaces"]), "the Space's folder is data"


def test_every_source_file_lies_in_a_package() -> None:
    packages = set(project()["tool"]["setuptools"]["packages"])
    assert not [path for path in sources() if ".".join(path.parent.relative_to(ROOT).parts) not in packages]


def test_every_import_is_a_declared_dependency() -> None:
    plain, tests = ("", "space"), sorted((ROOT / "tests").rglob("*.py"))
    for paths, extras in ((sources(), plain), (tests, (*plain, "dev"))):
        declared = {re.split(r"[\[<>=! ]", line)[0].lower() for extra in extras for line in requirements()[extra]}
        for path in paths:
            for name in imported(path) - OURS - sys.stdlib_module_names:
                assert INSTALLED_AS.get(name, name) in declared, f"{path.relative_to(ROOT)} imports {name}"


def imported(path: Path) -> set[str]:
    """Top-level names of absolute imports anywhere in a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_space_names_what_it_imports_and_asks_for_what_this_package_asks_for() -> None:
    lines = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    named = {re.split(r"[<>=]", line)[0] for line in lines}
    assert set(lines) <= set(requirements()[""])
    for path in sorted(SPACE.glob("*.py")):
        for name in imported(path) - OURS - sys.stdlib_module_names - {"gradio", "spaces"}:
            assert INSTALLED_AS.get(name, name) in named, f"{path.name} imports {name}"
        assert not imported(path) & {*TOP, "tests"}, f"{path.name} is uploaded alone"


def test_every_file_of_the_space_is_package_data() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["builder.spaces"]
    found = {path for pattern in patterns for path in SPACE.parent.glob(pattern) if path.is_file()}
    assert found == {path for path in SPACE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_constraints_pin_every_dependency_of_every_extra_within_its_range() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    versions = pinned()
    for line in (line for lines in requirements().values() for line in lines):
        requirement = packaging.Requirement(line)
        assert versions[requirement.name.lower()] in requirement.specifier, line


def test_constraints_work_anywhere() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_outputs_are_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/toffee/", "/toffee-editor/", "/.venv/"} <= set(ignored)


@pytest.mark.slow
def test_a_wheel_alone_builds_four_pairs(tmp_path: Path) -> None:
    """Built, installed into a clean environment with the pinned versions, run away from the sources."""
    source = tmp_path / "source"  # a copy, so that no earlier build/ leaks into the wheel
    for top in (*TOP, "spaces"):
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    call([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source])
    (wheel,) = tmp_path.glob("toffee_hf-*.whl")
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    call([*install, f"torch=={pinned()['torch']}"])
    call([*install, wheel])

    work = tmp_path / "work"
    work.mkdir()
    call([python.with_name("toffee"), "build", "--pairs", "4", "--workers", "1"], cwd=work)
    figures = ROOT / "docs" / "method.md"  # which no wheel holds
    call([python.with_name("toffee"), "publish", "model", "--model", "editor", "--figures", figures, "--to", "editor"],
         cwd=work)  # fmt: skip
    count = "import datasets; print(len(datasets.load_dataset('toffee', split='train')))"
    assert 0 < int(call([python, "-c", count], cwd=work).split()[-1]) <= 4
    assert (work / "toffee" / "contact_sheet.png").exists()
    found = call([python, "-c", "from builder.cli.space import space_folder; print(space_folder())"], cwd=work).strip()
    assert sorted(path.name for path in Path(found).iterdir() if path.name != "__pycache__") == sorted(
        path.name for path in SPACE.iterdir() if path.name != "__pycache__")


def call(command: list[Any], cwd: Path | None = None) -> str:
    """Run to the end, without this checkout on the path. Fails with what the command said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
