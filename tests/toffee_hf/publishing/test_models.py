"""A model of a family or of a training is opened with its card; what a card cannot tell is told in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from toffee_hf.errors import InputError
from toffee_hf.publishing.model_card import editor_card, last_losses, licensed, with_loading
from toffee_hf.publishing.models import Opened, licence_text, open_model, prepare

WORDS = {"editor": {"prompt": "a mug", "edit": "a cup"}, "refiner": {"prompt": "a mug"},
         "view": {"prompt": "a mug", "turn": "0.6", "depth": "", "pictures": "", "about_depth": ""}}
SOURCE = {"repository": "org/base", "revision": "a" * 40, "licence": "openrail++"}
TOLD: dict[str, Any] = {
    "config": {"trainer": "editor", "batch_size": 8, "learning_rate": 5e-5, "size_px": 128, "lora_rank": 16,
               "precision": "no", "ema": 0.999, "drop_text": 0.1, "seed": 0, "tasks": "joint", "editing": 0.5,
               "reconstruction": 0.1, "drop_subject": 0.1, "told_depth": 0.4, "whole_reference": 0.1,
               "targets": "refined", "views": True,
               "base": {"name": "org/base", "prediction_type": "epsilon", "sources": {
                   "base": SOURCE, "encoder": {**SOURCE, "licence": "apache-2.0"},
                   "masks": {**SOURCE, "licence": "none"}}}},
    "data": {"dataset": "org/pairs", "rows": {"generation": 3000, "editing": 1000}, "skipped": {"small": 3}},
    "steps": 2000, "samples": 16000, "seconds": 360.0, "device": "cpu", "processes": 1,
    "final_losses": {"loss": 0.125}, "versions": {"torch": "2.13.0"}}
FIGURES = "| what | figure | n |\n| --- | --- | --- |\n| editor, photo prompts: PSNR in the mask | 17.0 ± 0.3 | 304 |\n"


def head_of(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_an_editors_card_tells_what_its_training_told():
    card = editor_card(TOLD, last_losses(TOLD), Path("training.json"))
    assert head_of(card) == {
        "license": "openrail++", "library_name": "diffusers", "pipeline_tag": "text-to-image",
        "tags": ["toffee", "subject-driven", "personalization", "diffusers", "image-to-image", "image-editing"],
        "base_model": "org/base", "base_model_relation": "finetune", "datasets": ["org/pairs"]}
    for fact in ("3,000 generation and 1,000 editing pairs of `org/pairs`", "3 `small`", "| steps | 2,000 |",
                 "16,000 training examples in 360 s (0.10 hours) of 1 x cpu", "| loss | 0.125 |", "torch 2.13.0"):
        assert fact in card
    assert "$" not in card


@pytest.mark.parametrize("field", ["config", "data", "steps", "samples", "seconds", "device", "versions"])
def test_what_a_training_did_not_tell_is_named(field):
    told = {key: value for key, value in TOLD.items() if key != field}
    with pytest.raises(InputError, match=f"training.json does not tell .*{field}"):
        editor_card(told, "results", Path("training.json"))


@pytest.mark.parametrize("model", WORDS)
def test_the_card_of_a_repository_loads_it_without_this_package(model):
    card = with_loading("---\na: b\n---\n# T\n\n## Load it\n\nfrom toffee_hf\n\n## Next\n", model, WORDS[model])
    assert "from toffee_hf" not in card and "## Next" in card and "$" not in card
    assert card.count("## Load it") == 1 and "trust_remote_code=True" in card and "snapshot_download" in card
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        compile(code, "card", "exec")


def test_a_licence_is_the_cards_own_or_given():
    card = "---\nlicense: other\nlicense_name: see\n---\ntext"
    assert licensed(card, "view", None)[1] == "other"
    found, name = licensed(card, "view", "mit")
    assert (head_of(found), name) == ({"license": "mit"}, "mit")
    assert licensed(card, "view", "Apache-2.0")[1] == "apache-2.0"
    for wrong in ("", "all mine"):
        with pytest.raises(InputError, match="--license must be"):
            licensed(card, "view", wrong)
    for unknown in ("---\nlicense: unknown\n---\n", "---\ntags: []\n---\n"):
        with pytest.raises(InputError, match="give --license"):
            licensed(unknown, "view", None)


def test_the_text_of_a_licence_is_ours_or_given(tmp_path):
    assert "Apache License" in licence_text("apache-2.0")
    with pytest.raises(InputError, match="give --license-file"):
        licence_text("openrail++")
    (tmp_path / "text").write_text("the text")
    assert licence_text("openrail++", tmp_path / "text") == "the text"
    with pytest.raises(InputError, match="cannot be read"):
        licence_text("openrail++", tmp_path / "none")


@pytest.mark.parametrize(("model", "source"), [("editor", "/nowhere"), ("refiner", "."), ("view", "")])
def test_what_holds_no_model_is_refused(model, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"holds no {model}"):
        open_model(model, source)


def test_a_family_without_an_editor_says_so(family):
    with pytest.raises(InputError, match="has no editor"):
        open_model("editor", str(family.folder))


def test_an_editor_of_a_family_is_opened(family, editor, tmp_path):
    folder = family.folder / "editor"
    editor.unet.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(TOLD))
    document = tmp_path / "method.md"
    try:
        for text, message in (("", "no figures of the editor"), ("| editor | 1 |\n", "give --figures FILE")):
            document.write_text(text)
            with pytest.raises(InputError, match=message):
                open_model("editor", str(family.folder), document)
        document.write_text(FIGURES)
        opened = open_model("editor", str(family.folder), document)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert "17.0 ± 0.3" in opened.card
    assert type(opened.pipeline).__name__ == "ToffeePipeline" and opened.pipeline.depth_estimator is not None


def test_what_a_training_left_is_opened(family, editor, tmp_path):
    told = json.loads(json.dumps(TOLD))
    told["config"]["base"]["name"] = str(family.folder)
    (tmp_path / "training.json").write_text(json.dumps(told))
    (tmp_path / "editor").mkdir()
    with pytest.raises(InputError, match="no editor that loads"):
        open_model("editor", str(tmp_path))
    editor.unet.save_pretrained(tmp_path / "editor")
    opened = open_model("editor", str(tmp_path))
    assert type(opened.pipeline).__name__ == "ToffeePipeline"
    assert str(family.folder) not in opened.card and "| loss | 0.125 |" in opened.card
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        open_model("editor", str(tmp_path))


def test_pictures_on_a_card_are_what_its_code_gives(family, editor, tmp_path, monkeypatch):
    """Every line of code on the cards, run from the repository's folder."""
    from toffee_hf.publishing.export import export_pipeline

    card = editor_card(TOLD, "results", Path("training.json"))
    ready = prepare("editor", Opened(editor, card), "apache-2.0")
    folder = tmp_path / "editor"
    export_pipeline(ready.pipeline, folder, ready.card, ready.licence, pictures=ready.pictures)
    monkeypatch.chdir(folder)
    for code in re.findall(r"```python\n(.*?)```", ready.card, re.DOTALL):
        exec(compile(code, "card", "exec"), {})
    for name in ("drawn", "edited"):
        assert Path(f"{name}.png").read_bytes() == Path(f"examples/{name}.png").read_bytes()
    assert Path("drawn_by_blocks.png").read_bytes() == Path("examples/drawn.png").read_bytes()


@pytest.mark.parametrize(("model", "depth"), [("refiner", True), ("view", True), ("view", False)])
def test_pictures_of_the_other_models_too(family, model, depth, tmp_path, monkeypatch):
    from toffee_hf.publishing.export import export_pipeline

    card = "---\nlicense: apache-2.0\n---\n# T\n\n## Load it\n\nold\n\n## Next\n"
    ready = prepare(model, Opened(getattr(family, f"{model}_pipeline"), card, depth))
    assert ("depth=" in ready.card) == ("examples/depth.png" in ready.pictures) == (model == "view" and depth)
    assert {f"({name})" for name in ready.pictures} == set(re.findall(r"\(examples/[^)]*\)", ready.card)) or (
        model == "refiner"), "every picture of a view is shown"
    folder = tmp_path / model
    export_pipeline(ready.pipeline, folder, ready.card, ready.licence, pictures=ready.pictures)
    monkeypatch.chdir(folder)
    for code in re.findall(r"```python\n(.*?)```", ready.card, re.DOTALL):
        exec(compile(code, "card", "exec"), {})
    name = {"refiner": "refined", "view": "view"}[model]
    assert Path(f"{name}.png").read_bytes() == Path(f"examples/{name}.png").read_bytes()


def test_the_settings_on_an_editors_card_are_those_of_its_training():
    from dataclasses import fields

    from toffee_hf.cards import SETTINGS
    from toffee_hf.publishing.model_card import SHARES
    from toffee_hf.training.editor_examples import EditorConfig

    assert {*SHARES, *SETTINGS} <= {field.name for field in fields(EditorConfig)}
