"""A family: complete or refused, loaded when needed, once, and ready to run."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from toffee_hf.errors import InputError
from toffee_hf.family import MEMBERS, Family, open_family


def test_a_folder_that_lacks_members_is_refused_by_name(tmp_path):
    for name in MEMBERS[:-2]:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"lacks {MEMBERS[-2]}, {MEMBERS[-1]}"):
        Family(tmp_path, "cpu")
    with pytest.raises(InputError, match="lacks vae"):
        open_family(str(tmp_path / "nowhere"), "cpu")


@pytest.mark.parametrize("name", ["vae", "clip", "unet", "controlnet", "refiner_unet", "view_unet", "dino", "depth",
                                  "segmenter", "domain", "classifier", "axis"])  # fmt: skip
def test_a_model_is_loaded_once_and_only_runs(family, name):
    model = getattr(family, name)
    assert getattr(family, name) is model
    assert not model.training
    assert {t.dtype for t in model.state_dict().values() if t.is_floating_point()} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["unet", "clip"])
def test_a_pickle_is_never_loaded(family, tmp_path, name):
    shutil.copytree(family.folder, tmp_path / "family")
    (weights,) = (tmp_path / "family" / name).glob("*.safetensors")
    pickle = {"unet": "diffusion_pytorch_model.bin", "clip": "pytorch_model.bin"}[name]
    torch.save(load_file(weights), weights.with_name(pickle))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        getattr(Family(tmp_path / "family", "cpu"), name)


def test_a_family_needs_no_classifier(tmp_path):
    for name in MEMBERS:
        (tmp_path / name).mkdir()
    assert "classifier" not in MEMBERS
    assert Family(tmp_path, "cpu").folder == tmp_path


def test_a_family_without_an_axis_turns_objects_about_their_outlines(family, tmp_path):
    folder = shutil.copytree(family.folder, tmp_path / "family", ignore=shutil.ignore_patterns("axis"))
    older = Family(folder, "cpu")
    assert older.axis is None and older.view_pipeline.axis is None and family.view_pipeline.axis is family.axis
    older.view_pipeline.save_pretrained(tmp_path / "saved")
    assert type(older.view_pipeline).from_pretrained(tmp_path / "saved").axis is None


def test_pipelines_share_the_models_and_not_their_schedulers(family):
    draft, refiner, view = family.draft_pipeline, family.refiner_pipeline, family.view_pipeline
    assert draft.vae is refiner.vae is view.vae is family.vae
    assert draft.text_encoder is refiner.text_encoder is family.text_encoder
    assert len({id(p.scheduler) for p in (draft, refiner, view)}) == 3
    assert family.refiner_pipeline is refiner


def test_a_family_is_opened_once_a_process(family):
    assert open_family(str(family.folder), "cpu") is open_family(str(family.folder), "cpu")


def test_the_draft_pipeline_of_diffusers_runs_on_the_family(family):
    drawn = family.draft_pipeline(["a mug"], torch.rand(1, 3, 64, 64), num_inference_steps=2, guidance_scale=3.0,
                                  generator=[torch.Generator().manual_seed(0)], output_type="latent", height=64,
                                  width=64)
    assert drawn.images.shape == (1, 4, 8, 8) and torch.isfinite(drawn.images).all()


def test_hidden_states_are_those_that_the_pipelines_use(family):
    words = ["a mug", "a red car on the moon"]
    found = family.hidden_states(words)
    assert found.shape == (2, family.tokenizer.model_max_length, 32)
    assert (found - family.refiner_pipeline._text(words, 64)[0]).abs().max() < 1e-5
