from collections import Counter
from itertools import islice
from math import isclose

import pytest

from builder.plan import Plan
from builder.recipe_reference import load_recipe
from builder.subjects import Subject, SubjectIndex, ToyPicture
from toffee_hf.errors import InputError


def subjects(count):
    found = tuple(Subject(f"{n:032x}", f"s{n}", "mug", ToyPicture("train", n, 32)) for n in range(count))
    return SubjectIndex("made", found)


def plan(flat, count, seed=0, subject_count=7):
    return Plan(load_recipe(flat("recipe")), subjects(subject_count), seed, "0" * 8, count)


def test_a_pair_does_not_depend_on_the_size_of_the_plan(flat):
    small, large = plan(flat, 10), plan(flat, 1000)
    assert [small.pair(k) for k in range(10)] == [large.pair(k) for k in range(10)]


def test_every_subject_is_used_before_any_is_used_twice(flat):
    for subject_count in (1, 2, 7, 12, 256):
        made = plan(flat, 3 * subject_count, subject_count=subject_count)
        for round_ in range(3):
            used = {made.pair(round_ * subject_count + place).subject.subject_id for place in range(subject_count)}
            assert len(used) == subject_count


def test_rounds_start_at_different_subjects_and_seeds_make_other_pairs(flat):
    made, other = plan(flat, 700, subject_count=97), plan(flat, 700, seed=1, subject_count=97)
    assert len({made.pair(97 * round_).subject.subject_id for round_ in range(7)}) > 3
    assert [made.pair(k).subject for k in range(97)] != [other.pair(k).subject for k in range(97)]
    assert not {made.pair(k).seed for k in range(97)} & {other.pair(k).seed for k in range(97)}


@pytest.mark.parametrize("subject_count", [5, 64, 256, 1000])
def test_shares_hold_over_short_stretches(flat, subject_count):
    made = plan(flat, 600, subject_count=subject_count)
    for start in (0, 300):
        pairs = [made.pair(k) for k in range(start, start + 300)]
        categories, tasks = Counter(p.category for p in pairs), Counter(p.task for p in pairs)
        assert isclose(categories["background"] / 300, 2 / 3, abs_tol=0.08), categories
        assert isclose(tasks["editing"] / 300, 1 / 3, abs_tol=0.08), tasks


def test_a_subject_meets_every_category_and_task(flat):
    made = plan(flat, 256 * 12, subject_count=256)
    met = {}
    for pair in (made.pair(k) for k in range(256 * 12)):
        met.setdefault(pair.subject.subject_id, set()).add((pair.task, pair.category))
    assert min(len(cells) for cells in met.values()) >= 3


def test_shards_cover_every_pair_once_and_the_last_is_short(flat):
    made = plan(flat, 10)
    shards = list(made.shards())
    assert [pair.number for shard in shards for pair in shard.pairs] == list(range(10))
    assert (shards[2].first, shards[2].last, shards[2].name) == (8, 9, "00000000-00002")


def test_pairs_are_lazy(flat):
    made = plan(flat, 10**15, subject_count=256)
    assert made.pair(10**15 - 1).number == 10**15 - 1
    assert len(list(islice(made.shards(), 2))) == 2


def test_a_plan_of_no_pairs_is_refused(flat):
    with pytest.raises(InputError, match="at least 1"):
        plan(flat, 0)
