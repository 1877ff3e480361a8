"""Training of the whole tiny family: one pool of toy pictures, one job a model, base first, two lanes or more.

Jobs run in processes of one thread each, as soon as what they need is done. Everything is seeded by step, so on a CPU
the weights depend on `minutes` and `seed` alone; a killed run goes on where it was. A GPU takes the costliest jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from toffee_hf.errors import InputError, RunError
from toffee_hf.family import SAFE, default_device

REFERENCE_MINUTES = 90                # the budget for which `samples` are stated: two cores for an hour and a half
POOL_SUBJECTS = {"cpu": 3600, "cuda": 9600}           # at most, from REFERENCE_MINUTES on; cuda: a GPU_PACE'th of them
ROWS_A_DRAFT = 8                      # rows of the pool for each draft at least: the Refiner learns from copies too
GPU_PACE, GPU_BATCH = 64, 16          # a GPU's pictures, and its batch, for one of a core; seen on an H100: 57 to 170
SPENT = "training.json"               # in a family's folder: what its weights have cost
PATCHES = 256                         # of the patch encoder in a picture
MIN_AUTOENCODER_DB = 28.0             # in the subject's mask, held out; under it no diffusion model is worth training
GATED_FROM_MINUTES = 30.0             # a smaller budget only tries the code out, and is let through


@dataclass(frozen=True, slots=True)
class Job:
    """One model to train. samples: training pictures at REFERENCE_MINUTES; member: its folder in the family, if any;
    gpu: whether it goes to a GPU where there is one."""

    needs: tuple[str, ...]
    samples: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    member: str | None = None
    gpu: bool = False


JOBS: Mapping[str, Job] = MappingProxyType({
    "pool": Job(()),
    "autoencoder": Job(("pool",), 28_800, 16, 4e-4, 0.0, 0.5),
    "latents": Job(("autoencoder",)),
    "clip": Job(("pool",), 30_720, 64, 1e-3, 0.05, member="clip"),
    "words": Job(("clip",), 64_000, 80, 5e-4),
    "base": Job(("latents", "words"), 60_000, 16, 6e-4, member="unet", gpu=True),
    "dino": Job(("pool",), 11_200, 16, 1e-3, 0.05, member="dino"),
    "domain": Job(("dino",), member="domain"),
    "segmenter": Job(("words",), 15_600, 24, 1.5e-3, member="segmenter"),
    "depth": Job(("dino",), 2_400, 16, 6e-4, member="depth", gpu=True),
    "decoder": Job(("latents",), 9_600, 16, 4e-4, 0.0, 0.5, member="vae"),
    "classifier": Job(("pool",), 48_000, 32, 2e-3, 0.02, member="classifier"),
    "controlnet": Job(("base",), 14_400, 16, 1e-3, member="controlnet", gpu=True),
    "consistency": Job(("controlnet", "depth"), 800, 16, 3e-4, gpu=True),
    "drafts": Job(("consistency",), 1_600, gpu=True),
    "refiner": Job(("drafts", "dino"), 28_800, 16, 6e-4, member="refiner", gpu=True),
    "estimates": Job(("depth",), gpu=True),
    "axis": Job(("estimates",), 96_000, 32, 2e-3, 0.05, member="axis", gpu=True),
    "view": Job(("controlnet", "dino", "axis"), 28_800, 16, 6e-4, member="view", gpu=True),
})


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What the weights depend on: minutes of two cores and of a GPU, if there is one, the seed, and the family whose
    weights they start from."""

    minutes: float = REFERENCE_MINUTES
    seed: int = 0
    start: Path | None = None             # None: from random weights
    device: str = "cpu"                   # or cuda

    def words(self) -> list[str]:
        """As arguments of a job's process."""
        return [str(self.minutes), str(self.seed), self.device, *([str(self.start)] if self.start else [])]


def train_tiny(folder: Path, budget: Budget, workers: int, only: tuple[str, ...] = ()) -> None:
    """Run every job not done yet, `workers` at a time, in the order of JOBS. Raises RunError where one fails."""
    unknown = [name for name in only if name not in JOBS]
    if unknown or budget.minutes <= 0:
        raise InputError(f"train tiny needs minutes > 0 and jobs out of {', '.join(JOBS)}; "
                         f"got {budget.minutes}, {', '.join(unknown)}")
    if budget.device not in POOL_SUBJECTS or budget.device == "cuda" != default_device():
        raise InputError(f"train tiny works on {' or '.join(POOL_SUBJECTS)}, and on cuda where torch sees a GPU; got "
                         f"{budget.device}")
    if budget.start is not None and not (budget.start / "unet").is_dir():
        raise InputError(f"{budget.start} is no family to start from")
    _claim(folder, budget)
    waiting = [name for name in (only or JOBS) if not _done(folder, name)]
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            for name in [n for n in waiting if all(_done(folder, need) for need in JOBS[n].needs)]:
                if len(running) < workers:
                    waiting.remove(name)
                    running[name] = _start(folder, name, budget)
            if not running:
                raise RunError(f"jobs {', '.join(waiting)} wait for jobs that are not done; leave out --only")
            _reap(folder, running)
    finally:
        for process in running.values():
            process.terminate()


def _claim(folder: Path, budget: Budget) -> None:
    """A work folder belongs to one budget, since the schedules follow from it."""
    folder.mkdir(parents=True, exist_ok=True)
    start = None if budget.start is None else str(budget.start)
    path, mine = folder / "budget.json", {"minutes": budget.minutes, "seed": budget.seed, "start": start,
                                          "device": budget.device}
    if path.exists() and {"device": "cpu", **json.loads(path.read_text())} != mine:
        raise InputError(f"{folder} holds a training with {path.read_text().strip()}; give the same or another folder")
    path.write_text(json.dumps(mine) + "\n")


def _done(folder: Path, name: str) -> bool:
    return (folder / f"{name}.done").exists()


def _start(folder: Path, name: str, budget: Budget) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "toffee_hf.training.tiny", str(folder), name, *budget.words()]
    return subprocess.Popen(command, env=environment)


def _reap(folder: Path, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait a second for any job to end."""
    for name, process in list(running.items()):
        try:
            status = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            continue
        del running[name]
        if status != 0 or not _done(folder, name):
            raise RunError(f"job {name} ended with status {status}; give the same command again to go on")


def run_job(folder: Path, name: str, budget: Budget) -> None:
    """Run one job in this process and mark it done."""
    import torch

    from toffee_hf.training.correspondences import render_pairs
    from toffee_hf.training.loop import CPU, Place, Schedule
    from toffee_hf.training.pool import Pool, render_pool

    torch.set_num_threads(1)
    job, place = JOBS[name], CPU
    scale, batch_size = budget.minutes / REFERENCE_MINUTES, job.batch_size
    if budget.device == "cuda" and (job.gpu or name == "pool"):
        scale *= GPU_PACE
    if budget.device == "cuda" and job.gpu:
        batch_size *= GPU_BATCH
        place = Place(device=torch.device("cuda"), precision="bf16")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if name == "pool":
        subjects = max(56, round(POOL_SUBJECTS[budget.device] * min(1.0, scale)))
        cores = os.cpu_count() or 1
        render_pool(folder / "pool", subjects, cores)
        render_pairs(folder / "pool" / "pairs", subjects // 2, cores)
    else:
        schedule = Schedule(steps=max(2, round(job.samples * scale / batch_size)), learning_rate=job.learning_rate,
                            batch_size=batch_size, weight_decay=job.weight_decay, clip=job.clip)
        torch.manual_seed(budget.seed)
        TRAINERS[name](_Desk(folder, Pool(folder / "pool", place), schedule, budget))
    (folder / f"{name}.done").touch()


class _Desk:
    """What a job works with: the pool, its schedule, and the models that earlier jobs left."""

    def __init__(self, folder: Path, pool: Any, schedule: Any, budget: Budget) -> None:
        self.folder, self.pool, self.schedule, self.seed, self.budget = folder, pool, schedule, budget.seed, budget

    def begin(self, model: Any, member: str) -> Any:
        """A new model, with the weights of that member of the family to start from, if there is one."""
        if self.budget.start is not None and (self.budget.start / member).is_dir():
            known = type(model).from_pretrained(self.budget.start / member, **SAFE).state_dict()
            if {k: v.shape for k, v in known.items()} != {k: v.shape for k, v in model.state_dict().items()}:
                raise InputError(f"{self.budget.start / member} is of another shape than this version's; train it anew")
            model.load_state_dict(known)
        return model

    def save(self, model: Any, name: str) -> None:
        model.save_pretrained(self.folder / "models" / name)

    def load(self, cls: Any, name: str) -> Any:
        return cls.from_pretrained(self.folder / "models" / name, **SAFE).eval()

    @property
    def autoencoder(self) -> Any:
        from toffee_hf.models.toffee_autoencoder import ToffeeAutoencoder

        return self.load(ToffeeAutoencoder, "autoencoder")

    @property
    def text(self) -> tuple[Any, Any]:
        """Tokenizer and CLIP."""
        from transformers import CLIPModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "models" / "tokenizer")
        return tokenizer, self.load(CLIPModel, "clip")

    def captions(self, name: str) -> Any:
        from toffee_hf.training.diffusion import Captions

        tokenizer, clip = self.text
        return Captions(self.pool, tokenizer, clip.text_model, f"{name}/{self.seed}")

    @property
    def base(self) -> Any:
        from diffusers import UNet2DConditionModel

        return self.load(UNet2DConditionModel, "unet")

    @property
    def dino(self) -> Any:
        from transformers import Dinov2Model

        return self.load(Dinov2Model, "dino").requires_grad_(False)


def _autoencoder(desk: _Desk) -> None:
    from toffee_hf.training.autoencoder import new_autoencoder, train_autoencoder

    model = desk.begin(new_autoencoder(desk.pool), "vae")
    desk.save(train_autoencoder(model, desk.pool, desk.schedule, desk.folder / "autoencoder", desk.seed), "autoencoder")


def _latents(desk: _Desk) -> None:
    """Encode the pool, after the gate: a poor autoencoder caps every model that comes after it."""
    import torch

    from toffee_hf.evaluation.measure import autoencoder_psnr
    from toffee_hf.training.pool import encode_pool

    autoencoder = desk.autoencoder.to(memory_format=torch.channels_last)
    found = autoencoder_psnr(autoencoder)
    print(f"autoencoder: {found.mean} ± {found.half} dB inside the mask of {found.n} held-out pictures", flush=True)
    if found.mean < MIN_AUTOENCODER_DB and desk.budget.minutes >= GATED_FROM_MINUTES:
        raise RunError(f"the autoencoder reaches {found.mean} dB, and diffusion models need {MIN_AUTOENCODER_DB}: "
                       "give more minutes, in another folder")
    encode_pool(desk.pool, autoencoder)


def _decoder(desk: _Desk) -> None:
    import torch

    from toffee_hf.training.autoencoder import train_decoder

    model = desk.autoencoder.to(memory_format=torch.channels_last)
    desk.save(train_decoder(model, desk.pool, desk.schedule, desk.folder / "decoder", desk.seed), "vae")


def _clip(desk: _Desk) -> None:
    from toffee_hf.toy.captions import corpus
    from toffee_hf.training.text import new_clip, train_clip, train_tokenizer

    tokenizer = train_tokenizer(corpus(), desk.folder / "models" / "tokenizer")
    model = desk.begin(new_clip(tokenizer), "clip")
    locked = desk.budget.start is not None
    found = train_clip(model, desk.pool, tokenizer, desk.schedule, desk.folder / "clip", desk.seed, locked)
    desk.save(found, "clip")


def _words(desk: _Desk) -> None:
    """Once in a family's life: every diffusion model listens to the text tower."""
    from toffee_hf.training.words import train_words

    tokenizer, clip = desk.text
    if "words" not in _spent_before(desk.folder, desk.budget.start):
        clip = train_words(clip, desk.pool, tokenizer, desk.schedule, desk.folder / "words", desk.seed)
    desk.save(clip, "clip")


def _dino(desk: _Desk) -> None:
    from toffee_hf.training.patches import new_patches, train_patches

    model = desk.begin(new_patches(), "dino")
    desk.save(train_patches(model, desk.pool, desk.schedule, desk.folder / "dino", desk.seed), "dino")


def _domain(desk: _Desk) -> None:
    """The Gaussian over the class tokens of some 4,000 photos and the mean patches of a tenth of these."""
    import torch

    from toffee_hf.models.toffee_domain import ToffeeDomain
    from toffee_hf.perception.similarity import dino_images, subject_patches

    pool, dino = desk.pool, desk.dino
    index = torch.arange(0, len(pool), max(1, len(pool) // 4000))
    domain = ToffeeDomain.fitted(torch.cat([dino_images(dino, pool.pictures("photo", i)) for i in index.split(64)]))
    few = index[::10]
    features, shown = subject_patches(dino, pool.pictures("photo", few), pool.planes("mask", few))
    domain.patch_means.copy_(features[:, shown].mean(1))
    desk.save(domain, "domain")


def _segmenter(desk: _Desk) -> None:
    from toffee_hf.models.toffee_segmenter import ToffeeSegmenter
    from toffee_hf.training.perception import train_segmenter

    tokenizer, clip = desk.text
    model = desk.begin(ToffeeSegmenter(text_dim=clip.config.projection_dim), "segmenter")
    found = train_segmenter(model, desk.pool, clip, tokenizer, desk.schedule, desk.folder / "segmenter", desk.seed)
    desk.save(found, "segmenter")


def _depth(desk: _Desk) -> None:
    from toffee_hf.training.perception import new_depth, train_depth

    model = desk.begin(new_depth(desk.dino), "depth")
    desk.save(train_depth(model, desk.pool, desk.schedule, desk.folder / "depth", desk.seed), "depth")


def _base(desk: _Desk) -> None:
    from diffusers import UNet2DConditionModel

    from toffee_hf.training.diffusion import UNET, noise_schedule, train_base

    desk.save(noise_schedule(), "scheduler")
    model = desk.begin(UNet2DConditionModel(**UNET), "unet")
    found = train_base(model, desk.pool, desk.captions("base"), desk.schedule, desk.folder / "base", desk.seed)
    desk.save(found, "unet")


def _controlnet(desk: _Desk) -> None:
    """The ControlNet, and the base trained on beside it."""
    from toffee_hf.training.diffusion import new_controlnet, train_controlnet

    base = desk.base
    model = desk.begin(new_controlnet(base), "controlnet")
    control, unet = train_controlnet(model, desk.pool, desk.captions("controlnet"), base, desk.schedule,
                                     desk.folder / "controlnet", desk.seed)
    desk.save(control, "controlnet")
    desk.save(unet, "unet")


def _consistency(desk: _Desk) -> None:
    from diffusers import ControlNetModel
    from transformers import DepthAnythingForDepthEstimation

    from toffee_hf.training.diffusion import train_consistency

    control, depth = desk.load(ControlNetModel, "controlnet"), desk.load(DepthAnythingForDepthEstimation, "depth")
    found = train_consistency(control, desk.pool, desk.captions("consistency"), desk.base, desk.autoencoder, depth,
                              desk.schedule, desk.folder / "consistency", desk.seed)
    desk.save(found, "controlnet")


def _drafts(desk: _Desk) -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    from toffee_hf.training.diffusion import draw_drafts, noise_schedule

    tokenizer, clip = desk.text
    pipeline = StableDiffusionControlNetPipeline(
        vae=desk.autoencoder, text_encoder=clip.text_model, tokenizer=tokenizer, unet=desk.base,
        controlnet=desk.load(ControlNetModel, "controlnet"), scheduler=noise_schedule(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False).to(desk.pool.place.device)
    pipeline.set_progress_bar_config(disable=True)
    batch_size = desk.schedule.batch_size
    count = min(desk.schedule.steps * batch_size, len(desk.pool) // ROWS_A_DRAFT)
    draw_drafts(desk.pool, pipeline, max(1, count), desk.seed, batch_size)


def _refiner(desk: _Desk) -> None:
    from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
    from toffee_hf.training.diffusion import train_refiner

    dino = desk.dino
    model = desk.begin(ToffeeRefinerUNet.from_unet(desk.base, feature_dim=dino.config.hidden_size), "refiner")
    found = train_refiner(model, desk.pool, desk.captions("refiner"), desk.autoencoder, dino, desk.schedule,
                          desk.folder / "refiner", desk.seed)
    desk.save(found, "refiner")


def _estimates(desk: _Desk) -> None:
    from transformers import DepthAnythingForDepthEstimation

    from toffee_hf.training.pool import estimate_pool

    estimate_pool(desk.pool, desk.load(DepthAnythingForDepthEstimation, "depth"))


def _axis(desk: _Desk) -> None:
    from toffee_hf.models.toffee_axis import ToffeeAxis
    from toffee_hf.training.axis import fit_pool, train_axis

    fit_pool(desk.pool)
    model = desk.begin(ToffeeAxis(), "axis")
    desk.save(train_axis(model, desk.pool, desk.schedule, desk.folder / "axis", desk.seed), "axis")


def _view(desk: _Desk) -> None:
    from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
    from toffee_hf.training.diffusion import train_view

    dino = desk.dino
    model = ToffeeViewUNet.from_unet(desk.base, feature_dim=2 * dino.config.hidden_size, patches=PATCHES)
    found = train_view(desk.begin(model, "view"), desk.pool, desk.captions("view"), desk.autoencoder, dino,
                       desk.schedule, desk.folder / "view", desk.seed)
    desk.save(found, "view")


def _classifier(desk: _Desk) -> None:
    from toffee_hf.training.classifier import new_classifier, train_classifier

    model = desk.begin(new_classifier(), "classifier")
    desk.save(train_classifier(model, desk.pool, desk.schedule, desk.folder / "classifier", desk.seed), "classifier")


TRAINERS: Mapping[str, Callable[[_Desk], None]] = MappingProxyType({
    "autoencoder": _autoencoder, "latents": _latents, "decoder": _decoder, "clip": _clip, "words": _words,
    "dino": _dino, "domain": _domain, "segmenter": _segmenter, "depth": _depth, "base": _base,
    "classifier": _classifier, "controlnet": _controlnet, "consistency": _consistency,
    "drafts": _drafts, "refiner": _refiner, "view": _view,
    "estimates": _estimates, "axis": _axis,
})


def spent(folder: Path, start: Path | None) -> dict[str, dict[str, float]]:
    """Pictures, minutes of one core and minutes of a GPU that each job's models have cost, those of the starting family
    included."""
    budget = folder / "budget.json"
    device = json.loads(budget.read_text()).get("device", "cpu") if budget.exists() else "cpu"
    before = _spent_before(folder, start)
    found: dict[str, dict[str, float]] = {**before}
    for name in JOBS:
        log = folder / name / "log.jsonl"
        if log.exists():
            last = json.loads(log.read_text().splitlines()[-1])
            old = before.get(name, {"samples": 0, "minutes": 0.0})
            of = "gpu_minutes" if JOBS[name].gpu and device == "cuda" else "minutes"
            found[name] = {**old, "samples": old["samples"] + last["samples"],
                           of: round(old.get(of, 0.0) + last["minutes"], 1)}
    return found


def _spent_before(folder: Path, start: Path | None) -> dict[str, dict[str, float]]:
    """What a starting family had cost when it was first asked, for this work may be installed over it."""
    if start is None:
        return {}
    notes = folder / "start.json"
    known: dict[str, dict[str, dict[str, float]]] = json.loads(notes.read_text()) if notes.exists() else {}
    if str(start) not in known:
        costs = start / SPENT
        known[str(start)] = json.loads(costs.read_text()) if costs.exists() else {}
        folder.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(known) + "\n")
    return known[str(start)]


def _placeless(config: Any) -> Any:
    """A configuration without the folder that its model was loaded from."""
    if isinstance(config, dict):
        return {key: _placeless(value) for key, value in config.items() if key != "_name_or_path"}
    return config


def install(folder: Path, family: Path, start: Path | None = None) -> int:
    """Write the trained members and what they cost to `family`, fp16 safetensors; returns the bytes written.

    An editor there was trained over the base that was there, and goes with it.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.rmtree(family / "editor", ignore_errors=True)
    members = [job.member for job in JOBS.values() if job.member] + ["tokenizer", "scheduler"]
    for member in members:
        target = family / member
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "models" / member, target)
        for path in target.glob("*.safetensors"):
            tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
            save_file(tensors, path, metadata={"format": "pt"})
        for path in target.glob("config.json"):
            path.write_text(json.dumps(_placeless(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
    (family / SPENT).write_text(json.dumps(spent(folder, start), indent=1) + "\n")
    return sum(path.stat().st_size for path in family.rglob("*") if path.is_file())


if __name__ == "__main__":
    _folder, _job, _minutes, _seed, _device, *_start_from = sys.argv[1:]
    run_job(Path(_folder), _job, Budget(minutes=float(_minutes), seed=int(_seed), device=_device,
                                        start=Path(_start_from[0]) if _start_from else None))
