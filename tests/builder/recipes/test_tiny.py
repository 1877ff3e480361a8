"""What measures and describes the method runs with the settings that the recipe ships."""

import inspect
from dataclasses import replace

import pytest

from builder.prompts import TURNS
from builder.recipes.tiny import tiny
from builder.stages import MOST_LOOKS
from toffee_hf.errors import RecipeError
from toffee_hf.evaluation import heldout, method, ways
from toffee_hf.perception import depth
from toffee_hf.pipelines import pipeline_toffee_refiner, pipeline_toffee_view
from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline
from toffee_hf.pipelines.pipeline_toffee_view import ToffeeViewPipeline
from toffee_hf.toy.captions import POSES


@pytest.fixture(scope="module")
def stages():
    """The recipe's stages by their names."""
    return {stage.name: stage for stage in tiny().stages}


def test_the_method_is_measured_with_the_recipes_settings(stages):
    draft, refine = stages["draft"], stages["refine"]
    assert (draft.steps, draft.steering, dict(draft.steerings)) == (
        ways.DRAFT_STEPS, ways.DRAFT, {"style": ways.STYLED_DRAFT})
    assert {"strength": refine.strength, "num_inference_steps": refine.steps} == ways.REFINE
    assert refine.looks == ways.LOOKS and set(dict(refine.surfaces).values()) == {ways.SURFACE}
    assert dict(refine.grains) == {"style": ways.GRAIN} and stages["view"].looks == ways.VIEW_LOOKS
    kinds = {"photo": "background"}
    transfers = {kind: method.TRANSFERS.get(kind, "full") for kind in method.KINDS}
    assert {kinds.get(kind, kind): transfer for kind, transfer in transfers.items()} == dict(refine.transfers)


def test_what_the_measurements_leave_out_the_pipeline_has_as_the_recipe_does(stages):
    defaults = inspect.signature(ToffeeRefinerPipeline.__call__).parameters
    for name in ("top_k", "temperature", "threshold", "nearness"):
        assert defaults[name].default == getattr(stages["refine"], name), name
        assert name not in ways.REFINE
    defaults, view = inspect.signature(ToffeeViewPipeline.__call__).parameters, stages["view"]
    assert {name: defaults[name].default for name in ("strength", "num_inference_steps", "surface")} == {
        "strength": view.strength, "num_inference_steps": view.steps, "surface": view.surface}


@pytest.mark.parametrize("name", ["view", "refine"])
def test_a_stage_refuses_looks_that_no_pipeline_knows(stages, name):
    assert MOST_LOOKS == len(pipeline_toffee_refiner.LOOKS) == len(pipeline_toffee_view.LOOKS) == len(depth.LOOKS)
    for looks in (0, MOST_LOOKS + 1):
        with pytest.raises(RecipeError, match=f"stage {name}: looks must be in"):
            replace(stages[name], looks=looks)


def test_a_pose_prompt_turns_as_far_where_it_is_measured(stages):
    assert stages["view"].turns == TURNS
    assert dict(TURNS) == {POSES["left"]: -heldout.POSE_TURN, POSES["right"]: heldout.POSE_TURN}
