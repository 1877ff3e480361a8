"""The card of a folder whose build goes on or was cut short: its rows load, fresh ones every time."""

import pytest
from datasets import load_dataset

from builder.report import write_report
from builder.report.provisional import ProvisionalCard
from builder.sweep import sweep
from tests.builder.report.made_folder import make_folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "toffee"


def test_without_rows_it_does_not_load(place):
    place.mkdir()
    (place / "recipe.json").write_text("{}")
    ProvisionalCard(place).write()
    with pytest.raises(FileNotFoundError):
        load_dataset("toffee", split="train")


@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_there_loads_and_grows_and_ends_with_a_whole_card(place, streaming):
    def count(config):
        return sum(1 for _ in load_dataset("toffee", config, split="train", streaming=streaming))

    make_folder(place, {"rejected": 3}, shards=1)
    card = ProvisionalCard(place)
    card.write()
    assert count("rejected") == 3
    make_folder(place, {"editing": 2, "rejected": 4}, run8="1a1b2c3d", shards=2)
    card.follow()  # a config has its first rows
    assert (count("rejected"), count("editing"), count(None)) == (7, 2, 2)
    (place / "receipts" / "1a1b2c3d-00001.json").unlink()
    ProvisionalCard(place).write()
    sweep(place)
    write_report(place)
    assert count("rejected") + count("editing") < 9


def test_it_is_written_again_only_when_it_tells_something_new(place):
    make_folder(place, {"rejected": 3}, shards=1)
    card = ProvisionalCard(place)
    card.write()
    before = (place / "README.md").read_text()
    card.follow()
    assert (place / "README.md").read_text() == before
    make_folder(place, {"editing": 2}, run8="1a1b2c3d", shards=1)
    card.follow()
    assert (place / "README.md").read_text() != before
