"""What measures and describes the method runs with the settings that the recipe ships."""

import inspect

import pytest

from builder.prompts import TURNS
from builder.recipes.tiny import tiny
from toffee_hf.evaluation import heldout, method, ways
from toffee_hf.pipelines.pipeline_toffee_refiner import ToffeeRefinerPipeline
from toffee_hf.toy.captions import POSES


@pytest.fixture(scope="module")
def stages():
    """The recipe's stages by their names."""
    return {stage.name: stage for stage in tiny().stages}


def test_the_method_is_measured_with_the_recipes_settings(stages):
    draft, refine = stages["draft"], stages["refine"]
    assert (draft.steps, draft.guidance, draft.control) == (ways.DRAFT_STEPS, ways.DRAFT_GUIDANCE, ways.DRAFT_CONTROL)
    assert {"strength": refine.strength, "num_inference_steps": refine.steps} == ways.REFINE
    kinds = {"photo": "background"}
    transfers = {kind: method.TRANSFERS.get(kind, "full") for kind in method.KINDS}
    assert {kinds.get(kind, kind): transfer for kind, transfer in transfers.items()} == dict(refine.transfers)


def test_what_the_measurements_leave_out_the_pipeline_has_as_the_recipe_does(stages):
    defaults = inspect.signature(ToffeeRefinerPipeline.__call__).parameters
    for name in ("top_k", "temperature", "threshold", "nearness"):
        assert defaults[name].default == getattr(stages["refine"], name), name
        assert name not in ways.REFINE


def test_a_pose_prompt_turns_as_far_where_it_is_measured(stages):
    assert stages["view"].turns == TURNS
    assert dict(TURNS) == {POSES["left"]: -heldout.POSE_TURN, POSES["right"]: heldout.POSE_TURN}
