"""What `toffee publish model` is asked for: a model of a family or of a training, as a pipeline with its card."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from toffee_hf.cards import card_of_tiny, card_of_training, figures_in
from toffee_hf.errors import InputError
from toffee_hf.family import MEMBERS, TINY, Family
from toffee_hf.publishing.model_card import editor_card, last_losses, licensed, training_of, with_loading, with_results

MODELS = ("editor", "refiner", "view")
ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "method.md"
OUR_LICENCE = "apache-2.0"
TOYS = ("held-out subjects of the toy world", "toy-world")


@dataclass(frozen=True, slots=True)
class Opened:
    """A pipeline, and the card of its weights. depth: a View Generator has learnt with depth; measured_on: name and id
    of the data of its figures."""

    pipeline: Any
    card: str
    depth: bool = True
    measured_on: tuple[str, str] = TOYS


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """All that `export_pipeline` needs."""

    pipeline: Any
    card: str
    licence: str
    pictures: dict[str, Any]


def open_model(model: str, source: str, figures: Path = FIGURES) -> Opened:
    """`editor`, `refiner` or `view` of a family (`tiny` or a folder), or the one that a training left in a folder.

    figures: document with the measured figures of a family. Raises InputError.
    """
    folder = TINY if source == "tiny" else Path(source)
    if all((folder / member).is_dir() for member in MEMBERS):
        return _of_family(model, folder, figures)
    if (folder / model).is_dir() and (folder / "training.json").is_file():
        return _of_training(model, folder)
    raise InputError(f"--from {source!r} holds no {model}: it is tiny, the folder of a family, or the output of a "
                     "finished `toffee train`")


def prepare(model: str, opened: Opened, licence: str | None = None, licence_file: Path | None = None,
            repository: str | None = None) -> Prepared:
    """With example pictures, the card of a repository, and the text of its licence. Raises InputError.

    repository: ORG/NAME on the Hub, for the card.
    """
    from toffee_hf.publishing.examples import examples_of

    card, name = licensed(opened.card, model, licence)
    text = licence_text(name, licence_file)
    examples = examples_of(model, opened.pipeline, opened.depth)
    card = with_results(with_loading(card, model, examples.words, repository), model, opened.measured_on)
    return Prepared(pipeline=opened.pipeline, card=card, licence=text, pictures=examples.pictures)


def licence_text(name: str, file: Path | None = None) -> str:
    """The text of a licence: from a file, or ours. Raises InputError where neither is at hand."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as err:
            raise InputError(f"--license-file {file} cannot be read: {err}") from err
    if name != OUR_LICENCE:
        raise InputError(f"the text of the licence {name!r} is not at hand; give --license-file")
    if (ROOT / "LICENSE").is_file():
        return (ROOT / "LICENSE").read_text(encoding="utf-8")
    try:
        text = distribution("toffee-hf").read_text("licenses/LICENSE")
    except PackageNotFoundError:
        text = None
    if text is None:
        raise InputError("the text of our own licence is not where the package was installed; give --license-file")
    return text


def _of_family(model: str, folder: Path, figures: Path) -> Opened:
    family = Family(folder, "cpu")
    if model != "editor":
        return Opened(getattr(family, f"{model}_pipeline"), card_of_tiny(model, folder, figures))
    if not (folder / "editor").is_dir():
        raise InputError(f"the family {folder.name!r} has no editor; give --from the output of `toffee train editor`")
    results, where = figures_in(figures, "editor"), folder / "editor" / "training.json"
    card = editor_card(training_of(where.parent), results, where)
    return Opened(family.editor_pipeline(), card)


def _of_training(model: str, folder: Path) -> Opened:
    from toffee_hf.training.backbone import open_backbone

    told = training_of(folder)
    if model == "editor":
        card = editor_card(told, last_losses(told), folder / "training.json")
    else:
        card = card_of_training(model, folder)
    base = open_backbone(told["config"]["base"]["name"])
    data = str(told["data"]["dataset"] or "pictures")
    return Opened(getattr(base, f"{model}_pipeline")(_trained(model, folder / model)), card, depth=False,
                  measured_on=(f"the training data, {data}", data))


def _trained(model: str, folder: Path) -> Any:
    from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
    from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
    from toffee_hf.models.toffee_view_unet import ToffeeViewUNet

    classes = {"editor": ToffeeEditorUNet, "refiner": ToffeeRefinerUNet, "view": ToffeeViewUNet}
    try:
        return classes[model].from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)
    except (OSError, ValueError) as err:
        raise InputError(f"{folder} holds no {model} that loads ({str(err).splitlines()[0]})") from err
