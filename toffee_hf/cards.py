"""Model cards of a Refiner or View Generator: templates filled from what its training has written down.

Loads no library of models. Every figure on a card comes from a file of the training.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_cards import template
from toffee_hf.errors import InputError

CARDS = {"refiner": "refiner", "view": "view_generator"}
CLASSES = {"refiner": "ToffeeRefinerUNet", "view": "ToffeeViewUNet"}
TITLES = {"refiner": "Toffee Refiner", "view": "Toffee View Generator"}
# How their lines in a table begin.
FIGURES = {"refiner": ("photo prompts", "style prompts"), "view": ("view by",), "editor": ("editor",)}
TURNED = "reference turned"           # figures of what a repository cannot do by itself
GIVE_FIGURES = "give --figures FILE, docs/method.md of the sources"
TAGS = ["toffee", "subject-driven", "personalization", "diffusers"]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
OWN_DATA = "toy:train"                # pictures that this repository draws itself
FOREIGN = "The licence of the pictures it was trained on is not covered by this card."
OF_A_FOLDER = "        # the folder of the base model"
DEPTH = ("A depth map, `depth=` of `ToffeeViewPipeline`, lets what is visible be turned in space first, and lit as it "
         "faces then, about an axis that `axis` finds, where the repository has one, or else the outline tells. With "
         "`looks=4` a view is the mean of four, each by an estimate of its own where `depth` is (1, 4, H, W): *view* "
         "below, and *view by one look* is the default.")
SETTINGS = {
    "batch_size": "batch of each process", "learning_rate": "learning rate", "size_px": "side of the pictures, px",
    "lora_rank": "LoRA rank (0: every weight)", "precision": "precision", "ema": "moving average of the weights",
    "drop_text": "share of examples without words", "seed": "seed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a card says. base: what `open_backbone` is given; sources: name, repository, revision and licence of each
    ingredient; made, cost, results: Markdown; data: name of the pictures; grid: a picture beside the card, or nothing;
    in_folder: the base is a folder, which lies elsewhere for others; depth: a View Generator has learnt with depth."""

    base: str
    size_px: int
    sources: Sequence[Mapping[str, Any]]
    made: str
    cost: str
    results: str
    data: str = OWN_DATA
    grid: str = ""
    in_folder: bool = False
    depth: bool = False


def write_card(kind: str, folder: Path) -> None:
    """README.md beside the weights in `folder`/`kind`, with the last validation grid of the training in `folder`.

    kind: `refiner` or `view`. Raises InputError for what is not known.
    """
    grids = sorted((folder / "grids").glob("*.png"))
    card = card_of_training(kind, folder, "grid.png" if grids else "")
    if grids:
        shutil.copyfile(grids[-1], folder / kind / "grid.png")
    part = folder / kind / "README.part"
    part.write_text(card, encoding="utf-8")
    part.replace(part.with_suffix(".md"))


def card_of_training(kind: str, folder: Path, grid: str = "") -> str:
    """The card of `refiner` or `view` from the folder of its training. Raises InputError for what is not known."""
    told = _read(folder / "training.json")
    try:
        return render(kind, _facts(told, grid))
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise InputError(f"{folder / 'training.json'} does not tell all that a model card says ({_what(err)}); train "
                         "to the end with this version") from err


def card_of_tiny(kind: str, family: Path, document: Path) -> str:
    """The card of a member of a family by `toffee train tiny`, with its lines of the figures in docs/method.md.

    Raises InputError for what is not known.
    """
    told = _read(family / "training.json")
    if not isinstance(told.get(kind), dict) or not {"samples", "minutes"} <= told[kind].keys():
        raise InputError(f"{family / 'training.json'} does not tell samples and minutes of {kind}")
    size = _read(family / "vae" / "config.json").get("sample_size")
    if not isinstance(size, int):
        raise InputError(f"{family / 'vae' / 'config.json'} does not tell its sample_size")
    cost, others = told[kind], sum(c["minutes"] for name, c in told.items() if name != kind)
    gpu = f" and {cost['gpu_minutes']:.1f} minutes of a GPU, shared with other models" if "gpu_minutes" in cost else ""
    source = {"name": "base", "repository": "the tiny family of toffee-hf, trained from random weights",
              "revision": None, "licence": "apache-2.0"}
    return render(kind, Facts(
        base="tiny", size_px=size, sources=[source],
        made="On renders of training subjects of the toy world, by `toffee train tiny`.",
        cost=f"{cost['samples']:,.0f} training pictures in {cost['minutes']:.0f} minutes of one CPU core{gpu}. "
             f"The other models of the family took {others:.0f} minutes of a core more.",
        results=figures_in(document, kind, ", PSNR in dB inside the truth's mask"), depth=True))


def render(kind: str, facts: Facts) -> str:
    """The card of a `refiner` or `view` as Markdown, with the Hub's metadata at its head."""
    grid = f"![Validation pictures of the training, on pictures that it has seen]({facts.grid})" if facts.grid else ""
    licences = table(("ingredient", "from", "revision", "licence"), [
        (s["name"], s["repository"], s["revision"] or "none", s["licence"]) for s in facts.sources])
    return template(CARDS[kind]).substitute(
        metadata=_metadata(facts), title=f"{TITLES[kind]} ({facts.base.rpartition('/')[2]})", base=facts.base,
        size_px=facts.size_px, made=facts.made, cost=facts.cost, results=facts.results, grid=grid,
        where=OF_A_FOLDER if facts.in_folder else "", depth=DEPTH if facts.depth else "",
        licences=licences if facts.data == OWN_DATA else f"{licences}\n\n{FOREIGN}")


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"a model card needs {path}, which cannot be read ({err})") from err
    if not isinstance(told, dict):
        raise InputError(f"a model card needs {path}, which holds no table")
    return told


def _what(err: Exception) -> str:
    return f"{err.args[0]} is missing" if isinstance(err, KeyError) else str(err)


def _facts(told: dict[str, Any], grid: str) -> Facts:
    """Of a training on real data, as its training.json has it."""
    config, base, data, versions = told["config"], told["config"]["base"], told["data"], told["versions"]
    left_out = ", ".join(f"{count:,} `{reason}`" for reason, count in data["skipped"].items())
    named = f" from `{data['dataset']}`" if data["dataset"] else ""
    made = [f"From {placeless(base['name'])}, by `toffee train` on {data['pictures']:,} pictures of "
            f"{data['things']:,} things ({data['with_camera']:,} with a camera){named}; "
            f"left out: {left_out or 'none'}.", "",
            table(("setting", "value"), [("steps", f"{told['steps']:,}"),
                                          *((name, config[key]) for key, name in SETTINGS.items())]), "",
            "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."]
    hours, name = told["seconds"] / 3600, placeless(base["name"])
    unnamed = base["sources"]["base"]["repository"] == base["name"]      # no name of ours: a Hub id or a folder
    return Facts(
        base=name, size_px=int(config["size_px"]), grid=grid, made="\n".join(made),
        data=data["dataset"], in_folder=unnamed and not HUB_ID.fullmatch(name),
        sources=[{**source, "name": part, "repository": placeless(source["repository"])}
                 for part, source in base["sources"].items()],
        cost=f"{told['samples']:,} training pictures in {told['seconds']:,.0f} s ({hours:.2g} hours) of "
             f"{told['processes']} x {told['device']}.",
        results=table(("mean of the last steps", "value"),
                       [(name, f"{value:.4g}") for name, value in told["final_losses"].items()]))


def placeless(name: str) -> str:
    """What `--base` or `--data` was; of a folder its name only, for where it lay is nobody's business."""
    is_folder = name.startswith(("/", ".", "~")) or Path(name).is_dir()
    return os.path.basename(os.path.abspath(name)) if is_folder else name


def _metadata(facts: Facts) -> str:
    """The YAML of the card's head: what the Hub reads."""
    import yaml

    base = next(source for source in facts.sources if source["name"] == "base")
    licences = {str(source["licence"]) for source in facts.sources if source["name"] != "masks"}
    known: dict[str, Any] = {"license": shared_licence(licences), "library_name": "diffusers",
                             "pipeline_tag": "image-to-image", "tags": TAGS}
    if known["license"] == "other":
        known["license_name"] = "see-licences-of-ingredients"
    if HUB_ID.fullmatch(base["repository"]) and not Path(base["repository"]).exists():
        known |= {"base_model": base["repository"], "base_model_relation": "finetune"}
    known |= {"datasets": [facts.data]} if HUB_ID.fullmatch(facts.data) else {}
    text: str = yaml.safe_dump(known, sort_keys=False, allow_unicode=True).rstrip("\n")
    return text


def shared_licence(licences: set[str]) -> str:
    """One licence where the weights share it or all but one are permissive; otherwise the reader sees the table."""
    strict = licences - {"apache-2.0"}
    if len(strict) > 1:
        return "other"
    found = strict.pop() if strict else "apache-2.0"
    return "unknown" if found == "none" else found


def figures_in(document: Path, kind: str, unit: str = "") -> str:
    """The lines about a `refiner`, `view` or `editor` in a document's table of figures, as a table.

    unit: said above it. Raises InputError where the document cannot be read, or holds none.
    """
    try:
        lines = document.read_text(encoding="utf-8").splitlines()
    except OSError as err:
        raise InputError(f"a model card needs the figures in {document}, which cannot be read ({err}); "
                         f"{GIVE_FIGURES}") from err
    rows = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in lines
            if line.startswith(tuple(f"| {start}" for start in FIGURES[kind])) and TURNED not in line]
    rows = [row for row in rows if len(row) == 3]
    if not rows:
        raise InputError(f"{document} holds no figures of the {kind}, which `toffee evaluate` with --docs writes; "
                         f"{GIVE_FIGURES}")
    return (f"On held-out subjects, mean ± half of the 95 % interval{unit}:\n\n"
            + table(("what", "figure", "n"), rows))


def table(heading: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
