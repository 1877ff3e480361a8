"""`toffee evaluate editor` and `editor-ablations`: what is handed on, printed and written; bad arguments."""

import pytest

from tests.builder.cli.test_evaluate import status
from toffee_hf.evaluation.editing import NEW, SCALES, Way
from toffee_hf.evaluation.editor_ablations import ABLATIONS
from toffee_hf.evaluation.figures import Figure

ABLATE = ["editor-ablations", "--data", "toffee", "--output", "runs"]
BAD = {
    "count": (["editor", "--count", "1"], "--count and --sweep of at least 2, got 1, 96"),
    "sweep": (["editor", "--sweep", "0"], "--count and --sweep of at least 2, got 304, 0"),
    "family": (["editor", "--family", "absent"], "absent lacks vae"),
    "markers": (["editor", "--docs", "."], "method.md has no lines <!-- figures of the editor: begin -->"),
    "no data": (["editor-ablations", "--output", "runs"], "required: --data"),
    "no output": (["editor-ablations", "--data", "toffee"], "required: --output"),
    "ablations count": ([*ABLATE, "--count", "1"], "--count of at least 2, got 1"),
    "ablations steps": ([*ABLATE, "--train-steps", "0"], "must be at least 1, got 0"),
    "ablations rate": ([*ABLATE, "--learning-rate", "2"], "learning_rate in (0, 1)"),
    "ablations markers": ([*ABLATE, "--docs", "."], f"method.md has no lines <!-- {ABLATIONS}: begin -->"),
}
FIGURES = {f"{NEW}: Seg-DINO": Figure(0.5, 0.1, 4)}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_sentence_and_nothing_is_written(place, capsys, name):
    given, says = BAD[name]
    assert status(*given) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.strip().splitlines()) == 1 and said.out == ""
    assert list(place.iterdir()) == []


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setattr("toffee_hf.evaluation.report.open_measured", lambda name: name)


def test_figures_and_the_sweep_are_printed_and_written(place, opened, monkeypatch, capsys):
    asked, drawn = [], []

    def measure(family, ways, count, workers, **more):
        asked.append((family, ways, count, workers, more))
        return {way.name: FIGURES for way in ways}

    monkeypatch.setattr("toffee_hf.evaluation.editing.measure_editors", measure)
    monkeypatch.setattr("builder.cli.evaluate_editor._write_sheet", lambda *given: drawn.append(given))
    names = ("figures of the editor", "subject_scale")
    (place / "method.md").write_text("".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in names))
    assert status("editor", "--model", "run", "--count", "8", "--sweep", "4", "--workers", "1", "--docs", ".") == 0
    (family, ways, *rest), (_, sweep, *others) = asked
    assert family == "tiny" and [(way.scale, way.surface) for way in ways] == [(1, 0.5), (1, 0)]
    assert rest == [8, 1, {}]
    assert [way.scale for way in sweep] == list(SCALES) and others == [4, 1, {"rivals": False}]
    assert {str(way.folder) for way in (*ways, *sweep)} == {"run"}
    written = (place / "method.md").read_text()
    assert "| editor, λ = 1, new picture: Seg-DINO | 0.500 ± 0.100 | 4 |" in written
    assert "| 0.75 | 0.500 ± 0.100 |" in written and "0.75 | 0.500" in capsys.readouterr().out
    ((_, way, path),) = drawn
    assert isinstance(way, Way) and path.name == "editor.png"


def test_ablations_are_trained_alike_and_written(place, opened, monkeypatch):
    asked = []
    monkeypatch.setattr("toffee_hf.evaluation.editor_ablations.ablate_editor",
                        lambda *given: asked.append(given) or "| table |")
    (place / "method.md").write_text(f"<!-- {ABLATIONS}: begin -->\n<!-- {ABLATIONS}: end -->\n")
    assert status(*ABLATE, "--train-steps", "7", "--workers", "1", "--docs", ".") == 0
    ((family, data, config, count, workers, folder),) = asked
    assert (family, data, count, workers, folder.name) == ("tiny", "toffee", 64, 1, "runs")
    assert (config.steps, config.batch_size, config.noisings, config.lora_rank) == (7, 4, 4, 32)
    assert "| table |" in (place / "method.md").read_text()
