"""What all stages share: uint8 pictures to floats and back, scores, and a recipe that fits together."""

from dataclasses import replace

import pytest
import torch

from builder.columns import SCORES
from builder.recipes.tiny import tiny
from builder.stage_runner import ShardLog, run_stages
from builder.stages import as_masks, as_pictures, pixels, plane, with_scores
from toffee_hf.errors import RecipeError


def test_every_byte_survives_the_way_through_floats():
    every = torch.arange(256).byte().view(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert torch.equal(as_pictures(pixels(every, "cpu")), every)
    assert pixels(every, "cpu").aminmax() == (-1.0, 1.0)
    masks = torch.tensor([[[0, 255], [255, 0]]]).byte()
    assert plane(masks, "cpu").shape == (1, 1, 2, 2) and torch.equal(as_masks(plane(masks, "cpu")), masks)


def test_values_out_of_range_are_cut_and_half_a_mask_is_none():
    assert as_pictures(torch.tensor([-5.0, 5.0, 0.0]).view(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]
    assert as_masks(torch.tensor([0.5, 0.51, 0.0, 2.0]).view(1, 1, 2, 2)).flatten().tolist() == [0, 255, 0, 255]


def test_scores_are_added_to_those_there_are(batch):
    made = with_scores(batch("style", "pose"), clip_t=torch.tensor([0.25, 0.5]))
    again = with_scores(made, view_dino=[None, 0.75])
    assert again["scores"] == [{"clip_t": 0.25, "view_dino": None}, {"clip_t": 0.5, "view_dino": 0.75}]
    assert made["scores"] == [{"clip_t": 0.25}, {"clip_t": 0.5}], "the batch before is untouched"


@pytest.mark.parametrize("index", range(len(tiny().stages)), ids=[stage.name for stage in tiny().stages])
def test_the_recipe_needs_every_stage_in_its_place(index):
    """Left out, a stage that first writes a column is missed before a model loads."""
    recipe, stage = tiny(), tiny().stages[index]
    others = recipe.stages[:index] + recipe.stages[index + 1 :]
    if stage.writes <= {"scores"}.union(*(earlier.writes for earlier in recipe.stages[:index])):
        assert stage.name in ("in_domain", "score"), "these two add scores alone, or replace a column"
        replace(recipe, stages=others)
    else:
        with pytest.raises(RecipeError, match="no (earlier )?stage writes column|which no earlier stage"):
            replace(recipe, stages=others)


def test_names_are_unique_and_the_order_cannot_be_turned():
    recipe = tiny()
    assert len({stage.name for stage in recipe.stages}) == len(recipe.stages)
    with pytest.raises(RecipeError, match="reads column"):
        replace(recipe, stages=recipe.stages[::-1])


@pytest.mark.parametrize("categories", [("pose", "background", "style"), ("colour",)])
def test_all_stages_run_on_a_small_family_and_keep_their_promises(family, batch, categories):
    """Permissive thresholds, random models: a pair comes through or falls for a reason; the runner checks writes."""
    stages = [replace(stage, **permissive(stage, family)) for stage in tiny().stages]
    log = ShardLog()
    done = run_stages(stages, batch(*categories).pairs, 0, log)
    assert not log.messages, log.messages
    assert len(done) + len(done.rejected) == len(categories)
    assert {fallen.reason for fallen in done.rejected} <= {"no_subject", "reference_unsound"}
    assert len(done), "the random segmenter finds something"
    size = (len(done), 3, 64, 64)
    for name in ("reference", "source", "target"):
        assert done[name].shape == size and done[name].dtype == torch.uint8
    for name in ("reference_mask", "mask", "target_mask"):
        assert done[name].shape == (len(done), 64, 64) and set(done[name].unique().tolist()) <= {0, 255}
    for scores in done["scores"]:
        assert set(scores) == set(SCORES)
        assert all(value is None or -1 <= value <= 1 for value in scores.values())
        assert scores["outside"] == 0


def test_one_attempt_is_one_picture_and_another_attempt_another(family, batch):
    stages = [replace(stage, **permissive(stage, family)) for stage in tiny().stages]
    pairs = batch("background", "style").pairs
    first, again, other = (run_stages(stages, pairs, attempt, ShardLog()) for attempt in (0, 0, 1))
    assert torch.equal(first["target"], again["target"]) and first["scores"] == again["scores"]
    assert not torch.equal(first["target"], other["target"])


def permissive(stage, family):
    """Settings under which random models' pairs come through at 64 pixels."""
    fields = set(type(stage).__dataclass_fields__)
    changes = {"family": family, "size_px": 64, "min_in_domain": -1.0, "min_area": 0.0, "max_area": 1.0, "steps": 2,
               "max_border": 1.0, "max_pieces": 999, "min_similarity": -1.0}  # fmt: skip
    return {name: value for name, value in changes.items() if name in fields}
