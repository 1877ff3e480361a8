"""A card that does not say everything fails; a model's figures are in its metadata too."""

from __future__ import annotations

import pytest

from tests.toffee_hf.publishing.test_models import TOLD, WORDS
from toffee_hf.errors import InputError
from toffee_hf.publishing.card_check import FIELDS, SECTIONS, check_card, metadata_of, with_metadata
from toffee_hf.publishing.model_card import editor_card, last_losses, with_dataset, with_loading, with_results
from toffee_hf.publishing.results import model_index

TABLE = "## What it reaches\n\n| what | figure | n |\n| --- | --- | --- |\n{}\n\n## Limits\n"


@pytest.fixture
def card(tmp_path):
    bare = editor_card(TOLD, last_losses(TOLD), tmp_path)
    whole = with_loading(bare, "editor", WORDS["editor"], "org/toffee-editor")
    return with_results(whole, "editor", ("pairs", "org/pairs"))


def test_a_whole_card_passes(card):
    head = check_card(card, "model")
    assert head["datasets"] == ["org/pairs"] and head["pipeline_tag"] == "text-to-image"
    (entry,) = head["model-index"]
    assert entry["name"] == "Toffee Editor (base)"
    assert entry["results"] == [{"task": {"type": "text-to-image"}, "dataset": {"name": "pairs", "type": "org/pairs"},
                                 "metrics": [{"type": "loss", "name": "loss", "value": 0.125}]}]
    assert 'from_pretrained("org/toffee-editor", revision=' in card


@pytest.mark.parametrize("field", FIELDS["model"])
def test_a_field_that_is_not_filled_fails(card, field):
    with pytest.raises(InputError, match=f"field '{field}' cannot be filled"):
        check_card(with_metadata(card, **{field: None}), "model")


@pytest.mark.parametrize("section", SECTIONS["model"])
def test_a_section_that_is_not_there_fails(card, section):
    with pytest.raises(InputError, match=f"no section '{section}'"):
        check_card(card.replace(f"## {section}\n", ""), "model")


def test_placeholders_and_missing_pictures_fail(card):
    with pytest.raises(InputError, match="it holds '.More Information Needed.'"):
        check_card(card.replace("## Limits", "[More Information Needed]\n\n## Limits"), "model")
    with pytest.raises(InputError, match="shows no picture"):
        check_card(card.replace("![", "["), "model")
    with pytest.raises(InputError, match="'license' must be a name"):
        check_card(with_metadata(card, license="All mine"), "model")
    for headless in ("# T\n", "---\n: [\n---\n", "---\nlist\n---\n"):
        with pytest.raises(InputError, match="no metadata"):
            metadata_of(headless)


def test_foreign_words_may_look_like_placeholders(tmp_path):
    told = {**TOLD, "data": {**TOLD["data"], "dataset": "my$pics", "skipped": {"$price ${cost}": 1}}}
    card = with_loading(editor_card(told, last_losses(told), tmp_path), "editor", WORDS["editor"], "org/toffee-editor")
    assert "my$pics" in card and "$price ${cost}" in card
    check_card(with_results(card, "editor", ("pairs", "org/pairs")), "model")


def test_the_place_of_the_pairs_is_known_or_asked_for(card):
    folder = with_metadata(card, datasets=None)
    with pytest.raises(InputError, match="'datasets' cannot be filled: the editor's pairs came from a folder"):
        with_dataset(folder, "editor", None)
    assert metadata_of(with_dataset(folder, "editor", "org/pairs"))["datasets"] == ["org/pairs"]
    assert with_dataset(card, "editor", None) == card
    assert with_dataset(folder, "refiner", None) == folder, "photographs of one's own are on no Hub"
    with pytest.raises(InputError, match="no name of a repository: give ORG/NAME"):
        with_dataset(card, "editor", "./my/pairs")


@pytest.mark.parametrize(("model", "line", "metric"), [
    ("refiner", "| photo prompts: refined, PSNR in the mask | 18.7 ± 0.3 | 304 |", ("psnr", 18.7)),
    ("refiner", "| photo prompts: draft, PSNR in the mask | 11.4 ± 0.2 | 304 |", None),
    ("view", "| view by 0.9 rad: view, SSIM in the mask | 0.440 ± 0.016 | 304 |", ("ssim", 0.44)),
    ("view", "| view by 0.9 rad: reference copied, PSNR in the mask | 14.7 ± 0.5 | 304 |", None),
    ("editor", "| editor, λ = 1, edit: style right | 0.969 ± 0.030 | 64 |", ("score", 0.969)),
    ("editor", "| editor, λ = 1, new picture, depth told: Seg-DINO | 0.857 ± 0.007 | 64 |", ("dino", 0.857)),
    ("editor", "| editor, text alone, new picture: Seg-DINO | 0.720 ± 0.039 | 64 |", None),
    ("editor", "| editor, reference pasted, edit: Seg-DINO | 0.980 ± 0.002 | 64 |", None),
    ("editor", "| editor, the source, edit: class right | 0.953 ± 0.036 | 64 |", None),
    ("editor", "| editor, truth, new picture: CLIP-T | 0.688 ± 0.012 | 64 |", None),
    ("editor", "| loss | 1.2e-3 |", ("loss", 0.0012)),
    ("editor", "| CLIP-T | not measured | 3 |", None),
])
def test_figures_of_the_model_itself_become_metadata(model, line, metric):
    found = model_index(TABLE.format(line), model, "T", "text-to-image", ("toys", "toy:held-out"))
    metrics = [(one["type"], one["value"]) for entry in found for one in entry["results"][0]["metrics"]]
    assert metrics == ([metric] if metric else [])
