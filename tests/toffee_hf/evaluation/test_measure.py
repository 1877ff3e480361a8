"""Measuring: every group says what it names, counts every subject once, and does not depend on batches."""

from types import SimpleNamespace

import pytest
import torch

from toffee_hf.evaluation import measure as measuring
from toffee_hf.evaluation import ways
from toffee_hf.evaluation.figures import psnr_inside
from toffee_hf.evaluation.heldout import asked, references, subjects
from toffee_hf.evaluation.measure import autoencoder_psnr, correlation, measure, named
from toffee_hf.family import open_family
from toffee_hf.toy.world import toy_subject


class Perfect:
    """An autoencoder that loses nothing, or as much as it is told."""

    def __init__(self, off=0.0):
        self.off = off

    def latents(self, x):
        return x

    def pictures(self, z):
        return torch.where(z > 0, z - self.off, z + self.off)


@pytest.mark.parametrize(("off", "db"), [(0.0, 80.0), (0.2, 20.0)])
def test_the_autoencoders_figure_is_its_error(small_toys, off, db):
    figure = autoencoder_psnr(Perfect(off), 3)
    assert (figure.mean, figure.n) == (pytest.approx(db, abs=0.01), 3)
    measured = measure(SimpleNamespace(vae=Perfect(off)), 3, ("autoencoder",))
    assert measured["autoencoder, any style: PSNR in the mask"] == figure
    assert measured["autoencoder, photos: PSNR in the mask"].mean == pytest.approx(db, abs=0.01)


def test_correlation_is_of_the_mask_alone():
    plane = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    garbled = torch.where(mask > 0, 3 * plane - 1, -plane)
    planes, masks = plane.expand(3, -1, -1, -1), torch.cat([mask, 1 - mask, torch.ones_like(mask)])
    inside, outside, whole = correlation(garbled.expand(3, -1, -1, -1), planes, masks).tolist()
    assert (inside, outside) == (pytest.approx(1, abs=1e-5), pytest.approx(-1, abs=1e-5)) and abs(whole) < 0.9


def test_named_holds_each_answer_against_the_wish(classifier):
    people = subjects("held-out", 0, 3)
    wish = asked(people, "style")
    scenes, styles = [shot.scene for shot in wish.shots], [shot.style for shot in wish.shots]
    answers = classifier(scenes, [styles[0], "none", styles[2]], ["mug", "mug", "vase"])
    found = named(SimpleNamespace(classifier=answers), torch.zeros(3, 3, 8, 8), wish, [s.class_name for s in people])
    assert {what: values.tolist() for what, values in found.items()} == {
        "scene": [1, 1, 1], "style": [1, 0, 1], "class": [1, 0, 1]}  # fmt: skip


def test_a_group_sees_every_subject_once_in_batches(monkeypatch):
    seen = []

    def group(family, people):
        seen.append([s.index for s in people])
        return {"index": torch.tensor([float(s.index) for s in people])}

    monkeypatch.setattr(measuring, "GROUPS", {"one": group, "other": lambda *_: pytest.fail("not asked for")})
    monkeypatch.setattr(measuring, "BATCH", 4)
    assert measure(None, 9, ("one",))["index"].mean == 4
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_every_group_measures_every_subject_and_batches_do_not_matter(family, small_toys, monkeypatch):
    """Groups of generated pictures on a family of random weights: names, counts and ranges, not quality."""
    monkeypatch.setattr(ways, "DRAFT_STEPS", 2)
    monkeypatch.setattr(measuring, "BATCH", 2)
    found = measure(family, 3)
    assert {name: figure.n for name, figure in found.items() if figure.n != 3} == {}, "no two groups share a name"
    for name, figure in found.items():
        low, high = (0, 80) if "PSNR" in name else (0, 1) if "right" in name or "IoU" in name else (-1, 1)
        assert low <= figure.mean <= high, (name, figure)
    for kind in ("photo", "style"):
        ways_of_kind = {name for name in found if name.startswith(f"{kind} prompts") and "PSNR" in name}
        assert len(ways_of_kind) == 3 * 2 + 2 + 2, "pasted, refined, as built in two poses; turned; draft; truth"
    monkeypatch.setattr(measuring, "BATCH", 3)
    again = measure(family, 3, ("perception", "classifier"))
    assert again and all(found[name].mean == pytest.approx(figure.mean, abs=0.011) for name, figure in again.items())


def test_the_shipped_autoencoder_passes_its_gate_loosely():
    assert autoencoder_psnr(open_family("tiny", "cpu").vae, 12).mean > 27


@torch.no_grad()
def test_the_shipped_refiner_beats_its_draft():
    family = open_family("tiny", "cpu")
    people = [toy_subject("held-out", i) for i in (2, 8)]
    shown = references(people)
    prompts = ["a photo of a vase on the beach", "a photo of a rocket in a meadow"]
    draft = ways.drafts(family, shown, prompts, ["photo", "photo"])
    near = [psnr_inside(x, shown.x, shown.mask).mean().item()
            for x in (draft.x, ways.refined(family, draft, shown, shown, prompts))]
    assert near[1] > near[0] + 2, near
