"""The training loop that all models share: seeded by step, so that a resumed run is the same run."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from toffee_hf.errors import DiskFull, InputError, RunError

SAVE_EVERY_S = 90.0
WARM_UP = 3                           # steps before one is recorded
STATE, LOG = "state.safetensors", "log.jsonl"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Loss = Callable[[int, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast to train: linear warm-up, then a cosine to a tenth of the rate."""

    steps: int
    learning_rate: float
    batch_size: int
    warmup: float = 0.05              # part of the steps
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0                 # largest norm of the gradient

    def rate(self, step: int) -> float:
        """Learning rate at `step` in [0, steps)."""
        rising = max(1.0, self.steps * self.warmup)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(1.0, self.steps - rising)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a loss is computed. precision: `no`, or `bf16` for autocast."""

    device: torch.device = torch.device("cpu")
    precision: str = "no"

    @contextmanager
    def entered(self, recorded: bool = False) -> Iterator[None]:
        """New tensors on the device, matrix products at the precision; a recorded step casts its weights every time."""
        with ExitStack() as stack:
            if self.device.type != "cpu":
                stack.enter_context(self.device)
            if self.precision == "bf16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16, cache_enabled=not recorded))
            yield


CPU = Place()


@dataclass(frozen=True, kw_only=True, slots=True)
class Extras:
    """What a training on real data has besides; its log then has every step, and its state no frozen weights.

    accelerator: an accelerate.Accelerator, whose device and processes are used; precision: `no`, or `bf16` for
    autocast; fingerprint: of the configuration, which a state must share; every: steps between calls of `validate`
    with the number of steps done; track: sees every row of the log.
    """

    accelerator: Any = None
    precision: str = "no"
    fingerprint: str = ""
    every: int = 0
    validate: Callable[[int], None] | None = None
    track: Callable[[dict[str, float]], None] | None = None
    save_every_s: float = 600.0

    @property
    def place(self) -> Place:
        device = CPU.device if self.accelerator is None else self.accelerator.device
        return Place(device=device, precision=self.precision)

    @property
    def processes(self) -> int:
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        return 0 if self.accelerator is None else int(self.accelerator.process_index)

    def shared(self, value: Tensor) -> Tensor:
        """Mean over the processes."""
        return value if self.processes == 1 else self.accelerator.reduce(value, reduction="mean")

    def share_gradients(self, parameters: list[Tensor]) -> None:
        """Give every process the mean gradient; a parameter without one counts as zero."""
        if self.processes > 1:
            for p in parameters:
                p.grad = self.shared(torch.zeros_like(p) if p.grad is None else p.grad)


def step_generator(name: str, seed: int, step: int, rank: int = 0, device: torch.device | None = None
                   ) -> torch.Generator:
    """All randomness of one step in one process."""
    digest = hashlib.sha256((f"{name}/{seed}/{step}" + (f"/{rank}" if rank else "")).encode()).digest()
    return torch.Generator(device or "cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class _Recorded:
    """A step recorded as a CUDA graph and played again and again: launching a small model's kernels takes longer than
    they do. WARM_UP steps are done before, as the recording needs; they are not counted."""

    def __init__(self, advance: Callable[[torch.Generator], Any], device: torch.device, seed: int) -> None:
        self.device = device
        with torch.cuda.device(device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable.*")         # of the steps before
            generator = torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
            aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    advance(generator)
            here.wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.found = advance(generator)

    def __call__(self) -> Any:
        """What the step gives, in the tensors that it always gives it in."""
        with torch.cuda.device(self.device):
            self.graph.replay()
        return self.found


class _Learner:
    """The parameters of a module that learn, their optimizer and their moving average.

    On a GPU one step may be recorded, which then reads its rate and the average's share from the device.
    """

    def __init__(self, name: str, module: nn.Module, loss: Loss, schedule: Schedule, folder: Path, where: Place,
                 more: Extras, recorded: bool) -> None:
        self.name, self.loss, self.schedule, self.folder = name, loss, schedule, folder
        self.where, self.more, self.recorded = where, more, recorded and where.device.type == "cuda"
        module.to(where.device)
        self.trained = {key: p for key, p in module.named_parameters() if p.requires_grad}
        self.average = {key: p.detach().clone() for key, p in self.trained.items()}
        self.share = torch.zeros((), device=where.device)
        pace: dict[str, Any] = {"lr": schedule.learning_rate, "foreach": True}
        if self.recorded:
            pace = {"lr": torch.tensor(schedule.learning_rate, device=where.device), "fused": True, "capturable": True}
        self.optimizer = torch.optim.AdamW(self.trained.values(), betas=(0.9, 0.98),
                                           weight_decay=schedule.weight_decay, **pace)
        self.play: _Recorded | None = None
        self.found: tuple[dict[str, Tensor], Tensor] = {}, self.share

    def step(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Learn once; the named scalars of the loss. A recorded step is only looked at by `check`."""
        rate, share = self.schedule.rate(step), 1 - min(self.schedule.ema, (step + 1) / (step + 10))
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if self.recorded else rate
        if self.recorded:
            self.share.fill_(share)
            self.play = self.play or _Recorded(lambda own: self._advance(0, own, self.share), self.where.device,
                                               generator.initial_seed())
            self.found = self.play()
        else:
            self.found = self._advance(step, generator, share)
        return self.found[0]

    def _advance(self, step: int, generator: torch.Generator, share: float | Tensor
                 ) -> tuple[dict[str, Tensor], Tensor]:
        """The named scalars of one step, and the norm of its gradient."""
        latest: list[Tensor] = list(self.trained.values())
        with self.where.entered(self.recorded):
            terms = self.loss(step, generator)
        if not self.recorded:
            self._must_be_finite(step, "loss is", self.more.shared(terms["loss"].detach()))
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        self.more.share_gradients(latest)
        norm = torch.nn.utils.clip_grad_norm_(latest, self.schedule.clip, foreach=True)
        if not self.recorded:
            self._must_be_finite(step, "the gradient is", norm)
        self.optimizer.step()
        _renew(list(self.average.values()), [p.detach() for p in latest], share)
        return {key: value.detach() for key, value in terms.items()}, norm

    def check(self, step: int) -> None:
        """Raises FloatingPointError where the last step was not finite."""
        terms, norm = self.found
        self._must_be_finite(step, "loss is", terms["loss"])
        self._must_be_finite(step, "the gradient is", norm)

    def _must_be_finite(self, step: int, what: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise FloatingPointError(f"{self.name}: {what} {value.item()} at step {step} in {self.folder}")


def fit(name: str, module: nn.Module, loss: Loss, schedule: Schedule, folder: Path, seed: int = 0, *,
        place: Place = CPU, extras: Extras | None = None, recorded: bool = False,
        prepare: Callable[[int], None] | None = None) -> nn.Module:
    """Train the parameters of `module` that require gradients; return it with their moving average loaded.

    `loss(step, generator)` gives named scalars, of which "loss" is minimised. State is kept in `folder` (safetensors
    and JSON, written whole or not at all); on a CPU a killed run continues to the same parameters as an uninterrupted
    one. place: where it is done, unless `extras` has a place of its own; recorded: whether the loss touches nothing but
    tensors that stay on the device, so that a GPU may play one step again and again, by its default generator;
    prepare: called before each step, of which nothing is recorded.
    Raises FloatingPointError when the loss or its gradient is not finite, and DiskFull or RunError when nothing can be
    written; the last checkpoint stays. InputError if the state is of another fingerprint.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    more = extras or Extras()
    where = place if extras is None else extras.place
    learner = _Learner(name, module, loss, schedule, folder, where, more, recorded)
    trained, average = learner.trained, learner.average
    first, before_s = _restore(folder, module, learner.optimizer, average, extras)
    module.train()
    saved = time.monotonic()
    begun = saved - before_s
    pause = SAVE_EVERY_S if extras is None else extras.save_every_s
    steps = range(first, schedule.steps)
    for step in steps if extras is None else tqdm(steps, name, schedule.steps, initial=first, disable=None):
        if prepare is not None:
            prepare(step)
        terms = learner.step(step, step_generator(name, seed, step, more.rank, where.device))
        last = step + 1 == schedule.steps
        if more.rank != 0:
            continue
        with writing(folder):
            told = extras is not None or step % 50 == 0 or last
            due = more.every > 0 and ((step + 1) % more.every == 0 or last)
            save = due or last or time.monotonic() - saved > pause
            if told or save:
                learner.check(step)
            if told:
                _log(folder, name, step, schedule, terms, time.monotonic() - begun, extras)
            if due and more.validate is not None:
                with where.entered():
                    _validated(module, trained, average, more.validate, step + 1)
            if save:
                before = time.monotonic()
                _save(folder, step + 1, before - begun, module, learner.optimizer, average, extras)
                saved = time.monotonic()
                pause = pause if extras is None else max(pause, 10 * (saved - before))
    _load(trained, average)
    return module.eval()


@torch.no_grad()
def _renew(average: list[Tensor], latest: list[Tensor], share: float | Tensor) -> None:
    """Move the average by a share of its way to the latest values."""
    if isinstance(share, float):
        torch._foreach_lerp_(average, latest, share)
        return
    way = torch._foreach_sub(latest, average)
    torch._foreach_mul_(way, share)
    torch._foreach_add_(average, way)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Trouble with the disk, in the block, becomes DiskFull or RunError, which say how to go on."""
    try:
        yield
    except (OSError, SafetensorError) as err:
        if getattr(err, "errno", None) in _FULL or any(f"os error {code})" in str(err) for code in _FULL):
            raise DiskFull(f"no space left in {folder}; what is there is whole: make room, and give the same command "
                           "again to go on from the last checkpoint") from err
        raise RunError(f"{folder} cannot be written ({err}); the same command goes on from its last checkpoint"
                       ) from err


@torch.no_grad()
def _validated(module: nn.Module, trained: Mapping[str, Tensor], average: Mapping[str, Tensor],
               validate: Callable[[int], None], steps: int) -> None:
    """Call `validate` while the module has the average that it will end with; then it is as it was, bit for bit."""
    before = {key: p.clone() for key, p in trained.items()}
    _load(trained, average)
    module.eval()
    validate(steps)
    module.train()
    _load(trained, before)


@torch.no_grad()
def _load(trained: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for key, p in trained.items():
        p.copy_(values[key])


def _log(folder: Path, name: str, step: int, schedule: Schedule, terms: dict[str, Tensor], seconds: float,
         extras: Extras | None) -> None:
    digits = 5 if extras is None else 17                  # of a training on real data every bit
    samples = (step + 1) * schedule.batch_size * (1 if extras is None else extras.processes)
    row = {"step": step, **{k: round(v.item(), digits) for k, v in terms.items()}, "samples": samples,
           "minutes": round(seconds / 60, 2)}
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(row) + "\n")
    if extras is None:
        print(name, f"{step}/{schedule.steps}", row, flush=True)
    elif extras.track is not None:
        extras.track(row)


def _save(folder: Path, step: int, seconds: float, module: nn.Module, optimizer: torch.optim.Optimizer,
          average: dict[str, Tensor], extras: Extras | None) -> None:
    tensors = {f"module.{k}": v for k, v in module.state_dict().items() if extras is None or not _frozen(module, k)}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
    metadata = {"step": str(step), "seconds": f"{seconds:.1f}"}
    if extras is not None:
        metadata["fingerprint"] = extras.fingerprint
    part = folder / f"state.{os.getpid()}.part"
    dense = {k: v.to(device="cpu", memory_format=torch.contiguous_format, copy=extras is None)
             for k, v in tensors.items()}
    try:
        save_file(dense, part, metadata=metadata)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(folder / STATE)
    finally:
        part.unlink(missing_ok=True)


def _frozen(module: nn.Module, key: str) -> bool:
    """Whether `key` is a parameter that is not trained: it comes with the model again."""
    owner, _, name = key.rpartition(".")
    parameter = module.get_submodule(owner)._parameters.get(name)
    return parameter is not None and not parameter.requires_grad


def _restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor],
             extras: Extras | None) -> tuple[int, float]:
    """The step to go on from, and the seconds that were spent before."""
    path = folder / STATE
    found = state_of(folder)
    step = 0 if found is None else found.step
    if extras is not None and extras.rank == 0:
        _forget_after(folder, step)
    if found is None:
        return 0, 0.0
    if extras is not None and found.fingerprint != extras.fingerprint:
        raise InputError(f"{path} is a checkpoint of another configuration; give the same settings as before, or "
                         "another folder")
    tensors = load_file(path)
    module.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("module.")}, strict=extras is None)
    for key in average:
        average[key].copy_(tensors[f"average.{key}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, held in optimizer.state.items():       # laid out as their parameters, which fused steps ask for
        held |= {key: torch.empty_like(parameter).copy_(value) for key, value in held.items()
                 if value.dim() and value.shape == parameter.shape}
    return found.step, found.seconds


@dataclass(frozen=True, slots=True)
class State:
    """What a checkpoint says of itself: steps done, seconds spent, the configuration it belongs to."""

    step: int
    seconds: float
    fingerprint: str


def state_of(folder: Path) -> State | None:
    """The checkpoint in a folder, if there is one. Raises InputError for one that cannot be read."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as opened:
            said = opened.metadata() or {}
        return State(int(said["step"]), float(said.get("seconds", 0)), said.get("fingerprint", ""))
    except (SafetensorError, KeyError, ValueError) as err:
        raise InputError(f"{path} is no checkpoint ({err}); remove it to begin anew, or give another folder") from err


def _forget_after(folder: Path, step: int) -> None:
    """Leave rows of the log before `step`, which are not done again, and no part of a state that a kill cut short."""
    for part in folder.glob("state.*.part"):
        part.unlink()
    path = folder / LOG
    if path.exists():
        kept = [row for row in logged(folder) if row["step"] < step]
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in kept))
        part.replace(path)


def logged(folder: Path) -> list[dict[str, Any]]:
    """Rows of a training's log, none where there is no log; a last line that a kill cut short is left out."""
    rows: list[dict[str, Any]] = []
    if not (folder / LOG).exists():
        return rows
    for line in (folder / LOG).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
