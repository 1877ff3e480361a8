"""Cards of exported models: how they were made, as their training tells it, and how they load without this package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_cards import template
from toffee_hf.cards import HUB_ID, SETTINGS, TAGS, placeless, shared_licence, table
from toffee_hf.errors import InputError
from toffee_hf.publishing.card_check import HEAD, metadata_of, with_metadata
from toffee_hf.publishing.opening import check_name
from toffee_hf.publishing.results import model_index

TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
LOADING = re.compile(r"^## Load it\n.*?(?=^## )", re.DOTALL | re.MULTILINE)
SHARES = {
    "tasks": "tasks", "editing": "share of editing pairs", "reconstruction": "share of reconstruction (p)",
    "drop_subject": "share without the subject", "told_depth": "share with depth",
    "whole_reference": "share without the reference's mask", "loose_mask": "share of masks as people paint",
    "least_noise": "share of the noise schedule not learnt", "gate": "gate learnt", "targets": "targets",
    "views": "references in new views",
}


def editor_card(told: Mapping[str, Any], results: str, where: Path) -> str:
    """The card of an editor, but for how it is loaded.

    told: training.json of its training; results: Markdown; where: named in messages. Raises InputError for what is not
    known.
    """
    try:
        return _editor_card(told, results)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        lacking = f"{err.args[0]} is missing" if isinstance(err, KeyError) else str(err)
        raise InputError(f"{where} does not tell all that a model card says ({lacking}); train to the end with this "
                         "version") from err


def _editor_card(told: Mapping[str, Any], results: str) -> str:
    import yaml

    config, data = told["config"], told["data"]
    base = placeless(config["base"]["name"])
    sources = [(name, placeless(s["repository"]), s["revision"] or "none", s["licence"])
               for name, s in config["base"]["sources"].items()]
    dataset = placeless(data["dataset"])
    head: dict[str, Any] = {"license": shared_licence({licence for name, *_, licence in sources if name != "masks"}),
                            "library_name": "diffusers", "pipeline_tag": "text-to-image",
                            "tags": [*TAGS, "image-to-image", "image-editing"]}
    origin = next(place for name, place, *_ in sources if name == "base")
    head |= {"base_model": origin, "base_model_relation": "finetune"} if HUB_ID.fullmatch(origin) else {}
    head |= {"datasets": [dataset]} if HUB_ID.fullmatch(dataset) else {}
    rows = " and ".join(f"{count:,} {task}" for task, count in data["rows"].items())
    left_out = ", ".join(f"{count:,} `{reason}`" for reason, count in data["skipped"].items()) or "none"
    settings = [("steps", f"{told['steps']:,}"),
                *((words, config[name]) for name, words in (SETTINGS | SHARES).items() if name in config)]
    made = "\n\n".join((f"From {base}, by `toffee train editor` on {rows} pairs of `{dataset}`; left out: {left_out}.",
                        table(("setting", "value"), settings),
                        "Made with " + ", ".join(f"{name} {version}" for name, version in told["versions"].items())
                        + "."))
    seconds, before = told["seconds"], told.get("before", {"samples": 0})
    gone_on = (f", which went on from an editor of {before['samples']:,} examples in {before['seconds']:,.0f} s"
               if before["samples"] else "")
    cost = (f"{told['samples']:,} training examples in {seconds:,.0f} s ({seconds / 3600:.2f} hours) of "
            f"{told['processes']} x {told['device']}{gone_on}. What the pairs cost is on the card of their dataset.")
    return template("editor").substitute(
        metadata=yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip("\n"), load="",
        title=f"Toffee Editor ({base.rpartition('/')[2]})", base=base, size_px=int(config["size_px"]), made=made,
        cost=cost, results=results, licences=table(("ingredient", "from", "revision", "licence"), sources))


def last_losses(told: Mapping[str, Any]) -> str:
    """What a training reached by its own measure, as a table."""
    return table(("mean of the last steps", "value"),
                  [(name, f"{value:.4g}") for name, value in told["final_losses"].items()])


def licensed(card: str, model: str, licence: str | None) -> tuple[str, str]:
    """The card under a licence, its own unless one is given, and that licence as the Hub names it.

    Raises InputError for a licence that is not known.
    """
    import yaml

    head = metadata_of(card)
    if licence is not None:
        head = {key: value for key, value in head.items() if not key.startswith("license")}
        head = {"license": licence.lower(), **head}
        if not re.fullmatch(r"[a-z0-9.+-]+", head["license"]):
            raise InputError(f"--license must be a name as a Hub lists it, such as apache-2.0, got {licence!r}")
    head.setdefault("license", "unknown")
    if head["license"] == "unknown":
        raise InputError(f"the licence of the {model}'s base is not known; give --license")
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n{HEAD.sub('', card, count=1)}", str(head["license"])


def with_loading(card: str, model: str, words: Mapping[str, str], repository: str | None = None) -> str:
    """The card of weights as that of a whole repository. words: of `model_cards/load_<model>.md`."""
    hub = template("load_hub").substitute(repository=repository or "ORG/NAME").rstrip("\n")
    text = template(f"load_{model}").substitute(words, hub=hub).rstrip("\n")
    return LOADING.sub(lambda _: f"## Load it\n\n{text}\n\n", card)


def with_results(card: str, model: str, measured_on: tuple[str, str]) -> str:
    """The figures of the card in its metadata too."""
    title = TITLE.search(card)
    task = str(metadata_of(card).get("pipeline_tag", "text-to-image"))
    found = model_index(card, model, title[1] if title else model, task, measured_on)
    return with_metadata(card, model_index=found) if found else card


def with_dataset(card: str, model: str, dataset: str | None) -> str:
    """The card with the place of the data on the Hub. Raises InputError where an editor's card cannot tell it."""
    if dataset is not None:
        check_name(dataset)
        return with_metadata(card, datasets=[dataset])
    if model == "editor" and not metadata_of(card).get("datasets"):
        raise InputError("the card's field 'datasets' cannot be filled: the editor's pairs came from a folder; publish "
                         "that (`toffee publish dataset`), or give --dataset ORG/NAME")
    return card


def training_of(folder: Path) -> dict[str, Any]:
    """training.json of a finished training. Raises InputError."""
    try:
        told: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"a model card needs {folder / 'training.json'}, which cannot be read ({err})") from err
    return told
