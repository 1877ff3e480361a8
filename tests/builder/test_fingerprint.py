import json
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import pytest

from builder import fingerprint, recipe
from builder.fingerprint import EXCLUDED, canonical, run_fingerprint
from builder.recipe import Weight
from builder.recipe_reference import load_recipe
from toffee_hf.errors import RecipeError

ASK = """from builder.recipe_reference import load_recipe
from builder.fingerprint import run_fingerprint
print(run_fingerprint(load_recipe({reference!r}), 7, "digest"))"""


def test_another_process_finds_the_same_run(flat):
    here = run_fingerprint(load_recipe(flat("recipe")), 7, "digest")
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", ASK.format(reference=flat("recipe"))],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here


def test_whatever_can_change_a_byte_changes_the_run(flat, monkeypatch):
    made = load_recipe(flat("recipe"))
    runs = {run_fingerprint(made, 0, "a"), run_fingerprint(made, 1, "a"), run_fingerprint(made, 0, "b")}
    changes = [{"size_px": 33}, {"attempts": 3}, {"batch_size": 4}, {"threads": 2}, {"pairs_per_shard": 5},
               {"image_format": "jpeg"}, {"rules": ()}, {"stages": made.stages[::-1]}]  # fmt: skip
    for change in changes:
        if "stages" not in change:
            runs.add(run_fingerprint(replace(made, **change), 0, "a"))
    runs.add(run_fingerprint(load_recipe(flat("all_kept")), 0, "a"))
    monkeypatch.setattr(fingerprint, "ROWS_VERSION", 10**6)
    runs.add(run_fingerprint(made, 0, "a"))
    assert len(runs) == 3 + 7 + 1 + 1


def test_excluded_fields_exist_and_change_nothing(flat):
    for name in EXCLUDED:
        kind, _, field = name.partition(".")
        assert field in {item.name for item in fields(getattr(recipe, kind))}
    made = load_recipe(flat("recipe"))
    guessed = replace(made, seconds_per_pair=9.0, bytes_per_pair=9)
    assert run_fingerprint(guessed, 0, "a") == run_fingerprint(made, 0, "a")


def test_weights_count_by_content_not_by_place(flat, tmp_path):
    made = load_recipe(flat("recipe"))

    def run_with(folder, content):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "model.safetensors").write_bytes(content)
        weight = Weight(name="unet", licence="mit", source="here", path=tmp_path / folder)
        return run_fingerprint(replace(made, weights=(weight,)), 0, "a")

    assert run_with("one", b"1") == run_with("two", b"1") != run_with("three", b"2")


def test_a_stage_may_hold_the_path_of_a_weight_and_no_other(flat, tmp_path):
    @dataclass(frozen=True)
    class Loads:
        family: Path
        name: str = "loads"
        reads: frozenset = frozenset()
        writes: frozenset = frozenset()

    def run_with(place):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(b"1")
        made = load_recipe(flat("recipe"))
        weight = Weight(name="family", licence="mit", source="here", path=tmp_path / place)
        with_stage = replace(made, weights=(weight,), stages=(*made.stages, Loads(tmp_path / place)))
        return run_fingerprint(with_stage, 0, "a"), with_stage

    (one, made), (two, _) = run_with("one"), run_with("two")
    assert one == two
    with pytest.raises(RecipeError, match="unless one of its weights lies there"):
        run_fingerprint(replace(made, weights=()), 0, "a")


def test_missing_weights_are_the_users_to_mend(flat, tmp_path):
    weight = Weight(name="unet", licence="mit", source="here", path=tmp_path / "nowhere")
    with pytest.raises(RecipeError, match="'unet' is not at"):
        run_fingerprint(replace(load_recipe(flat("recipe")), weights=(weight,)), 0, "a")


@pytest.mark.parametrize("value", [Path("x"), float("nan"), object(), print, [1, {2: b"x"}]])
def test_what_has_no_stable_form_is_refused(value):
    with pytest.raises(RecipeError, match="cannot hold"):
        canonical(value)


def test_functions_count_by_name_source_and_what_they_close_over():
    def scaled(by):
        def scale(value):
            return value * by

        return scale

    assert canonical(scaled(1)) == canonical(scaled(1)) != canonical(scaled(2))
    assert canonical(partial(scaled, 1)) != canonical(partial(scaled, 2))
    assert canonical({3, 1, 2}) == canonical({1, 2, 3})
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})


RECIPE = """from dataclasses import dataclass
from tests.builder.flat_recipe import recipe as flat
LIMIT = {limit}
def rule(scores, category):
    return check(scores)
def check(scores):
    from builder.judge import KEEP
    return KEEP
def recipe():
    return flat(rules=(rule,))
"""


def test_all_of_the_users_file_counts(tmp_path):
    def run_with(limit):
        path = tmp_path / f"limit{limit}.py"
        path.write_text(RECIPE.format(limit=limit))
        return run_fingerprint(load_recipe(f"{path}:recipe"), 0, "a")

    assert run_with(1) != run_with(2)


def test_the_folder_of_a_family_must_be_a_weight(flat, tmp_path):
    @dataclass(frozen=True)
    class Loads:
        family: str
        name: str = "loads"
        reads: frozenset = frozenset()
        writes: frozenset = frozenset()

    (tmp_path / "model.safetensors").write_bytes(b"1")
    weight = Weight(name="mine", licence="mit", source="here", path=tmp_path)
    made = load_recipe(flat("recipe"))
    listed = replace(made, stages=(*made.stages, Loads(str(tmp_path))), weights=(weight,))
    assert '{"weight": "mine"}' in json.dumps(fingerprint.canonical_recipe(listed))
    assert str(tmp_path) not in json.dumps(fingerprint.canonical_recipe(listed))
    with pytest.raises(RecipeError, match="add a Weight with this path"):
        run_fingerprint(replace(listed, weights=()), 0, "a")
