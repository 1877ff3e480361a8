"""Examples made ahead, and steps that touch nothing but the device, as a recording of them needs."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.tiny_family import FEATURES
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.models.toffee_view_unet import ToffeeViewUNet
from toffee_hf.training import ahead as module
from toffee_hf.training import diffusion
from toffee_hf.training.ahead import Ahead
from toffee_hf.training.diffusion import UNET, Captions, new_controlnet
from toffee_hf.training.loop import CPU, Place, Schedule, fit
from toffee_hf.training.pool import Pool

META = Place(device=torch.device("meta"))
SCHEDULE = Schedule(steps=2, learning_rate=1e-3, batch_size=4)
FROM_OUTSIDE = ("tensor", "as_tensor", "new_tensor", "from_numpy", "item", "tolist", "cpu", "numpy", "nonzero")


@dataclass(frozen=True)
class Example:
    plane: Tensor
    turn: Tensor
    seen: Tensor


def drawn(generator):
    number = torch.randint(1000, (4,), generator=generator)
    return Example(number[:, None, None].expand(4, 2, 3) / 8, number / 7, number[:, None] > 500), number


def test_what_is_picked_is_what_was_made(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 5)
    monkeypatch.setattr(module, "AT_FIRST", 3)
    ahead, seen = Ahead(drawn, CPU, "some", 0), []
    for step in range(40):
        ahead.renew(step)
        example, rows = ahead.pick(64, torch.Generator().manual_seed(step))
        assert example.plane.shape == (64, 2, 3) and example.plane.dtype == torch.float32
        assert torch.equal(example.plane, (rows[:, None, None] / 8).half().float().expand(64, 2, 3))
        assert torch.equal(example.turn, rows / 7) and torch.equal(example.seen, rows[:, None] > 500)
        seen.append(set(rows.tolist()))
    assert ahead.made == 3 + len(range(module.EVERY, 40, module.EVERY)) and max(map(len, seen)) <= 20
    assert len(set.union(*seen)) > 40, "old ones give way"
    assert not seen[0] & seen[-1] or len(seen[0] & seen[-1]) < 3


def test_the_seed_decides_what_is_made():
    found = []
    for seed in (0, 0, 1):
        ahead = Ahead(drawn, CPU, "some", seed)
        ahead.renew(0)
        found.append(ahead.pick(8, torch.Generator().manual_seed(0))[1].tolist())
    assert found[0] == found[1] != found[2]


def test_captions_that_are_held_are_those_of_their_rows(toys, family, monkeypatch):
    captions = Captions(toys, family.tokenizer, family.text_encoder, "some")
    monkeypatch.setattr(toys, "caption", lambda i, choice: f"a photo of a {('mug', 'boat', 'duck')[i % 3]}")
    captions.hold()
    index = torch.arange(len(toys)).repeat(40)
    found = captions(index, 0)
    words = family.hidden_states([f"a photo of a {name}" for name in ("mug", "boat", "duck")])
    own = (found - words[index % 3]).abs().amax((1, 2)) < 0.01
    none = (found - family.hidden_states([""])).abs().amax((1, 2)) < 0.01
    assert (own | none).all() and 0.04 < none.float().mean() < 0.25


class OnlyThere(TorchFunctionMode):
    """No value may come from the host or go to it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert getattr(func, "__name__", "") not in FROM_OUTSIDE, func
        return func(*args, **(kwargs or {}))


@pytest.fixture
def recorded(monkeypatch):
    """Losses that ask to be recorded, by name."""
    found = {}

    def fit(name, model, loss, *arguments, recorded=False, prepare=None, **options):
        assert recorded
        found[name] = loss, prepare

    monkeypatch.setattr(diffusion, "fit", fit)
    return found


def test_recorded_losses_touch_nothing_but_the_device(toys, family, recorded, monkeypatch, tmp_path):
    """A device without memory stands for a GPU."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**{**UNET, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 16, 16),
                                   "cross_attention_dim": 64, "attention_head_dim": 2})
    pool = Pool(toys.folder, META)
    view = ToffeeViewUNet.from_unet(unet, feature_dim=2 * FEATURES, patches=256)
    refiner, control = ToffeeRefinerUNet.from_unet(unet, feature_dim=FEATURES), new_controlnet(unet)
    made = {"refiner": diffusion.refiner_examples, "view": diffusion.view_examples}
    for name, examples in made.items():       # these are made beforehand, on a CPU here
        monkeypatch.setattr(diffusion, f"{name}_examples", _made_on_a_cpu(examples, toys, family))
    vae, dino, depth = (_away(model) for model in (family.vae, family.dino, family.depth))
    captions = Captions(pool, family.tokenizer, Words(len(family.tokenizer), 64), "some")
    for model in (unet, view, refiner, control):
        model.to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())    # which this device lacks
    monkeypatch.setattr(module, "step_generator", lambda *arguments, **options: None)
    rest = SCHEDULE, tmp_path, 0
    diffusion.train_base(unet, pool, captions, *rest)
    diffusion.train_controlnet(control, pool, captions, unet, *rest)
    diffusion.train_consistency(control, pool, captions, unet, vae, depth, *rest)
    unet.requires_grad_(True)
    diffusion.train_refiner(refiner, pool, captions, vae, dino, *rest)
    diffusion.train_view(view, pool, captions, vae, dino, *rest)
    assert set(recorded) == {"base", "controlnet", "consistency", "refiner", "view"}
    for name, (loss, prepare) in recorded.items():
        assert (prepare is None) == (name not in made)
        for step in (0, 1):
            if prepare is not None:
                prepare(step)
            if step == 0:                      # the first time rows are fetched to where they are held
                with META.entered():
                    loss(step, None)
        with OnlyThere(), META.entered():
            found = loss(1, None)["loss"]
        assert found.device.type == "meta" and found.shape == () and found.requires_grad, name


class Words(nn.Embedding):
    """A text encoder."""

    def forward(self, ids):
        return SimpleNamespace(last_hidden_state=super().forward(ids))


def _away(model):
    return copy.deepcopy(model).to("meta")


def _made_on_a_cpu(examples, toys, family):
    def make(pool, *arguments):
        index = [x.new_zeros(x.shape, device="cpu") for x in arguments if isinstance(x, Tensor)]
        with torch.device("cpu"):
            example = examples(toys, *index, family.vae, family.dino, torch.Generator().manual_seed(0))
        return type(example)(**{name: getattr(example, name).to("meta") for name in example.__slots__})

    return make


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_training_learns(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 1))
    calls = []

    def loss(step, generator):
        calls.append(step)
        x = torch.randn(64, 3, generator=generator)
        return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    place = Place(device=torch.device("cuda"), precision="bf16")
    fit("small", model, loss, Schedule(steps=300, learning_rate=2e-2, batch_size=64), tmp_path, place=place,
        recorded=True)
    x = torch.randn(64, 3, device="cuda")
    assert (model(x) - x.sum(1, keepdim=True)).square().mean() < 0.2 and len(calls) < 10
