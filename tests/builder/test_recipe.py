from dataclasses import dataclass

import pytest

from builder.recipe import PromptPlan, Weight
from builder.recipe_reference import load_recipe
from toffee_hf.errors import RecipeError


@dataclass(frozen=True)
class Reader:
    name: str = "reader"
    reads: frozenset = frozenset({"depth"})
    writes: frozenset = frozenset()

    def run(self, batch):
        return batch


def changed(flat, **changes):
    from dataclasses import replace

    return replace(load_recipe(flat("recipe")), **changes)


def test_reading_what_nobody_wrote_names_stage_and_column(flat):
    with pytest.raises(RecipeError, match="'reader' reads column 'depth'"):
        changed(flat, stages=(Reader(), *load_recipe(flat("recipe")).stages))


def test_a_row_needs_its_columns(flat):
    with pytest.raises(RecipeError, match="no stage writes column 'mask'"):
        changed(flat, stages=load_recipe(flat("recipe")).stages[:1])


@pytest.mark.parametrize(
    "change", [{"size_px": 0}, {"attempts": 0}, {"editing_share": 1.5}, {"image_format": "png"}, {"batch_size": -1}]
)
def test_numbers_out_of_range_are_refused(flat, change):
    with pytest.raises(RecipeError, match=next(iter(change))):
        changed(flat, **change)


@pytest.mark.parametrize("shares", [(), (("a", 1.0), ("a", 1.0)), (("a", 0.0),), (("a", float("nan")),)])
def test_shares_are_positive_and_named_once(shares):
    with pytest.raises(RecipeError):
        PromptPlan(shares=shares, write=str)


@pytest.mark.parametrize("revision", [None, "main", "0" * 39, "g" * 40])
def test_hub_weights_are_pinned_to_a_commit(revision):
    with pytest.raises(RecipeError, match="revision"):
        Weight(name="unet", licence="mit", source="the Hub", hub_id="org/model", revision=revision)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nonsense", "unknown recipe 'nonsense'; give one of tiny"),
        ("missing.py:recipe", "no recipe file missing.py"),
        ("{flat}:absent", "no function 'absent'"),
        ("{flat}:write", "raised TypeError"),
        ("{flat}:AtLeast", "raised TypeError"),
        ("{broken}:recipe", "SyntaxError"),
        ("{empty}:number", "must return a builder.recipe.Recipe, got int"),
    ],
)
def test_a_bad_reference_says_what_is_allowed(flat, tmp_path, reference, says):
    (tmp_path / "broken.py").write_text("def recipe(:")
    (tmp_path / "empty.py").write_text("def number(): return 3")
    file = flat("")[:-1]
    named = reference.format(flat=file, broken=tmp_path / "broken.py", empty=tmp_path / "empty.py")
    with pytest.raises(RecipeError, match=says):
        load_recipe(named)
