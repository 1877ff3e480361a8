"""Training of the evaluation's classifier: it is asked what the picture shows, in pictures worn but recognisable."""

import pytest
import torch
from torch import nn

from tests.tiny_family import small_classifier
from toffee_hf.toy.world import toy_subject
from toffee_hf.training import classifier as module
from toffee_hf.training.classifier import QUESTIONS, new_classifier, subject_alone, train_classifier, worn
from toffee_hf.training.loop import Schedule
from toffee_hf.training.pool import SHOTS, pool_shots

TWO = Schedule(steps=2, learning_rate=1e-3, batch_size=8)


class Numbers:
    """A pool of flat pictures that tell their row by their brightness."""

    people = [toy_subject("train", i) for i in range(9)]
    shots = [shot for subject in people for shot in pool_shots(subject)]

    def __len__(self):
        return len(self.shots)

    def pictures(self, field, index):
        assert field == "image", "the styled picture, since its style is asked for"
        return index.float()[:, None, None, None].expand(-1, 3, 16, 16) / 100

    def planes(self, field, index):
        return torch.ones(len(index), 1, 16, 16)


class Knows(nn.Module):
    """Answers rightly, by the row; but, `spoilt`, not which scene is behind a subject shown alone."""

    def __init__(self, spoilt=False):
        super().__init__()
        self.spoilt = spoilt

    def forward(self, x):
        value = x[:, 0, 0, 0]
        rows = ((value - 0.5 * (value > 0.45)) * 100).round().int().tolist()
        truth = {"scene": [Numbers.shots[i].scene for i in rows], "style": [Numbers.shots[i].style for i in rows],
                 "class": [Numbers.people[i // SHOTS].class_name for i in rows]}
        found = {name: torch.eye(len(answers))[[answers.index(word) for word in truth[name]]] * 50
                 for name, answers in QUESTIONS.items()}
        if self.spoilt:
            found["scene"] = torch.where(value[:, None] > 0.45, found["scene"].roll(1, -1), found["scene"])
        return found


@pytest.fixture
def terms(monkeypatch, tmp_path):
    """The terms of one step's loss for a model, pictures unworn; a subject alone is half a unit brighter."""
    monkeypatch.setattr(module, "worn", lambda x, generator: x)
    monkeypatch.setattr(module, "subject_alone", lambda x, mask: x + 0.5)

    def of(model):
        found = {}
        monkeypatch.setattr(module, "fit", lambda name, model, loss, *_: found.update(
            loss(0, torch.Generator().manual_seed(0))))
        train_classifier(model, Numbers(), Schedule(steps=1, learning_rate=1e-3, batch_size=64), tmp_path, 0)
        return {name: value.item() for name, value in found.items()}

    return of


def test_questions_are_asked_of_the_right_rows(terms):
    found = terms(Knows())
    assert {name: found[name] for name in QUESTIONS} == {"scene": 1.0, "style": 1.0, "class": 1.0}


def test_of_a_subject_alone_no_scene_is_asked(terms):
    right, spoilt = terms(Knows()), terms(Knows(spoilt=True))
    assert spoilt["scene"] < 0.95 and spoilt["loss"] == pytest.approx(right["loss"], rel=1e-4)


def test_a_subject_alone_fills_the_frame_and_keeps_its_proportions():
    x, mask = torch.full((2, 3, 64, 64), -1.0), torch.zeros(2, 1, 64, 64)
    mask[0, :, 40:56, 8:24] = 1                        # a square in a corner
    mask[1, :, 28:36, 16:48] = 1                       # four times as wide as high, in the middle
    x = torch.where(mask > 0, torch.ones_like(x), x)
    square, flat = subject_alone(x, mask)
    assert square[:, 2:-2, 2:-2].min() > 0.99
    assert flat[:, 26:38, 2:-2].min() > 0.99 and flat[:, :22].max() < -0.99 and flat[:, 42:].max() < -0.99
    assert torch.allclose(subject_alone(x, torch.ones_like(mask)), x, atol=1e-4)


def test_it_trains_on_the_pool(toys, tmp_path):
    torch.manual_seed(0)
    model = small_classifier()
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = train_classifier(model, toys, TWO, tmp_path, 0)
    assert found is model and not model.training
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters() if name.startswith("heads"))


def test_a_new_one_asks_every_question():
    assert new_classifier().config.questions == QUESTIONS
    assert all(len(set(answers)) == len(answers) > 3 for answers in QUESTIONS.values())


def test_pictures_are_worn_by_the_generator_alone(toys):
    x = toys.pictures("image", torch.arange(12))
    once, again = (worn(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(once, again) and once.shape == x.shape
    assert not torch.equal(once, worn(x, torch.Generator().manual_seed(4)))
    assert once.abs().max() < 1.6 and torch.isfinite(once).all()
    assert once.mean().item() == pytest.approx(x.mean().item(), abs=0.02), "no picture loses its light"
