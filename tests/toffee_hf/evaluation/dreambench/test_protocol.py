"""The protocol: subjects, prompts, seeds, and where pictures lie."""

import pytest

from tests.tiny_metrics import SUBJECTS, picture, write_dreambench, write_ready
from toffee_hf.errors import InputError
from toffee_hf.evaluation.dreambench.protocol import (
    Extent,
    find_pictures,
    jobs_of,
    photos_of,
    picture_seed,
    read_dreambench,
    spread,
)


@pytest.fixture
def bench(tmp_path):
    return read_dreambench(write_dreambench(tmp_path / "data"))


def test_subjects_have_their_words_and_photographs(bench, tmp_path):
    assert {s.name: s.class_name for s in bench} == SUBJECTS
    assert [p.name for p in bench[0].photos] == ["00.jpg", "01.jpg"]
    assert read_dreambench(tmp_path / "data" / "dataset") == bench


def test_live_subjects_and_objects_are_asked_their_own_prompts_without_the_unique_token(bench):
    mug, cat, bear = bench
    assert len(mug.prompts) == len(cat.prompts) == 25
    assert mug.prompts[3] == "a mug on a shelf 3" and bear.prompts[0] == "a stuffed animal on a shelf 0"
    assert cat.prompts[24] == "a cat in a hat 24"


def test_a_run_is_every_picture_with_a_seed_of_its_own(bench):
    jobs = jobs_of(bench, Extent(3), 0)
    assert len(jobs) == 3 * 25 * 4 and len({job.seed for job in jobs}) == len(jobs)
    assert jobs[5].place == "mug1/01/1" and jobs[5].prompt == bench[0].prompts[1]
    assert all(0 <= job.seed < 2**31 for job in jobs)
    assert not {job.seed for job in jobs} & {job.seed for job in jobs_of(bench, Extent(3), 1)}
    assert picture_seed(0, "dog", 3, 1) == 2028291427, "seeds are for ever"


def test_a_short_run_is_a_part_of_the_whole_and_meets_every_kind(bench):
    short = jobs_of(bench, Extent(2, 5, 1), 0)
    assert set(short) <= set(jobs_of(bench, Extent(3), 0)) and len(short) == 10
    assert {job.prompt_index for job in short} == {0, 5, 10, 15, 20}
    assert spread(3, 30) == [0, 10, 20] and spread(9, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("extent", [(1, 25, 4), (30, 0, 4), (30, 26, 4), (30, 25, 0)])
def test_an_extent_that_cannot_be_is_refused(extent):
    with pytest.raises(InputError, match="at least 2 subjects, 1 to 25 prompts"):
        Extent(*extent)


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda data: (data / "prompts_and_classes.txt").unlink(), "holds no copy of DreamBench"),
    (lambda data: (data / "prompts_and_classes.txt").write_text("Classes\nmug1,mug\n"), "found 1 subjects, 0 and 0"),
    (lambda data: [p.unlink() for p in (data / "cat2").iterdir()], "no photographs of cat2;"),
])
def test_a_copy_that_is_not_whole_is_one_sentence(tmp_path, spoil, says):
    data = write_dreambench(tmp_path) / "dataset"
    spoil(data)
    with pytest.raises(InputError, match=says):
        read_dreambench(tmp_path)


def test_photographs_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.jpg", "2.png", "1.WEBP", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in photos_of(tmp_path)] == ["1.WEBP", "2.png", "10.jpg"]
    assert photos_of(tmp_path / "absent") == ()


def test_ready_pictures_are_found_by_place_and_order(bench, tmp_path):
    jobs = jobs_of(bench, Extent(3, 2, 2), 0)
    ready = write_ready(tmp_path / "ready", ["mug1"], [0], 3, "webp")
    (ready / "cat2" / "12").mkdir(parents=True)
    picture(1).save(ready / "cat2" / "12" / "seed_7.jpg")
    (ready / "bear_plushie" / "0").mkdir(parents=True)
    picture(2).save(ready / "bear_plushie" / "0" / "1.png")
    found = find_pictures(ready, jobs)
    assert {job.place: path.relative_to(ready).as_posix() for job, path in found.paths.items()} == {
        "mug1/00/0": "mug1/00/0.webp", "mug1/00/1": "mug1/00/1.webp", "cat2/12/0": "cat2/12/seed_7.jpg",
        "bear_plushie/00/0": "bear_plushie/0/1.png"}
    assert len(found.missing) == len(jobs) - 4 and found.unused == 1


def test_a_folder_without_any_is_refused(bench, tmp_path):
    jobs = jobs_of(bench, Extent(3, 2, 2), 0)
    with pytest.raises(InputError, match="is not a folder"):
        find_pictures(tmp_path / "absent", jobs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no picture of the benchmark; the first would be .*mug1/00/0.png"):
        find_pictures(tmp_path / "empty", jobs)


def test_two_folders_of_one_prompt_are_not_guessed_between(bench, tmp_path):
    ready = write_ready(tmp_path, ["mug1"], [0], 1)
    (ready / "mug1" / "0").mkdir()
    picture(2).save(ready / "mug1" / "0" / "0.png")
    with pytest.raises(InputError, match="both 00 and 0"):
        find_pictures(ready, jobs_of(bench, Extent(3, 1, 1), 0))
