"""DreamBooth-LoRA: it learns its one picture, stops where its own best is near, and leaves the family as it was."""

import pytest
import torch

from toffee_hf.evaluation import dreambooth as module
from toffee_hf.evaluation import ways
from toffee_hf.evaluation.dreambooth import Tuning, dreambooth
from toffee_hf.evaluation.heldout import references, subjects

pytestmark = pytest.mark.usefixtures("small_toys", "one_step")
PROMPTS = ["a mug on the moon", "a sketch of a mug in the snow"]


@pytest.fixture
def one_step(monkeypatch):
    monkeypatch.setattr(ways, "DRAFT_STEPS", 1)


@pytest.fixture
def shown():
    return references(subjects("held-out", 0, 1) * 2)


@pytest.mark.parametrize(("quality", "chosen"), [([10, 12, 15.9, 16, 16.05], 6), ([16, 12, 10, 9, 9], 2),
                                                 ([10, 11, 12, 13, 14], 10)])  # fmt: skip
def test_the_first_checkpoint_near_the_best_counts(family, shown, monkeypatch, quality, chosen):
    left = list(quality)
    monkeypatch.setattr(module, "psnr_inside", lambda x, truth, mask: torch.tensor([float(left.pop(0))]))
    found = dreambooth(family, shown, shown, PROMPTS, shown, Tuning(steps=10, every=2, batch_size=1, rank=2))
    assert found.steps == chosen and left == []
    assert found.x.shape == shown.x.shape and found.tuning_s > 0 and found.sampling_s > 0


def test_tuning_changes_the_pictures_and_not_the_family(family, shown):
    before = {k: v.clone() for k, v in family.unet.state_dict().items()}
    settings = {"steps": 4, "every": 4, "batch_size": 2, "rank": 2}
    tuned = dreambooth(family, shown, shown, PROMPTS, shown, Tuning(**settings, learning_rate=0.05))
    again = dreambooth(family, shown, shown, PROMPTS, shown, Tuning(**settings, learning_rate=0.05))
    barely = dreambooth(family, shown, shown, PROMPTS, shown, Tuning(**settings, learning_rate=1e-9))
    assert torch.equal(tuned.x, again.x), "the same seed"
    assert (tuned.x - barely.x).abs().mean() > 1e-3
    assert family.draft_pipeline.unet is family.unet
    assert family.unet.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in family.unet.state_dict().items())


def test_its_loss_falls_on_its_picture(family, shown):
    torch.manual_seed(0)
    losses, loss = [], module._velocity_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_velocity_loss", lambda *given: losses.append(loss(*given)) or losses[-1])
        list(module._checkpoints(family, shown, Tuning(steps=60, every=60, learning_rate=1e-2), 0))
    values = [value.item() for value in losses]
    assert sum(values[-20:]) < 0.95 * sum(values[:20])
