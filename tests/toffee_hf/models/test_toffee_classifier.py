"""The evaluation's classifier: one answer to each question, in the words of the questions."""

import json

import pytest
import torch

from tests.tiny_family import small_classifier, stirred
from toffee_hf.models.toffee_classifier import ToffeeClassifier
from toffee_hf.training.classifier import QUESTIONS


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
@torch.no_grad()
def test_logits_come_for_each_question(family, size):
    found = family.classifier(torch.rand(3, 3, *size) * 2 - 1)
    assert {name: logits.shape for name, logits in found.items()} == {
        name: (3, len(answers)) for name, answers in QUESTIONS.items()}  # fmt: skip


@torch.no_grad()
def test_answers_are_the_names_of_the_largest_logits(family, picture):
    logits, found = family.classifier(picture), family.classifier.answers(picture)
    assert set(found) == set(QUESTIONS) == {"scene", "style", "class"}
    for name, words in found.items():
        assert words == [QUESTIONS[name][row.argmax()] for row in logits[name]]


@torch.no_grad()
def test_each_answer_can_be_given(picture):
    model = small_classifier().eval()
    for name, answers in QUESTIONS.items():
        for i, answer in enumerate(answers):
            model.heads[name].bias.zero_()[i] = 1e3
            assert model.answers(picture)[name] == [answer, answer]


@torch.no_grad()
def test_a_picture_is_judged_by_itself(family, picture):
    together = family.classifier(picture)
    for i in range(2):
        alone = family.classifier(picture[i : i + 1])
        assert all((alone[name][0] - logits[i]).abs().max() < 1e-4 for name, logits in together.items())
    assert any((logits[0] - logits[1]).abs().max() > 1e-4 for logits in together.values())


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_answers(tmp_path, picture):
    torch.manual_seed(0)
    made = stirred(small_classifier(), 0.3)
    made.save_pretrained(tmp_path)
    again = ToffeeClassifier.from_pretrained(tmp_path).eval()
    assert again.answers(picture) == made.answers(picture)
    assert all(torch.equal(again(picture)[name], logits) for name, logits in made(picture).items())
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["questions"] == QUESTIONS and saved["widths"] == [8, 8, 16]


def test_gradients_reach_every_parameter(picture):
    model = small_classifier()
    torch.stack([logits.square().mean() for logits in model(picture).values()]).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
