"""The dataset tab's rows: read once, without pictures, filtered without reading again; cards that escape."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from builder.columns import SCORES
from builder.reasons import KEPT, REASONS
from tests.spaces.conftest import COUNTS

pairs = pytest.importorskip("pairs")
cards = pytest.importorskip("cards")
browsing = pytest.importorskip("browsing")


@pytest.fixture(scope="module")
def source(dataset):
    return pairs.Pairs(str(dataset))


@pytest.fixture(scope="module")
def index(source):
    return source.index()


def test_all_configs_are_read_once_and_without_pictures(source, index):
    assert source.index() is index and not index.cut
    configs = [row.where[0] for row in index.rows]
    assert {config: configs.count(config) for config in pairs.CONFIGS} == COUNTS
    assert len({row.words["id"] for row in index.rows}) == len(configs)
    assert not set(index.rows[0].words) & set(pairs.PICTURES) and set(index.scores) == set(SCORES)


def test_pictures_are_those_of_their_rows(source, index):
    from datasets import load_dataset

    chosen = [index.rows[i] for i in (1, 22, 10, 9, 16)]
    found = source.pictures(index, chosen)
    for row, pictures in zip(chosen, found, strict=True):
        rows = {cells["id"]: cells for cells in load_dataset(source.name, row.where[0], split="train", streaming=True)}
        truth = rows[row.words["id"]]
        for name in pairs.PICTURES:
            assert (pictures[name] is None) == (truth.get(name) is None)
            if pictures[name] is not None:
                assert pictures[name].tobytes() == truth[name].convert("RGB").tobytes()


def test_a_file_that_has_gone_since_is_a_sentence(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "rows")
    gone = pairs.Pairs(str(tmp_path / "rows"))
    assert view(gone)["cards"] == browsing.PAGE
    for path in (tmp_path / "rows").glob("rejected/*.parquet"):
        path.unlink()
    shown = browsing.view(gone, 0, ["rejected"], sorted({row.words["category"] for row in gone.index().rows}),
                          browsing.ALL, *[1.0 if name in browsing.AT_MOST else -1.0 for name in cards.SCORES])
    assert "No dataset could be read from “rows”" in shown[0].value


def test_a_row_shows_no_file_of_the_machine(dataset, tmp_path):
    rows, secret = shutil.copytree(dataset, tmp_path / "rows"), tmp_path / "private.png"
    Image.new("RGB", (32, 32), (200, 10, 10)).save(secret)
    (path, *_), huge = rows.glob("generation/*.parquet"), io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    table = pq.read_table(path)
    cells = table.to_pylist()
    cells[0] |= {"reference": {"bytes": None, "path": str(secret)}, "target": {"bytes": huge.getvalue(), "path": None},
                 "reference_mask": {"bytes": b"no picture", "path": str(secret)}}
    pq.write_table(pa.Table.from_pylist(cells, schema=table.schema), path)
    hostile = pairs.Pairs(str(rows))
    index = hostile.index()
    (row,) = [row for row in index.rows if row.words["id"] == cells[0]["id"]]
    (found,) = hostile.pictures(index, [row])
    assert found["reference"] is found["target"] is found["reference_mask"] is None and found["target_mask"] is not None
    assert "<img" not in cards.card(row, {"reference": found["reference"]})


def test_what_has_changed_is_read_again(dataset, tmp_path, monkeypatch):
    now, grown = [0.0], pairs.Pairs(str(shutil.copytree(dataset, tmp_path / "rows")))
    monkeypatch.setattr(pairs.time, "monotonic", lambda: now[0])
    first = grown.index()
    (path, *_) = (tmp_path / "rows").glob("generation/*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)             # other rows in their places
    with pytest.raises(pairs.NoDataset):
        grown.pictures(first, first.rows[:1])
    assert grown.index() is first, "not for every visitor who comes upon it"
    now[0] = 31.0
    with pytest.raises(pairs.NoDataset):
        grown.pictures(first, first.rows[:1])
    second = grown.index()
    assert second is not first and grown.pictures(second, second.rows[:1])
    shutil.copy(path, path.with_name("train-zzz.parquet"))
    browsing.choices(grown, [], browsing.ALL)
    assert grown.index() is second
    now[0] = 400.0
    browsing.choices(grown, [], browsing.ALL)
    assert len(grown.index().rows) == len(second.rows) + len(table)


def test_cards_of_a_page_stay_while_others_look_at_more(source, monkeypatch):
    assert view(source)["cards"] == browsing.PAGE
    recent, pictures = browsing._recent(source.index()), source.pictures
    recent.popitem()
    monkeypatch.setattr(source, "pictures", lambda *asked: recent.clear() or pictures(*asked))
    assert view(source)["cards"] == browsing.PAGE


def test_an_index_has_an_end(dataset, monkeypatch):
    monkeypatch.setattr(pairs, "MOST_ROWS", 5)
    index = pairs.Pairs(str(dataset)).index()
    assert len(index.rows) == 5 and index.cut


@pytest.mark.parametrize("name", ["nowhere", "/", "no-such/dataset"])
def test_no_dataset_is_a_sentence(name, tmp_path):
    with pytest.raises(pairs.NoDataset, match="No dataset could be read"):
        pairs.Pairs(str(tmp_path / name) if name == "nowhere" else name).index()
    shown = browsing.view(pairs.Pairs(str(tmp_path)), 0, [], [], browsing.ALL, *[0.0] * len(cards.SCORES))
    assert "TOFFEE_DATASET" in shown[0].value


def test_what_cannot_be_read_is_tried_again_after_a_while_only(dataset, monkeypatch):
    source, tries, now = pairs.Pairs("no-such/dataset"), [], [0.0]
    monkeypatch.setattr(pairs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(source, "_rows", lambda streams: tries.append(now[0]) or iter([1 / 0]))
    for now[0] in (0.0, 1.0, 29.0, 31.0):
        with pytest.raises(pairs.NoDataset, match="No dataset could be read"):
            source.index()
    assert tries == [0.0, 31.0]
    monkeypatch.setattr(source, "_rows", pairs.Pairs(str(dataset))._rows)
    now[0] = 70.0
    assert len(source.index().rows) == sum(COUNTS.values())


def test_a_number_box_left_empty_bounds_nothing(source):
    assert view(source, seg_dino=None)["cards"] == view(source)["cards"] > 0
    assert view(source, copy=None)["summary"] == view(source)["summary"]


def test_a_threshold_keeps_what_the_rule_of_the_judge_keeps(index):
    for name in SCORES:
        bound = 0.7
        within = pairs.passing(index, {name: (bound, np.inf)})[name]
        values = [(row.words["scores"] or {}).get(name) for row in index.rows]
        assert within.tolist() == [value is None or value >= np.float32(bound) for value in values]


def test_verdict_category_and_reason_choose_rows(index):
    categories = sorted({row.words["category"] for row in index.rows})
    assert pairs.chosen(index, ["kept"], categories).sum() == COUNTS["generation"] + COUNTS["editing"]
    assert pairs.chosen(index, ["rejected"], categories).sum() == COUNTS["rejected"]
    assert pairs.chosen(index, [], categories).sum() == 0 == pairs.chosen(index, ["kept"], []).sum()
    reason = next(row.reason for row in index.rows if row.reason)
    alone = pairs.chosen(index, ["kept", "rejected"], categories, reason)
    assert {row.reason for row, there in zip(index.rows, alone, strict=True) if there} == {reason}


@pytest.mark.parametrize("sent", [None, "kept", 5, {"kept": 1}, [["kept"], None], ["no such"] * 200 + ["kept"]],
                         ids=lambda sent: repr(sent)[:20])
def test_boxes_that_no_page_has_choose_nothing(index, source, sent):
    categories = sorted({row.words["category"] for row in index.rows})
    assert not pairs.chosen(index, sent, categories).any() and not pairs.chosen(index, ["kept"], sent).any()
    assert browsing.choices(source, sent, browsing.ALL)[0].value == categories


def test_what_was_asked_for_stays_when_the_tab_is_opened_again(source, index):
    every = sorted({row.words["category"] for row in index.rows})
    reason = next(row.reason for row in index.rows if row.reason)
    first = browsing.choices(source, [], browsing.ALL)
    assert [part.value for part in first] == [every, browsing.ALL]
    assert [part.value for part in browsing.choices(source, every[:1], reason)] == [every[:1], reason]
    assert [part.value for part in browsing.choices(source, ["gone"], "gone")] == [every, browsing.ALL]


def view(source, page=0, verdicts=("kept", "rejected"), reason=browsing.ALL, **bounds):
    names = [*cards.SHOWN, *(name for name in cards.SCORES if name not in cards.SHOWN)]
    values = [bounds.get(name, 1.0 if name in browsing.AT_MOST else -1.0) for name in names]
    categories = sorted({row.words["category"] for row in source.index().rows})
    gallery, summary, where, back, on, page, *notes = browsing.view(source, page, list(verdicts), categories, reason,
                                                                    *values)
    return {"cards": gallery.count("<li"), "gallery": gallery, "summary": summary, "where": where, "page": page,
            "notes": dict(zip(names, notes, strict=True)), "on": on.interactive, "back": back.interactive}


def test_the_tab_shows_pages_and_live_counts(source):
    total = sum(COUNTS.values())
    first, last = view(source), view(source, page=1)
    assert (first["cards"], last["cards"]) == (browsing.PAGE, total - browsing.PAGE)
    assert f"<strong>{total}</strong> of {total} rows" in first["summary"]
    assert first["where"] == "Page 1 of 2" and (first["on"], first["back"]) == (True, False)
    assert view(source, page=99)["page"] == 1 and view(source, page=-3)["page"] == 0
    strict = view(source, clip_t=0.6)
    kept = int(pairs.passing(source.index(), {"clip_t": (0.6, np.inf)})["clip_t"].sum())
    assert 0 < kept < total and f"keeps <b>{kept}</b> of {total} rows" in strict["notes"]["clip_t"]
    assert f"keeps <b>{total}</b> of {total} rows" in strict["notes"]["seg_dino"]
    assert f"<strong>{kept}</strong>" in strict["summary"]
    assert "No row passes" in view(source, clip_t=1.0, verdicts=["kept"])["gallery"]


def test_rejected_rows_say_why(source):
    shown = view(source, verdicts=["rejected"])["gallery"]
    reasons = {row.reason for row in source.index().rows if row.reason}
    assert shown.count("✗ rejected") == COUNTS["rejected"] and "✓ kept" not in shown
    assert all(cards.REASONS[reason] in shown.replace("&#x27;", "'") for reason in reasons)


def test_words_cover_what_a_build_writes():
    assert set(cards.REASONS) == set(REASONS) - {KEPT} and set(cards.SCORES) == set(SCORES)


def test_words_of_a_row_cannot_become_markup():
    evil = "<img src=x onerror=alert(1)>"
    row = pairs.Row(("generation", 0, 0), {"prompt": evil, "category": evil, "class_name": evil + '"', "reason": evil,
                                           "scores": None})
    made = cards.card(row, {"target": Image.new("RGB", (8, 8))})
    assert "<img src=x" not in made and 'class="verdict rejected"' in made and '"" ' not in made


def test_an_outline_lies_outside_its_mask_and_one_of_them_is_dashed():
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    grey = Image.new("RGB", (64, 64), (90, 90, 90))
    drawn = {dashed: np.array(cards.outline(grey, mask, cards.EDIT, dashed)) for dashed in (True, False)}
    inked = {dashed: (np.abs(picture.astype(int) - cards.EDIT).max(-1) < 40).sum() for dashed, picture in drawn.items()}
    assert 0 < inked[True] < 0.75 * inked[False]
    assert (drawn[True][20:44, 20:44] == 90).all() and (drawn[True][4, 4] == 90).all()
