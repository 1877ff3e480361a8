"""Ablations of the editor: every variant differs from the shipped one in one thing, and is trained once."""

from dataclasses import fields, replace

import pytest

from tests.toffee_hf.training.pair_data import write_dataset
from toffee_hf.errors import InputError
from toffee_hf.evaluation import editor_ablations
from toffee_hf.evaluation.editor_ablations import COLUMNS, REFERENCE, VARIANTS, Training, ablate_editor, train_variant
from toffee_hf.evaluation.figures import Figure
from toffee_hf.training.editor_examples import EditorConfig

CONFIG = EditorConfig(steps=1, batch_size=1, lora_rank=2, learning_rate=1e-3, every=10)


def test_every_variant_differs_in_one_thing():
    assert VARIANTS[0] is REFERENCE
    for variant in VARIANTS[1:]:
        changed = [f.name for f in fields(CONFIG)
                   if getattr(replace(CONFIG, **variant.settings), f.name) != getattr(CONFIG, f.name)]
        assert len(changed) + (variant.rows != 1) == 1, variant


def test_variants_are_trained_once_on_their_share_of_the_rows(family, tmp_path, monkeypatch):
    data, asked = str(write_dataset(tmp_path / "toffee")), []

    def measure(family, ways, count, workers, **more):
        asked.append((ways, count, more))
        return {way.name: dict.fromkeys(COLUMNS, Figure(float(way.name), 0.1, count)) for way in ways}

    monkeypatch.setattr(editor_ablations, "measure_editors", measure)
    monkeypatch.setattr(editor_ablations, "VARIANTS", (REFERENCE, VARIANTS[-1], VARIANTS[5]))
    text = ablate_editor(family, data, CONFIG, 8, 1, tmp_path / "runs")
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == ["| as shipped", "| rows", "| targets"]
    assert text.splitlines()[3].split(" | ")[2].startswith("1.000")
    parts = [tmp_path / "runs" / f"{i}" / "editor_lora.safetensors" for i in range(3)]
    times = [part.stat().st_mtime_ns for part in parts]
    limits = [(tmp_path / "runs" / f"{i}" / "config.json").read_text() for i in range(3)]
    assert '"limit": null' in limits[0] and '"limit": 4' in limits[1] and '"targets": "drafts"' in limits[2]
    ablate_editor(family, data, CONFIG, 8, 1, tmp_path / "runs")
    assert [part.stat().st_mtime_ns for part in parts] == times, "what is trained is not trained again"
    ways, count, more = asked[0]
    assert count == 8 and more["split"] == "train" and more["first"] >= 10_000, "settings are chosen on unseen subjects"
    assert all(way.folder == part.parent for way, part in zip(ways, parts, strict=True))


def test_a_missing_dataset_is_told(family, tmp_path):
    with pytest.raises(InputError):
        train_variant(family, Training(str(tmp_path / "absent"), CONFIG, tmp_path / "run"))
