import numpy as np
import pytest

from builder.batch import Batch, concatenate
from builder.plan import Pair
from builder.subjects import Subject, ToyPicture
from toffee_hf.errors import RecipeError


def batch(count=4):
    subject = Subject("0" * 32, "s", "mug", ToyPicture("train", 0, 32))
    pairs = tuple(Pair(k, subject, "generation", "style", "a mug", 100 + k) for k in range(count))
    depth = np.arange(count * 2).reshape(count, 2)
    return Batch(pairs, 0).with_columns(depth=depth, name=[f"n{k}" for k in range(count)])


def numbers(made):
    return [pair.number for pair in made.pairs]


def test_rejecting_keeps_order_and_the_columns_so_far():
    left = batch().reject([2, 0], "no_subject")
    assert numbers(left) == [1, 3]
    assert left["name"] == ["n1", "n3"]
    assert left["depth"].tolist() == [[2, 3], [6, 7]]
    assert [(f.pair.number, f.reason, f.columns["name"]) for f in left.rejected] == [
        (0, "no_subject", "n0"),
        (2, "no_subject", "n2"),
    ]


def test_rejections_add_up_and_none_is_no_change():
    made = batch().reject([0], "no_subject").reject([0], "view_mismatch")
    assert [(f.pair.number, f.reason) for f in made.rejected] == [(0, "no_subject"), (1, "view_mismatch")]
    assert made.reject([], "view_mismatch") is made


def test_nothing_changes_in_place():
    made = batch()
    made.with_columns(more=[1, 2, 3, 4])
    made.reject([0], "view_mismatch")
    assert "more" not in made
    assert len(made) == 4


def test_columns_are_as_long_as_the_batch_and_have_names():
    with pytest.raises(RecipeError, match="'short' has 3 items for 4 pairs"):
        batch().with_columns(short=[1, 2, 3])
    with pytest.raises(RecipeError, match="no column 'view'; there are: depth, name"):
        batch()["view"]
    with pytest.raises(RecipeError, match="unknown reason 'ugly'"):
        batch().reject([0], "ugly")


def test_parts_join_to_the_whole():
    import torch

    whole = batch().with_columns(image=torch.arange(8).reshape(4, 2))
    joined = concatenate([whole.select([0, 1]), whole.select([2]).reject([0], "view_mismatch"), whole.select([3])])
    assert numbers(joined) == [0, 1, 3]
    assert joined["image"].tolist() == [[0, 1], [2, 3], [6, 7]]
    assert joined["depth"].tolist() == [[0, 1], [2, 3], [6, 7]]
    assert [f.pair.number for f in joined.rejected] == [2]


def test_generators_belong_to_pairs_not_to_places():
    import torch

    whole, part = batch().generators("draft"), batch().select([2]).generators("draft")
    assert torch.equal(torch.rand(2, generator=whole[2]), torch.rand(2, generator=part[0]))
