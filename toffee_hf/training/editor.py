"""`toffee train editor`: ToffeeNet from the pairs that `toffee build` makes, on any text-to-image base."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from toffee_hf.cards import placeless
from toffee_hf.errors import InputError
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
from toffee_hf.training.backbone import Backbone, Source, default_dtype, weights_digest
from toffee_hf.training.editor_examples import TASKS, EditorConfig, editor_loss, examples_of
from toffee_hf.training.loop import writing
from toffee_hf.training.lora import load_trained, merged
from toffee_hf.training.pair_files import COLUMNS, open_pairs
from toffee_hf.training.pair_stream import Pair, Pairs, PairStream, Wanted
from toffee_hf.training.trainer import DONE, SKIPPED, Workshop

NAME = "editor"
PART = f"{NAME}_lora.safetensors"     # what LoRA left, beside the complete model
MOST_PATCHES = 32                     # along a side of a subject's picture
GRID_STEPS = 10


def train_editor_on(spec: str, backbone: Backbone, config: EditorConfig, folder: Path) -> ToffeeEditorUNet:
    """Train an editor on a dataset of pairs; the same call again goes on. Returns it; `folder`/editor holds it.

    spec: a folder, or ORG/NAME or ORG/NAME@REVISION on the Hub. Raises InputError, RunError.
    """
    size_px = config.size_for(backbone)
    backbone = _with_start(backbone, config.start)
    data = PairData(spec, config, size_px)
    try:
        with Workshop(NAME, folder, backbone, config) as shop:
            shop.ready()
            model = new_editor(shop.backbone, config, size_px)
            task = EditorTask(model, data, shop.backbone, config, shop.accelerator.process_index,
                              shop.accelerator.num_processes)
            found: ToffeeEditorUNet = shop.run(task, data, {})
    finally:
        data.close()
    return found


def new_editor(backbone: Backbone, config: EditorConfig, size_px: int) -> ToffeeEditorUNet:
    """An editor that starts from the base's UNet, or from the editor in `config.start`."""
    if config.start:
        start = Path(config.start)
        if not config.rebase:
            _check_base(start, backbone.sources["base"].revision, f"--start {start}")
        found = _fitting(editor_of(backbone.unet, start, apart=bool(config.lora_rank)), backbone, config.start)
        found.lora_over = config.start if config.lora_rank and not (start / PART).is_file() else ""
        return found
    side = min(MOST_PATCHES, backbone.patch_side(size_px))
    with default_dtype(backbone.unet.dtype):
        return ToffeeEditorUNet.from_unet(backbone.unet, subject_dim=2 * backbone.encoder.config.hidden_size,
                                          patches=side**2, prediction_type=backbone.prediction)


def editor_of(unet: Any, folder: Path, apart: bool = False) -> ToffeeEditorUNet:
    """The editor in a folder: complete, or what LoRA left of its training over this UNet, merged into it or `apart`, so
    that it can be trained on.

    Raises InputError if there is none, or it was trained over another UNet.
    """
    part = folder / PART
    try:
        if not part.is_file():
            return ToffeeEditorUNet.from_pretrained(folder, dtype=unet.dtype, use_safetensors=True)
        with safe_open(part, "pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in ("place", "project.0.weight")}
            told = opened.metadata() or {}
    except (OSError, ValueError, SafetensorError) as err:
        raise InputError(f"{folder} holds no editor ({str(err).splitlines()[0]})") from err
    if told.get("over"):
        raise InputError(f"{part} goes over {told['over']}, a complete editor: give {folder / NAME}, which holds both")
    with default_dtype(unet.dtype):
        model = ToffeeEditorUNet.from_unet(unet, subject_dim=shapes["project.0.weight"][1], patches=shapes["place"][0],
                                           prediction_type=told.get("prediction_type", "v_prediction"))
    found: ToffeeEditorUNet = load_trained(model, part)
    return found if apart else merged(found)


def install_editor(run: Path, family: Path) -> int:
    """Put what a LoRA training left into the folder of the family that it was trained over, as fp16, with what a card
    says of it; returns the bytes written. Raises InputError where there is none."""
    told, part = run / DONE, run / PART
    if not (told.is_file() and part.is_file()):
        raise InputError(f"{run} holds no finished LoRA training of an editor; train with --lora-rank to the end")
    with safe_open(part, "pt") as opened:
        metadata = opened.metadata()
    if metadata.get("over"):
        raise InputError(f"{run} went on from {metadata['over']}, a complete editor, so its LoRA is none over the base "
                         "of the family")
    _check_base(run, weights_digest(family / "unet"), str(run))
    tensors = {name: x.half() if x.is_floating_point() else x for name, x in load_file(part).items()}
    made = family / f"{NAME}.part"
    with writing(family):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        save_file(tensors, made / PART, metadata=metadata)
        shutil.copyfile(told, made / DONE)
        shutil.rmtree(family / NAME, ignore_errors=True)
        made.replace(family / NAME)
    return sum(path.stat().st_size for path in (family / NAME).iterdir())


def _check_base(trained: Path, digest: str | None, name: str) -> None:
    """Raises InputError if what LoRA left in a folder was trained over other weights than those of this digest."""
    if not (trained / PART).is_file() or not (trained / DONE).is_file():
        return
    over = json.loads((trained / DONE).read_text())["config"]["base"]["sources"]["base"]["revision"]
    if over and digest and over != digest:
        raise InputError(f"{name} was trained by LoRA over another base: over weights {over}, and these are {digest}; "
                         "--rebase trains a --start on all the same")


def _fitting(model: ToffeeEditorUNet, backbone: Backbone, start: str) -> ToffeeEditorUNet:
    """Raises InputError if the editor is of another base."""
    wanted = {"out_channels": backbone.unet.config.in_channels, "subject_dim": 2 * backbone.encoder.config.hidden_size,
              "cross_attention_dim": backbone.unet.config.cross_attention_dim, "prediction_type": backbone.prediction}
    for name, value in wanted.items():
        if model.config[name] != value:
            raise InputError(f"--start {start} is an editor of another base: its {name} is {model.config[name]}, that "
                             f"of {backbone.name} {value}")
    return model


def _with_start(backbone: Backbone, start: str) -> Backbone:
    """With the weights to start from among the ingredients, by their content."""
    if not start:
        return backbone
    digest = weights_digest(Path(start))
    if digest is None:
        raise InputError(f"--start {start} holds no editor: it is a folder with safetensors")
    licence = backbone.sources["base"].licence
    return replace(backbone, sources={**backbone.sources, "start": Source(start, digest, licence)})


class PairData:
    """The pairs of a training, by step."""

    def __init__(self, spec: str, config: EditorConfig, size_px: int) -> None:
        self.config, drafts = config, config.targets == "drafts"
        self.tasks = TASKS[config.tasks]
        extra = () if config.views else ("scores.view_dino",)
        files = {task: open_pairs(spec, name, COLUMNS[name] + extra)
                 for task, name in ((task, "editing" if drafts else task) for task in self.tasks)}
        total = sum(len(found) for found in files.values())
        if config.limit is not None:
            files = {task: found.first(max(1, round(config.limit * len(found) / total)))
                     for task, found in files.items()}
        self.streams = {task: PairStream(found, Wanted(task, COLUMNS[found.config] + extra, drafts, config.views),
                                         size_px, config.seed) for task, found in files.items()}
        identity = repr([files[task].identity() for task in self.tasks])
        self.digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.spec, self.ahead, self.next = spec, ThreadPoolExecutor(1), dict[int, Future[tuple[list[Pair], Any]]]()

    def __len__(self) -> int:
        return sum(len(stream.files) for stream in self.streams.values())

    def batch(self, step: int, rank: int = 0, processes: int = 1, device: torch.device | None = None) -> Pairs:
        """What one process learns from in one step; the next batch is read meanwhile."""
        found = self.next.pop(step, None) or self.ahead.submit(self._read, step, rank, processes)
        self.next = {step + 1: self.ahead.submit(self._read, step + 1, rank, processes)}
        return Pairs.of(*found.result(), device or torch.device("cpu"))

    def _read(self, step: int, rank: int, processes: int) -> tuple[list[Pair], Counter[str]]:
        size, skipped = self.config.batch_size, Counter[str]()
        pairs = []
        for number in range((step * processes + rank) * size, (step * processes + rank + 1) * size):
            task, place = self.place(number)
            pair, left_out = self.streams[task].at(place)
            pairs.append(pair)
            skipped += left_out
        return pairs, skipped

    def place(self, number: int) -> tuple[str, int]:
        """The task of example `number`, counted over the whole training, and its place in that task's stream."""
        if len(self.tasks) == 1:
            return self.tasks[0], number
        parts = 1000
        share = round(self.config.editing * parts)
        edits = number * share // parts
        is_edit = (number + 1) * share // parts > edits
        return ("editing", edits) if is_edit else ("generation", number - edits)

    def shown(self, rows: list[int], device: torch.device) -> Pairs | None:
        """Rows for people to look at, by turns of each task; the same every time."""
        found = []
        for i, row in enumerate(rows):
            stream = self.streams[self.tasks[i % len(self.tasks)]]
            pair = stream.shown(row * len(stream.files) // len(self))
            found += [] if pair is None else [pair]
        return Pairs.of(found, Counter(), device) if found else None

    def described(self, skipped: dict[str, int]) -> dict[str, Any]:
        """What a card says of it."""
        rows = {task: len(stream.files) for task, stream in self.streams.items()}
        return {"dataset": placeless(self.spec), "rows": rows, "skipped": dict(sorted(skipped.items()))}

    def close(self) -> None:
        """Read no further."""
        self.ahead.shutdown(wait=True, cancel_futures=True)
        for stream in self.streams.values():
            stream.close()


class EditorTask:
    """Batches and validation grids of an editor in training."""

    def __init__(self, model: ToffeeEditorUNet, data: PairData, backbone: Backbone, config: EditorConfig, rank: int = 0,
                 processes: int = 1) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        model.gate_learns = config.gate
        self.data, self.backbone, self.config, self.rank, self.processes = data, backbone, config, rank, processes
        self.alphas, self.pipeline = backbone.alphas, backbone.editor_pipeline(model)
        self.seen: Pairs | None = None

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        pairs = self.data.batch(step, self.rank, self.processes, self.backbone.device)
        example = examples_of(pairs, self.backbone, self.pipeline, self.config, generator)
        silent = torch.rand(len(pairs.prompts), generator=generator) < self.config.drop_text
        words = ["" if drop else prompt for prompt, drop in zip(pairs.prompts, silent.tolist(), strict=True)]
        text = self.backbone.text(words, pairs.target.shape[-1])
        terms = editor_loss(self.model, example, text, self.alphas, generator, self.config.noisings,
                            self.config.least_noise)
        return terms | {f"{SKIPPED}{reason}": torch.tensor(count) for reason, count in pairs.skipped.items()}

    def grid(self, model: Any, rows: Tensor) -> list[Tensor]:
        """Reference, the picture to edit or grey, what the editor makes of them, target."""
        self.seen = pairs = self.seen or self.data.shown(rows.tolist(), self.backbone.device)
        if pairs is None:
            return []
        made = torch.cat([self._made(pairs, i) for i in range(len(pairs.prompts))])
        return [pairs.reference * pairs.reference_mask, pairs.source, made, pairs.target]

    def _made(self, pairs: Pairs, i: int) -> Tensor:
        edit = {} if pairs.mask[i].all() else {"image": pairs.source[i] / 2 + 0.5, "mask_image": pairs.mask[i : i + 1]}
        made = self.pipeline(pairs.prompts[i], pairs.reference[i] / 2 + 0.5, pairs.reference_mask[i : i + 1], **edit,
                             height=pairs.target.shape[-2], width=pairs.target.shape[-1],
                             num_inference_steps=GRID_STEPS, surface=0.0, output_type="pt",
                             generator=torch.Generator(pairs.target.device).manual_seed(self.config.seed)).images
        return made.to(pairs.target) * 2 - 1
