"""The report of a folder: a card that is a function of receipts, pictures that can be drawn from any folder."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageDraw

from builder.columns import COLUMNS, SCORES, column_names, features
from builder.reasons import REASONS
from builder.receipts import read_receipts, write_receipt
from builder.report import write_report
from builder.report.card import dataset_card
from builder.report.contact_sheet import WIDTH_PX, _draw_shares, contact_sheet
from builder.report.markdown import literal
from builder.report.samples import drawn_rows
from builder.report.statistics import read_statistics
from builder.subjects import SKIP_REASONS
from tests.builder.report.made_folder import make_folder
from toffee_hf.errors import InputError
from toffee_hf.publishing.card_check import check_card

MIXED = {"generation": 9, "editing": 5, "rejected": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = make_folder(tmp_path_factory.mktemp("report") / "toffee", MIXED)
    write_report(output)
    return output


def head(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_the_head_tells_true_counts_and_types(folder: Path) -> None:
    data = head((folder / "README.md").read_text())
    assert [config["config_name"] for config in data["configs"]] == ["generation", "editing", "rejected"]
    assert [config.get("default", False) for config in data["configs"]] == [True, False, False]
    for info in data["dataset_info"]:
        (split,) = info["splits"]
        files = sorted((folder / info["config_name"]).glob("*.parquet"))
        assert split["num_examples"] == MIXED[info["config_name"]]
        assert info["download_size"] == sum(path.stat().st_size for path in files)
        assert info["features"] == features(info["config_name"])._to_yaml_list()
    assert data["license"] == "apache-2.0" and data["size_categories"] == ["n<1K"]


def test_every_column_score_and_reason_is_described(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for config in MIXED:
        for column in column_names(config):
            assert f"| `{column}` | " in card and COLUMNS[column] in card
    for score, meaning in SCORES.items():
        assert f"| `{score}` | {meaning} |" in card
    for reason in read_statistics(folder).reasons:
        assert f"| `{reason}` | {REASONS[reason]} |" in card


def test_figures_follow_the_receipts(folder: Path) -> None:
    statistics = read_statistics(folder)
    assert (statistics.tried, statistics.kept) == (21, 14)
    assert sum(statistics.reasons.values()) == 7
    assert statistics.seconds_total == 42.0 and statistics.seconds_per_kept == 3.0
    card = dataset_card(statistics, "toffee")
    assert "14 of 21 pairs tried were kept (66.7%)" in card and "3.00 s per kept pair" in card
    slower = [dataclasses.replace(it, seconds_total=777.0, seconds={"draft": 700.0}) for it in statistics.receipts]
    card = dataset_card(dataclasses.replace(statistics, receipts=tuple(slower)), "toffee")
    assert "111.00 s per kept pair" in card and "| `draft` | 23.3 min | 90% |" in card


def test_the_body_has_no_figure_of_its_own(folder: Path) -> None:
    """With receipts of nothing, no number but 0 is left outside code, links and the sentences of fixed lists."""
    empty = dataclasses.replace(read_statistics(folder), receipts=(), recipe={})
    body = dataset_card(empty, "toffee").split("---\n")[2]
    body = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|arXiv [\d.]+", "", body, flags=re.S)
    for sentence in SCORES.values():
        body = body.replace(sentence, "")
    assert set(re.findall(r"\d+(?:\.\d+)?", body)) <= {"0", "0.0", "0.000"}


def test_versions_follow_the_files(folder: Path) -> None:
    statistics = read_statistics(folder)
    (first, *others) = statistics.receipts
    changed = [dataclasses.replace(f, sha256="0" * 64) if f.config == "editing" else f for f in first.files]
    after = dataclasses.replace(statistics, receipts=(dataclasses.replace(first, files=changed), *others))
    assert after.version("editing") != statistics.version("editing")
    assert after.version("generation") == statistics.version("generation")
    assert re.fullmatch(r"1\.\d+\.\d+", statistics.version("editing"))


def test_the_report_is_deterministic_and_leaves_nothing_else(folder: Path, tmp_path: Path) -> None:
    again = make_folder(tmp_path / "toffee", MIXED)
    write_report(again)
    for name in ("README.md", "contact_sheet.png", "score_histograms.png"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert {path.name for path in again.iterdir()} == {
        "README.md", "contact_sheet.png", "score_histograms.png", "recipe.json", "receipts",
        "generation", "editing", "rejected",
    }  # fmt: skip


def test_pictures_are_there_and_not_blank(folder: Path) -> None:
    sheet = Image.open(folder / "contact_sheet.png")
    assert sheet.width == WIDTH_PX and sheet.height > 1000
    assert len(Image.open(folder / "score_histograms.png").getcolors(100_000) or ()) > 3


def test_rows_are_drawn_by_version_not_picked(folder: Path) -> None:
    statistics = read_statistics(folder)
    ids = [row.cells["id"] for row in drawn_rows(folder, statistics, "generation", 4)]
    assert ids == [row.cells["id"] for row in drawn_rows(folder, statistics, "generation", 4)]
    assert len(set(ids)) == 4
    assert len(drawn_rows(folder, statistics, "generation", 100)) == 9


@pytest.mark.parametrize("counts", [{"rejected": 5}, {"editing": 1}, {"generation": 40, "rejected": 1}])
def test_folders_of_every_mix(tmp_path: Path, counts: dict[str, int]) -> None:
    output = make_folder(tmp_path / "toffee", counts, shards=1)
    write_report(output)
    card = (output / "README.md").read_text()
    assert [config["config_name"] for config in head(card)["configs"]] == list(counts)
    assert ("Nothing was kept" in card) == (list(counts) == ["rejected"])


def test_a_folder_before_its_first_shard(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": "drawn", "runs": []}))
    write_report(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "No pair has been tried yet" in card and "configs" not in head(card)


def test_strange_names_and_private_paths_stay_inside_their_cells(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 1}, shards=1)
    record = json.loads((output / "recipe.json").read_text())
    odd = {"file": "a|b\n<i>\udce9.jpg", "reason": "duplicate of `x`"}
    record["skipped"] = [{"file": "empty.jpg", "reason": "empty"}, *[odd] * 299]
    record["runs"][0]["subjects"] = "/home/someone/photos of mugs"
    (output / "recipe.json").write_text(json.dumps(record))
    write_report(output)
    card = (output / "README.md").read_text(encoding="utf-8")
    assert r"| a\|b\\n&lt;i&gt;\\udce9.jpg | duplicate of \`x\` |" in card
    assert "| empty.jpg | `empty`: the file has no bytes |" in card
    assert "And 100 more" in card
    assert "/home/someone" not in card and "photos of mugs" in card


def test_dollars_in_foreign_words_are_no_placeholders(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "out", MIXED)
    record = json.loads((output / "recipe.json").read_text())
    record["skipped"], record["runs"][0]["subjects"] = [{"file": "cats/$price.jpg", "reason": "empty"}], "./my$pics"
    (output / "recipe.json").write_text(json.dumps(record))
    for receipt in read_receipts(output):
        write_receipt(output, dataclasses.replace(receipt, messages=["no ${room} left"]))
    card = dataset_card(read_statistics(output), "org/toffee")
    check_card(card, "dataset")
    assert all(word in card for word in ("cats/$price.jpg", "my$pics", "no ${room} left"))


@pytest.mark.parametrize(
    ("subjects", "weights", "expected"),
    [("apache-2.0", "apache-2.0", "apache-2.0"), ("cc-by-4.0", "openrail++", "other"), (None, "apache-2.0", "unknown")],
)
def test_the_licence_is_that_of_all_ingredients(
    tmp_path: Path, subjects: str | None, weights: str, expected: str
) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 1}, shards=1)
    record = json.loads((output / "recipe.json").read_text())
    licences = {"subjects": subjects, "weights": [{"name": "w", "licence": weights, "source": "here"}]}
    record["runs"][0]["licences"] = licences
    (output / "recipe.json").write_text(json.dumps(record))
    card = dataset_card(read_statistics(output), "toffee")
    assert head(card)["license"] == expected
    assert ("Nobody has said" in card) == (subjects is None)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no receipts"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lost_file_is_named_and_the_card_tells_of_the_rest(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 2, "rejected": 1}, shards=1)
    lost = next((output / "generation").iterdir())
    lost.unlink()
    assert write_report(output) == (f"generation/{lost.name}",)
    assert [config["config_name"] for config in head((output / "README.md").read_text())["configs"]] == ["rejected"]


def test_reduced_batches_and_messages_are_told(folder: Path, tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 2}, shards=1)
    receipt = next(read_receipts(output))
    write_receipt(output, dataclasses.replace(receipt, reduced_batch=True, messages=["draft: pair 1: it broke"]))
    card = dataset_card(read_statistics(output), "toffee")
    assert "reduced batch" in card and "draft: pair 1: it broke" in card


def test_long_words_stay_inside_the_sheet(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"rejected": 6}, shards=1)
    sheet = contact_sheet(output, read_statistics(output))
    margin = sheet.crop((WIDTH_PX - 20, 0, WIDTH_PX, sheet.height))
    buffer = io.BytesIO()
    margin.save(buffer, "PNG")
    assert margin.getcolors() == [(20 * sheet.height, (255, 255, 255))]


def test_a_reason_that_one_pair_of_thousands_has_is_drawn(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 2, "rejected": 2}, shards=1)
    receipt = next(read_receipts(output))
    many = dataclasses.replace(receipt, rows={"generation": 5000, "rejected": 4001},
                               reasons={"kept": 5000, "identity_lost": 4000, "copy_paste": 1})  # fmt: skip
    sheet = Image.new("RGB", (WIDTH_PX, 200), "white")
    assert _draw_shares(ImageDraw.Draw(sheet), 20, dataclasses.replace(read_statistics(output), receipts=(many,))) > 20


def test_pictures_left_out_later_are_listed_and_every_code_is_explained(folder: Path, tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"rejected": 2}, shards=1)
    record = json.loads((output / "recipe.json").read_text())
    record["skipped"] = [{"file": f"{code}.png", "reason": f"{code}: this"} for code in SKIP_REASONS]
    (output / "recipe.json").write_text(json.dumps(record))
    write_receipt(output, dataclasses.replace(next(read_receipts(output)), left_out={"mug/half.jpg": "truncated"}))
    card = dataset_card(read_statistics(output), "toffee")
    assert "| mug/half.jpg | `truncated`: the header is fine" in card
    for code, sentence in SKIP_REASONS.items():
        assert f"`{code}`: {literal(sentence)} (this) |" in card


def test_any_name_loads(folder: Path) -> None:
    assert 'load_dataset("a \\"b\\" \'c\'", ' in dataset_card(read_statistics(folder), "a \"b\" 'c'")


def test_a_card_on_another_branch_names_it(folder: Path) -> None:
    statistics = read_statistics(folder)
    assert 'split="train", revision="next")' in dataset_card(statistics, "org/rows", "next")
    assert "revision=" not in dataset_card(statistics, "org/rows", "main")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    output = make_folder(tmp_path / "toffee", {"generation": 2}, shards=1)
    damaged = next((output / "generation").iterdir())
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(InputError, match=f"{damaged.name} is damaged; remove it"):
        write_report(output)
