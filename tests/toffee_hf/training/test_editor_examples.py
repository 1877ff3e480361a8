"""What an editor is told of a pair: the pipeline's own conditions, with parts left out, and where errors count."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tiny_family import FEATURES, LATENTS
from tests.toffee_hf.training.pair_data import write_dataset
from toffee_hf.pipelines.pipeline_toffee import conditions
from toffee_hf.training.backbone import TextCondition, open_backbone
from toffee_hf.training.editor import PairData, new_editor
from toffee_hf.training.editor_examples import EditorConfig, EditorExample, editor_loss, examples_of

NOTHING = {"reconstruction": 0.0, "drop_subject": 0.0, "told_depth": 0.0, "whole_reference": 0.0, "loose_mask": 0.0}


@pytest.fixture(scope="module")
def base(family):
    return open_backbone(str(family.folder))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two editing and two generation pairs, by turns."""
    folder = write_dataset(tmp_path_factory.mktemp("pairs"))
    return PairData(str(folder), EditorConfig(batch_size=4), 64).batch(0)


@pytest.fixture
def made(base, pairs):
    """Examples of the pairs with these shares; and with more of the backbone replaced."""
    torch.manual_seed(0)
    model = new_editor(base, EditorConfig(), 64)

    def make(backbone=base, pairs=pairs, seed=0, **shares):
        return examples_of(pairs, backbone, base.editor_pipeline(model), EditorConfig(**{**NOTHING, **shares}),
                           torch.Generator().manual_seed(seed))

    return make


def parts(example):
    """source, mask, depth, told, hint, shown of the space."""
    return example.told["space"].split([LATENTS, 1, 1, 1, LATENTS, 1], 1)


class Of:
    """Subjects as the pipeline has them."""

    region = None

    def __init__(self, x, mask):
        self.x, self.mask = x[:, None], mask[:, None]


def test_it_is_what_the_pipeline_tells(base, pairs, made):
    example = made()
    wanted = conditions(base.encode, pairs.source, pairs.mask, None, Of(pairs.reference, pairs.reference_mask), 8)
    assert torch.equal(example.told["space"], wanted)
    assert torch.equal(example.clean, base.encode(pairs.target)) and not parts(example)[3].any()
    assert example.told["subjects"].shape == (4, 1, 64, 2 * FEATURES)
    assert example.told["weights"].shape == (4, 1, 8, 8) and (example.told["weights"] == 1).all()
    whole = pairs.mask.flatten(1).all(1)
    assert whole.any() and not whole.all()
    assert torch.equal(example.drawn.flatten(1).all(1), whole)
    assert torch.equal(example.inside, F.avg_pool2d(pairs.target_mask, 8))


def test_in_reconstruction_the_target_is_its_own_reference(base, pairs, made):
    wanted = conditions(base.encode, pairs.source, pairs.mask, None, Of(pairs.target, pairs.target_mask), 8)
    assert torch.equal(made(reconstruction=1.0).told["space"], wanted)


def test_a_dropped_subject_counts_nowhere(made):
    told = made(drop_subject=1.0).told
    assert not told["weights"].any() and not told["space"][:, -1].any() and made().told["space"][:, -1].any()


def test_a_whole_reference_shows_every_patch(made):
    patches = made(whole_reference=1.0).told["subject_patches"]
    assert patches.all() and not made().told["subject_patches"].all()


def test_a_loose_mask_is_the_box_of_the_mask_or_the_ellipse_in_it_and_lays_the_subject_where_it_was(base, pairs, made):
    edits = ~pairs.mask.flatten(1).all(1)
    tight = torch.zeros_like(pairs.mask)
    tight[..., 4:60, 4:60] = ((torch.arange(56)[:, None] // 8 + torch.arange(56) // 8) % 2).float()
    pairs = replace(pairs, mask=torch.where(edits[:, None, None, None], tight, pairs.mask))
    strict, loose = parts(made(pairs=pairs)), parts(made(pairs=pairs, loose_mask=1.0))
    assert torch.equal(strict[5], loose[5])                                        # where the subject is laid
    assert torch.equal(strict[1][~edits], loose[1][~edits]) and edits.sum() == 2
    kinds = set()
    for seed in range(8):
        cells = made(pairs=pairs, seed=seed, loose_mask=1.0).drawn[edits].flatten(1)
        kinds |= {int(n) for n in cells.sum(1)}
    assert kinds == {60, 64}


def test_depth_is_told_of_some_of_the_subject_alone_or_of_the_picture(base, pairs, made):
    asked = []

    def rising(x):
        asked.append(len(x))
        return torch.linspace(1, 3, 32).expand(len(x), 1, 32, 32)         # of another size than the pictures

    with_depth = replace(base, find_depth=rising)
    pairs = replace(pairs, target_mask=torch.zeros_like(pairs.target_mask))
    pairs.target_mask[..., 16:48, 16:48] = 1
    _, _, depth, told, _, _ = parts(made(with_depth, pairs, told_depth=1.0))
    assert asked == [4] and (told == 1).all()
    shares = (depth > 0).float().mean((1, 2, 3))
    assert all(share in (0.25, 1.0) for share in shares.tolist()) and len(set(shares.tolist())) == 2
    assert all(0.9 < plane.max() <= 1 for plane in depth)
    assert depth[depth > 0].min() >= 0.25
    _, _, depth, told, _, _ = parts(made(with_depth, pairs, told_depth=0.5))
    flags = told.flatten(1).amax(1)
    assert torch.equal(flags.bool(), depth.flatten(1).any(1)) and asked[-1] == flags.sum()


def test_without_an_estimator_depth_is_never_told(base, made):
    _, _, depth, told, _, _ = parts(made(replace(base, find_depth=None), told_depth=1.0))
    assert not depth.any() and not told.any()


def test_noisy_copies_of_an_example_are_told_the_same_at_times_spread_over_the_schedule():
    class Seen:
        config = type("Config", (), {"prediction_type": "epsilon"})

        def __call__(self, noisy, t, text, space, alpha, **_):
            self.seen = t, text, space, alpha
            return (noisy,)

    model, alphas = Seen(), torch.linspace(0.99, 0.01, 90)
    space = torch.arange(2.0)[:, None]
    example = EditorExample(torch.zeros(2, 4, 8, 8), {"space": space}, torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
    editor_loss(model, example, TextCondition(space[:, None], {"text_embeds": space}), alphas,
                torch.Generator().manual_seed(0), noisings=3)
    t, text, told, alpha = model.seen
    assert told.flatten().tolist() == text.flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(alpha, alphas[t].sqrt())
    assert all(sorted(x % 30 for x in row) == [row[0] % 30] * 3 and len(set(row)) == 3 for row in t.view(2, 3).tolist())
    editor_loss(model, example, TextCondition(space[:, None], {"text_embeds": space}), alphas,
                torch.Generator().manual_seed(0), noisings=60, least_noise=1 / 3)
    assert all(sorted(row) == list(range(30, 90)) for row in model.seen[0].view(2, 60).tolist())


class Fixed:
    """A denoiser that says zero, of this kind."""

    def __init__(self, kind):
        self.config = type("Config", (), {"prediction_type": kind})

    def __call__(self, noisy, *_, **told):
        self.noisy, self.alpha = noisy, told["alpha"]
        return (torch.zeros_like(noisy),)


def test_the_error_is_of_what_the_base_predicts():
    clean = torch.full((2, 4, 8, 8), 3.0)
    everywhere = torch.ones(2, 1, 8, 8)
    example = EditorExample(clean, {}, everywhere, everywhere)
    text = type("Text", (), {"hidden": None, "added": None})
    for kind in ("epsilon", "v_prediction"):
        model, alphas = Fixed(kind), torch.linspace(0.99, 0.01, 50)
        terms = editor_loss(model, example, text, alphas, torch.Generator().manual_seed(0))
        a = model.alpha[:, None, None, None]
        s = (1 - a**2).sqrt()
        noise = (model.noisy - a * clean) / s
        wanted = noise if kind == "epsilon" else a * noise - s * clean
        assert terms["loss"].item() == pytest.approx(wanted.square().mean().item(), rel=1e-4)
        assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_errors_count_where_it_draws_and_three_times_on_the_subject():
    drawn, inside = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    drawn[..., :4, :], inside[..., :2, :] = 1, 1
    text, alphas = type("Text", (), {"hidden": None, "added": None}), torch.full((10,), 0.5)
    clean = torch.zeros(1, 4, 8, 8)
    clean[..., :2, :], clean[..., 2:4, :], clean[..., 4:, :] = 1000, 2000, 9e9
    terms = editor_loss(Fixed("v_prediction"), EditorExample(clean, {}, drawn, inside), text, alphas,
                        torch.Generator().manual_seed(0))
    assert terms["loss"].item() == pytest.approx(0.5 * (3 * 1000**2 + 2000**2) / 4, rel=0.01)
    assert terms["inside"].item() == pytest.approx(0.5 * 1000**2, rel=0.01)
