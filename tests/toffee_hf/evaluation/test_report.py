"""Tables and sheets: put between markers of a document, and nowhere else."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from toffee_hf.errors import InputError
from toffee_hf.evaluation import report, ways
from toffee_hf.evaluation.figures import Figure
from toffee_hf.evaluation.report import (
    FIGURES,
    SHEETS,
    markdown_rows,
    rewrite,
    save,
    table,
    write_figures,
    write_sheets,
)

DOCUMENT = "# Title\n\nbefore\n<!-- here: begin -->\nold\n\nrows\n<!-- here: end -->\nafter\n<!-- there: begin -->\n"
FOUND = {"text to mask: IoU": Figure(0.912, 0.01, 304), "autoencoder": Figure(30.52, 0.44, 300)}


def test_a_table_in_the_order_of_its_figures():
    assert table(FOUND) == ("| what | figure | n |\n| --- | --- | --- |\n"
                            "| text to mask: IoU | 0.912 ± 0.010 | 304 |\n| autoencoder | 30.5 ± 0.4 | 300 |")
    assert table({}, ("score", "area")) == "| score | area | n |\n| --- | --- | --- |"


def test_a_table_of_anything():
    assert markdown_rows(("a", "b"), [(1, "x"), (None, 2.5)]) == "| a | b |\n| --- | --- |\n| 1 | x |\n| None | 2.5 |"


def test_only_what_is_between_the_markers_is_replaced(tmp_path):
    path = tmp_path / "method.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    rewrite(path, "here", "| new ± 1 |")
    wanted = DOCUMENT.replace("old\n\nrows", "| new ± 1 |")
    assert path.read_text(encoding="utf-8") == wanted
    rewrite(path, "here", "| new ± 1 |")
    assert path.read_text(encoding="utf-8") == wanted, "again is the same"


@pytest.mark.parametrize("text", [
    None, "", "# Title\n", "<!-- here: begin -->\n", "<!-- here: end -->\n", DOCUMENT.replace("here", "elsewhere"),
    "<!-- here: end -->\n<!-- here: begin -->\nthe rest",
])  # fmt: skip
def test_a_document_without_markers_is_left_as_it_is(tmp_path, text):
    path = tmp_path / "method.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"method.md has no lines <!-- here: begin --> and <!-- here: end -->; add"):
        rewrite(path, "here", "new")
    assert (path.read_text() if path.exists() else None) == text


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A family that is not there, with figures and costs; sheets are not drawn."""
    calls = []
    family = SimpleNamespace(folder=tmp_path / "family")
    (family.folder / "classifier").mkdir(parents=True)
    monkeypatch.setattr(report, "open_family", lambda name, device=None: family)
    monkeypatch.setattr(report, "measure", lambda opened, count, only: calls.append((count, only)) or FOUND)
    monkeypatch.setattr(report, "write_sheets", lambda opened, folder: calls.append(folder))
    return family.folder, calls


def document(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "method.md").write_text(f"top\n<!-- {FIGURES}: begin -->\n<!-- {FIGURES}: end -->\nbottom\n")
    return docs


def test_figures_and_costs_go_into_the_method(tmp_path, measured):
    folder, calls = measured
    (folder / "training.json").write_text(json.dumps({"clip": {"samples": 30720, "minutes": 12.6},
                                                      "view": {"samples": 9, "minutes": 1, "gpu_minutes": 4.94}}))
    docs = document(tmp_path)
    text = write_figures(folder, docs, 40, ("perception",))
    assert text == table(FOUND) + ("\n\n| model | training pictures | minutes of one CPU core | minutes of a GPU |\n"
                                   "| --- | --- | --- | --- |\n| clip | 30,720 | 13 | 0.0 |\n| view | 9 | 1 | 4.9 |")
    assert (docs / "method.md").read_text() == (
        f"top\n<!-- {FIGURES}: begin -->\n{text}\n<!-- {FIGURES}: end -->\nbottom\n")
    assert calls == [(40, ("perception",)), docs / "tiny"]


def test_what_was_not_measured_again_stays(tmp_path, measured, monkeypatch):
    docs = document(tmp_path)
    write_figures(measured[0], docs)
    again = {"depth": Figure(0.9, 0.1, 8), "text to mask: IoU": Figure(0.95, 0.02, 8)}
    monkeypatch.setattr(report, "measure", lambda *_: again)
    text = write_figures(measured[0], docs, 8, ("perception",))
    assert text == table({"text to mask: IoU": again["text to mask: IoU"], "autoencoder": FOUND["autoencoder"],
                          "depth": again["depth"]})
    assert write_figures(measured[0], docs) == table(again), "all are measured, so no other stays"


def test_a_family_of_unknown_cost_has_figures_alone(tmp_path, measured):
    assert write_figures(measured[0], document(tmp_path)) == table(FOUND)
    assert measured[1][0] == (304, ())


@pytest.mark.parametrize(("only", "needed"), [((), True), (("views", "targets"), True), (("text_to_image",), True),
                                              (("autoencoder", "views"), False)])  # fmt: skip
def test_a_family_without_a_classifier_is_told_unless_no_figure_asks_it(tmp_path, measured, only, needed):
    (measured[0] / "classifier").rmdir()
    if needed:
        with pytest.raises(InputError, match="has no classifier.*--only autoencoder,perception,matching,views"):
            report.open_measured("mine", only)
    else:
        assert report.open_measured("mine", only).folder == measured[0]


def test_a_document_without_markers_is_told_before_anything_is_measured(tmp_path, measured):
    with pytest.raises(InputError, match="has no lines"):
        write_figures(measured[0], tmp_path)
    assert measured[1] == []


def test_every_model_has_a_sheet_of_the_same_subjects(tmp_path, family, small_toys, monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 1)
    monkeypatch.setattr(report, "SHOWN", range(8, 10))
    written = write_sheets(family, tmp_path / "new" / "tiny")
    assert [path.name for path in written] == [f"{name}.png" for name in SHEETS]
    rows = {"autoencoder": 2, "perception": 5, "text_to_image": 2, "photo_prompts": 6, "style_prompts": 6, "views": 5}
    sheets = {path.stem: pixels(path) for path in written}
    assert {name: sheet.shape for name, sheet in sheets.items()} == {k: (n * 64, 2 * 64, 3) for k, n in rows.items()}
    tops = [sheets[name][:64].astype(int) for name in ("photo_prompts", "style_prompts", "views")]
    same = max(abs(top - tops[0]).mean() for top in tops)
    assert same < 0.3 * abs(sheets["photo_prompts"][64:128].astype(int) - tops[0]).mean(), "one reference on all sheets"


def pixels(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))


def test_a_sheet_is_a_png_of_256_colours(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    save(Image.fromarray(noise), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (sheet.format, sheet.mode, sheet.size) == ("PNG", "P", (64, 64))
    assert 64 < len(np.unique(pixels(tmp_path / "sheet.png").reshape(-1, 3), axis=0)) <= 256
