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
from toffee_hf.training import diffusion, loop
from toffee_hf.training.ahead import Ahead
from toffee_hf.training.diffusion import UNET, Captions, new_controlnet
from toffee_hf.training.loop import CPU, Place, Schedule, _renew, fit
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
    monkeypatch.setattr(module, "KEPT", 20)
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
    assert len(seen[0] & seen[-1]) < 3


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
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        assert name not in FROM_OUTSIDE, func
        assert name != "__getitem__" or not _lists(args[1]), "an index that has to be brought there"
        for x in (*args, *kwargs.values()):
            assert not isinstance(x, Tensor) or x.device.type == "meta" or not x.dim(), (func, x.device)
            assert not isinstance(x, torch.Generator), func
        return func(*args, **kwargs)


def _lists(index):
    return isinstance(index, list) or isinstance(index, tuple) and any(isinstance(i, list) for i in index)


@pytest.mark.parametrize("slip", [
    lambda x: torch.zeros(3, device="cpu").to(x.device), lambda x: x.copy_(torch.zeros(3, device="cpu")),
    lambda x: x[[0, 2]], lambda x: x.new_tensor([1.0]), lambda x: x.sum().item(),
])
def test_a_slip_is_seen(slip):
    with pytest.raises(AssertionError), OnlyThere():
        slip(torch.zeros(3, device="meta"))


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
def test_a_recorded_training_learns_and_goes_on(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 1))
    calls = []

    def loss(step, generator):
        calls.append(step)
        x = torch.randn(64, 3, generator=generator)
        return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}

    place = Place(device=torch.device("cuda"), precision="bf16")
    schedule = Schedule(steps=300, learning_rate=2e-2, batch_size=64)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    with pytest.raises(RuntimeError, match="enough"):
        fit("small", model, loss, schedule, tmp_path, place=place, recorded=True, prepare=until(100))
    fit("small", model, loss, schedule, tmp_path, place=place, recorded=True, prepare=until(300))
    x = torch.randn(64, 3, device="cuda")
    assert (model(x) - x.sum(1, keepdim=True)).square().mean() < 0.2 and len(calls) == 2 * (loop.WARM_UP + 1)


def until(end):
    def prepare(step):
        if step >= end:
            raise RuntimeError("enough")

    return prepare


def test_on_a_cpu_nothing_is_recorded_and_each_step_prepared(tmp_path):
    def trained(folder, **options):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss(step, generator):
            return {"loss": model(torch.randn(8, 3, generator=generator)).square().mean()}

        fit("small", model, loss, SCHEDULE, folder, **options)
        return model.weight

    steps = []
    assert torch.equal(trained(tmp_path / "a"), trained(tmp_path / "b", recorded=True, prepare=steps.append))
    assert steps == [0, 1]


def test_the_average_moves_by_its_share():
    average, latest = [torch.ones(3), torch.zeros(2)], [torch.zeros(3), torch.full((2,), 4.0)]
    other = [x.clone() for x in average]
    _renew(average, latest, 0.25)
    _renew(other, latest, torch.tensor(0.25))
    assert [x.tolist() for x in average] == [x.tolist() for x in other] == [[0.75] * 3, [1.0] * 2]
