"""The stream of pairs: every row once an epoch, the same from any place, bounded, and broken rows are counted."""

from collections import Counter

import pytest

from tests.toffee_hf.training import pair_data
from tests.toffee_hf.training.pair_data import picture, row, rows_of, write_card, write_dataset, write_file
from tests.toffee_hf.training.real_data import mask, photo
from toffee_hf.errors import InputError, RunError
from toffee_hf.training import pair_files
from toffee_hf.training import pair_stream as module
from toffee_hf.training.editor import PairData
from toffee_hf.training.editor_examples import EditorConfig
from toffee_hf.training.pair_files import COLUMNS, open_pairs, read_rows
from toffee_hf.training.pair_stream import REASONS, Pair, PairStream, Wanted, decoded

EDITING = Wanted("editing", COLUMNS["editing"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(module, "WINDOW_ROWS", (4, 4))


def stream(folder, task="generation", seed=0, **wanted):
    extra = () if wanted.get("views", True) else ("scores.view_dino",)
    columns = COLUMNS[task] + extra
    return PairStream(open_pairs(str(folder), task, columns), Wanted(task, columns, **wanted), 64, seed)


def numbers(found, places):
    return [int(found.at(place)[0].prompt.rpartition(" ")[2]) for place in places]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(folder, small_windows):
    found = stream(folder)
    epochs = [numbers(found, range(11 * e, 11 * e + 11)) for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(11))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert numbers(stream(folder, seed=1), range(11)) != epochs[0]


@pytest.mark.parametrize("start", [0, 3, 4, 10, 11, 25])
def test_from_any_place_the_rest_is_the_same(folder, small_windows, start):
    whole = numbers(stream(folder), range(33))
    assert numbers(stream(folder), range(start, 33)) == whole[start:]


def test_at_most_two_windows_are_held_and_each_is_read_once(folder, small_windows, monkeypatch):
    read = []
    monkeypatch.setattr(module, "read_rows", lambda *a: read.append(a) or read_rows(*a))
    found = stream(folder)
    for place in range(33):
        found.at(place)
        assert len(found.held) <= 2
    found.ahead.shutdown(wait=True)
    assert sum(last - first for _, _, first, last in read) <= 33 + 4


def test_windows_are_of_equal_size_and_bounded_in_bytes(folder, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_ROWS", (2, 10))
    assert (stream(folder).window, stream(folder).windows) == (6, 2)
    monkeypatch.setattr(module, "WINDOW_BYTES", 1)
    assert (stream(folder).window, stream(folder).windows) == (2, 6)


@pytest.mark.parametrize(("other", "reason"), [
    ({"prompt": None}, "missing"), ({"prompt": ""}, "missing"), ({"target": None}, "missing"),
    ({"mask": picture(b"")}, "missing"), ({"source": picture(None) or {"bytes": None, "path": "x.png"}}, "missing"),
    ({"reference": picture(b"no picture")}, "not_a_picture"), ({"target": picture(photo(0, 1)[:-40])}, "truncated"),
    ({"reference": picture(photo(0, 0, (20, 20)))}, "too_small"),
    ({"reference_mask": picture(mask(0, (64, 80)))}, "sizes_differ"),
    ({"source": picture(photo(1, 1, (96, 96)))}, "sizes_differ"),
    ({"mask": picture(mask(1, (128, 128)))}, "sizes_differ"),
    ({"target_mask": picture(mask(60))}, "nothing_shown"), ({"reference": picture(mask(60))}, "nothing_shown"),
])  # fmt: skip
def test_a_row_that_cannot_be_used_has_a_reason(other, reason):
    assert decoded(row(0, True, **other), EDITING, 64) == reason and reason in REASONS
    assert isinstance(decoded(row(0, True), EDITING, 64), Pair)


def test_broken_rows_are_counted_and_others_of_the_window_take_their_place(tmp_path):
    rows = rows_of("generation", 12)
    rows[3]["target"], rows[7]["prompt"] = picture(b"no picture"), None
    write_file(tmp_path / "generation" / "train-0.parquet", rows)
    write_card(tmp_path, "generation")
    found, again = ([stream(tmp_path).at(place) for place in range(12)] for _ in range(2))
    prompts = [pair.prompt for pair, _ in found]
    assert prompts == [pair.prompt for pair, _ in again]
    usable = {r["prompt"] for i, r in enumerate(rows) if i not in (3, 7)}
    assert set(prompts) == usable
    assert sum((left_out for _, left_out in found), Counter()) >= Counter(not_a_picture=1, missing=1)


def test_a_window_without_a_usable_row_ends_the_training_in_a_sentence(tmp_path):
    write_file(tmp_path / "editing" / "train-0.parquet", [row(i, True, mask=None) for i in range(5)])
    write_card(tmp_path, "editing")
    with pytest.raises(RunError, match=r"none of 5 rows of editing in a row can be used: 5 missing \(a picture"):
        stream(tmp_path, "editing").at(0)
    assert stream(tmp_path, "editing").shown(0) is None


def test_rows_of_new_views_can_be_left_out(folder):
    found = stream(folder, views=False)
    assert {n % 2 for n in numbers(found, range(11))} == {0}
    assert found.at(0)[1].keys() <= {"new_view"}


def test_drafts_are_the_sources_of_editing_pairs():
    told = row(2, True)
    draft = decoded(told, Wanted("generation", COLUMNS["editing"], drafts=True), 64)
    edit = decoded(told, EDITING, 64)
    assert (draft.target == edit.source).all() and not (draft.target == edit.target).all()
    assert draft.source is None and draft.mask is None
    edit_of_draft = decoded(told, Wanted("editing", COLUMNS["editing"], drafts=True), 64)
    assert (edit_of_draft.target == edit.source).all() and (edit_of_draft.mask == edit.mask).all()


# --- both tasks -----------------------------------------------------------------------------------------------------


def data(folder, **settings):
    return PairData(str(folder), EditorConfig(**{"batch_size": 4, **settings}), 64)


def test_tasks_are_mixed_by_the_stated_share_and_places_have_no_gap(folder):
    found = data(folder, editing=0.3)
    places = [found.place(number) for number in range(1000)]
    for task, count in (("editing", 300), ("generation", 700)):
        assert [place for name, place in places if name == task] == list(range(count))
    assert all(2 <= sum(name == "editing" for name, _ in places[i : i + 10]) <= 4 for i in range(0, 990, 10))


@pytest.mark.parametrize("tasks", ["editing", "generation"])
def test_one_task_reads_that_alone(folder, tasks):
    found = data(folder, tasks=tasks)
    assert [found.place(n) for n in range(3)] == [(tasks, n) for n in range(3)]
    assert found.streams.keys() == {tasks}


def test_a_generation_pair_draws_all_from_nothing(folder):
    batch = data(folder, editing=0.5).batch(0)
    drawn = batch.mask.flatten(1).all(1)
    assert drawn.tolist() == [False, True, False, True] or drawn.tolist() == [True, False, True, False]
    assert not batch.source[drawn].any() and batch.source[~drawn].any()
    assert batch.reference.shape == (4, 3, 64, 64) and batch.target.amin() >= -1 and batch.target.amax() <= 1
    assert batch.reference_mask.unique().tolist() == [0, 1]


def test_processes_share_a_step_without_overlap(folder):
    one = data(folder, batch_size=8).batch(2).prompts
    two = data(folder)
    assert two.batch(2, 0, 2).prompts + data(folder).batch(2, 1, 2).prompts == one


def test_a_limit_uses_what_a_smaller_build_would_have_written(folder):
    found = data(folder, limit=9)
    assert {task: len(s.files) for task, s in found.streams.items()} == {"generation": 6, "editing": 4}
    assert set(numbers(found.streams["generation"], range(12))) == set(range(6))
    assert found.digest != data(folder).digest and len(data(folder, limit=10**9)) == 18


def test_drafts_read_editing_pairs_for_both_tasks(folder):
    found = data(folder, targets="drafts")
    assert {s.files.config for s in found.streams.values()} == {"editing"}


# --- what cannot be opened ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "says"), [
    ("nowhere/at/all", "neither a folder nor a dataset"), ("./nowhere", "neither a folder"),
    ("org/toffee-that-is-not", "cannot be opened as a dataset")])
def test_what_is_no_dataset_is_told(spec, says):
    with pytest.raises(InputError, match=says):
        open_pairs(spec, "editing", COLUMNS["editing"])


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be opened as a dataset"):
        open_pairs(str(tmp_path), "editing", COLUMNS["editing"])


def test_a_dataset_without_the_task_is_told(tmp_path):
    write_file(tmp_path / "generation" / "train-0.parquet", rows_of("generation", 3))
    write_card(tmp_path, "generation")
    with pytest.raises(InputError, match=r"no pairs for editing, it has generation; give --tasks"):
        data(tmp_path)


def test_other_columns_are_told(tmp_path):
    write_file(tmp_path / "generation" / "train-0.parquet", [{"prompt": "a mug", "image": picture(photo(0, 0))}])
    write_card(tmp_path, "generation")
    with pytest.raises(InputError, match=r"lacks the columns reference, .*; it has image, prompt"):
        data(tmp_path, tasks="generation")


def test_a_file_cut_short_is_told(tmp_path):
    write_dataset(tmp_path)
    path = tmp_path / "editing" / "train-1.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"train-1.parquet cannot be read as Parquet"):
        data(tmp_path)


def test_no_rows_are_told(tmp_path):
    write_file(tmp_path / "editing" / "train-0.parquet", rows_of("editing", 1))
    schema = pair_data.pq.read_schema(tmp_path / "editing" / "train-0.parquet")
    pair_data.pq.write_table(schema.empty_table(), tmp_path / "editing" / "train-0.parquet")
    write_card(tmp_path, "editing")
    with pytest.raises(InputError, match=r"has no rows in 'editing'"):
        data(tmp_path, tasks="editing")


def test_a_file_that_vanishes_ends_the_training_and_says_how_to_go_on(tmp_path):
    found = data(write_dataset(tmp_path), tasks="editing")
    for path in (tmp_path / "editing").iterdir():
        path.unlink()
    with pytest.raises(RunError, match=r"cannot be read .*the same command goes on"):
        found.batch(0)


def test_pictures_of_the_hub_are_read_by_the_same_way(folder, monkeypatch):
    """`load_dataset` gives hf:// addresses, which the Hub's file system opens."""
    class Hub:
        @staticmethod
        def open(address):
            return (folder / address.removeprefix("hf://datasets/org/name@0123/")).open("rb")

    monkeypatch.setattr(pair_files, "HfFileSystem", Hub)
    monkeypatch.setattr(pair_files, "_files", lambda spec, config: [
        f"hf://datasets/org/name@0123/{config}/train-{i}.parquet" for i in (0, 1)])
    assert sorted(numbers(stream("org/name"), range(11))) == list(range(11))
