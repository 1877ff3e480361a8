"""Metric models as their publishers feed them, and what is said of pictures that show nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

from tests.tiny_metrics import picture, write_dreambench, write_metrics
from toffee_hf.errors import InputError
from toffee_hf.evaluation.dreambench import metric_models
from toffee_hf.evaluation.dreambench.metric_models import (
    CLIP,
    CLIP_PIXELS,
    DINO,
    DINO_PIXELS,
    cut_out,
    open_judge,
    open_picture,
)
from toffee_hf.evaluation.dreambench.protocol import Extent, jobs_of, read_dreambench


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_metrics(tmp_path_factory.mktemp("metrics"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return read_dreambench(write_dreambench(tmp_path_factory.mktemp("data")))


@pytest.fixture
def judge(bench, models):
    return open_judge(bench, **models)


@pytest.fixture
def whole_mask(monkeypatch):
    """Every picture shows a subject, everywhere."""
    monkeypatch.setattr(metric_models, "clipseg_masks", lambda model, tokenizer, x, names: torch.ones_like(x[:, :1]))


@pytest.mark.parametrize("size", [(48, 40), (40, 48), (33, 33), (301, 97)])
def test_pixels_are_those_of_the_published_processors(size):
    shown = [picture(0, size), picture(1, size)]
    vit = ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=2, image_mean=DINO_PIXELS.mean,
                               image_std=DINO_PIXELS.std)
    clip = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for ours, theirs in ((DINO_PIXELS, vit), (CLIP_PIXELS, clip)):
        told = theirs(shown, return_tensors="pt")["pixel_values"]
        assert ours(shown, 32).shape == told.shape and (ours(shown, 32) - told).abs().max() < 1e-5


def test_a_photograph_is_most_like_itself(judge, bench, whole_mask):
    mug = bench[0]
    jobs = jobs_of(bench, Extent(3, 1, 2), 0)[:2]
    photos = [open_picture(path) for path in mug.photos]
    found = judge.scores(jobs, photos)
    assert set(found) == {"DINO", "CLIP-I", "CLIP-T", "Seg-DINO"}
    seen = judge.features(photos, "mug")
    both = torch.nn.functional.cosine_similarity(seen.dino[0], seen.dino[1], dim=0)
    assert torch.allclose(found["DINO"], (1 + both) / 2 * torch.ones(2), atol=1e-5), "itself and the other, averaged"
    assert all(value.shape == (2,) and value.abs().max() <= 1 for value in found.values())


def test_scores_do_not_depend_on_the_batch(judge, bench, whole_mask):
    jobs = jobs_of(bench, Extent(3, 2, 1), 0)[:2]
    both = judge.scores(jobs, [picture(5), picture(6)])
    second = judge.scores(jobs[1:], [picture(6)])
    assert all(torch.allclose(both[name][1:], second[name], atol=1e-5) for name in both)
    other = judge.scores([jobs[1], jobs[0]], [picture(5), picture(6)])
    assert torch.allclose(other["CLIP-I"], both["CLIP-I"]) and not torch.allclose(other["CLIP-T"], both["CLIP-T"])


def test_a_picture_without_the_subject_has_no_likeness_and_photographs_without_it_give_none(judge, bench, monkeypatch):
    jobs = jobs_of(bench, Extent(3, 2, 1), 0)[:2]
    bare = [picture(5)]

    def masks(model, tokenizer, x, names):
        return torch.full_like(x[:, :1], float(not np.array_equal(np.array(bare[0]), _array(x))))

    monkeypatch.setattr(metric_models, "clipseg_masks", masks)
    found = judge.scores(jobs, [picture(5), picture(6)])["Seg-DINO"]
    assert found[0] == 0 and found[1].abs() > 1e-3
    judge.photos = None
    monkeypatch.setattr(metric_models, "clipseg_masks", lambda model, tokenizer, x, names: torch.zeros_like(x[:, :1]))
    assert judge.scores(jobs, [picture(5), picture(6)])["Seg-DINO"].isnan().all()


def _array(x):
    return ((x[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_the_segmenter_is_asked_for_the_class_word(judge, monkeypatch):
    asked = []
    real = metric_models.clipseg_masks
    monkeypatch.setattr(metric_models, "clipseg_masks",
                        lambda *given: asked.append(given[3]) or real(*given))
    mask = judge.mask(picture(0), "stuffed animal")
    assert mask.shape == (1, 1, 40, 48) and set(mask.unique().tolist()) <= {0.0, 1.0}
    assert asked == [["stuffed animal"]]


def test_a_subject_is_cut_out_on_grey_in_its_own_proportions():
    red = Image.new("RGB", (80, 60), (255, 0, 0))
    mask = torch.zeros(1, 1, 60, 80)
    mask[..., 20:40, 60:70] = 1
    cut = np.array(cut_out(red, mask)).astype(int)
    side = cut.shape[0]
    assert cut.shape == (side, side, 3) and side == round(20 / 0.9)
    inside = (cut[..., 0] > 200) & (cut[..., 1] < 60)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert 18 <= len(rows) <= 21 and 8 <= len(columns) <= 11, "20 high and 10 wide, as it was"
    assert (abs(cut[:, 0] - 128) < 2).all() and abs(rows.mean() - (side - 1) / 2) < 1
    assert (abs(np.array(cut_out(red, torch.zeros_like(mask))).astype(int) - 128) < 2).all()


def test_what_measured_is_known(judge, models):
    assert set(judge.sources) == {"dino", "clip", "segmenter"}
    assert len(judge.sources["dino"]["sha256"]) == 64 and judge.sources["dino"]["model_type"] == "vit"
    assert json.dumps(judge.sources)
    assert all(len(source.revision) == 40 for source in (DINO, CLIP))


def test_weights_that_are_not_at_hand_are_one_sentence(bench, models, tmp_path):
    with pytest.raises(InputError, match="metric model dino .facebook/dino-vits16. are not at hand; fetch") as err:
        open_judge(bench)
    assert "\n" not in str(err.value)
    with pytest.raises(InputError, match="metric model clip .* are not at hand"):
        open_judge(bench, models["dino"], str(tmp_path))


def test_a_pickle_is_never_read(bench, models, tmp_path):
    import shutil

    shutil.copytree(models["dino"], tmp_path / "dino")
    (tmp_path / "dino" / "model.safetensors").rename(tmp_path / "dino" / "pytorch_model.bin")
    with pytest.raises(InputError, match="metric model dino"):
        open_judge(bench, str(tmp_path / "dino"), models["clip"], models["segmenter"])


def test_weights_cut_short_are_one_sentence(bench, models, tmp_path):
    import shutil

    shutil.copytree(models["dino"], tmp_path / "dino")
    whole = (tmp_path / "dino" / "model.safetensors").read_bytes()
    (tmp_path / "dino" / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(InputError, match="metric model dino"):
        open_judge(bench, str(tmp_path / "dino"), models["clip"], models["segmenter"])


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="0.png cannot be read as a picture"):
        open_picture(tmp_path / "0.png")
