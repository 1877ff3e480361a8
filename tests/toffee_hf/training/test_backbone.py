"""Backbones: the family, diffusers' own folders and SDXL's shape all give the same interface, and both trainers run."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from tests.toffee_hf.training.pair_data import write_dataset
from tests.toffee_hf.training.real_data import pictures
from toffee_hf.errors import InputError
from toffee_hf.training import backbone as module
from toffee_hf.training.backbone import CONFIGS, ENCODER, PUBLISHED, SEGMENTER, Backbone, open_backbone, random_backbone
from toffee_hf.training.editor import EditorTask, PairData, new_editor
from toffee_hf.training.editor_examples import EditorConfig
from toffee_hf.training.pictures import prepare
from toffee_hf.training.refiner import RefinerConfig, RefinerTask, new_refiner
from toffee_hf.training.view_generator import ViewConfig, ViewTask, new_view_generator

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}


def small_vae():
    return AutoencoderKL(block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
                         up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4,
                         sample_size=64, scaling_factor=0.5)  # fmt: skip


def small_unet(**extra):
    return UNet2DConditionModel(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                                attention_head_dim=(2, 4), use_linear_projection=True,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **extra)  # fmt: skip


def text_config(tokenizer, width, **extra):
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    return CLIPTextConfig(hidden_size=width, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2,
                          vocab_size=len(tokenizer), max_position_embeddings=tokenizer.model_max_length, **ends,
                          **extra)  # fmt: skip


def dino_14():
    return Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2,
                                    patch_size=14, image_size=56)).eval().requires_grad_(False)  # fmt: skip


@pytest.fixture
def like_sdxl(family):
    """The shape of SDXL: two text encoders, pooled words and sizes, epsilon, an encoder with patches of 14 pixels."""
    torch.manual_seed(0)
    one = CLIPTextModel(text_config(family.tokenizer, 16)).eval().requires_grad_(False)
    two = CLIPTextModelWithProjection(text_config(family.tokenizer, 24, projection_dim=12))
    two = two.eval().requires_grad_(False)
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 12 + 6 * 8}  # fmt: skip
    unet = small_unet(cross_attention_dim=40, transformer_layers_per_block=(1, 2), **told)
    return Backbone("like-sdxl", small_vae().eval().requires_grad_(False), unet.eval().requires_grad_(False),
                    [(family.tokenizer, one), (family.tokenizer, two)],
                    DDIMScheduler(**NOISE, clip_sample=False), dino_14(),
                    lambda x, names: torch.ones_like(x[:, :1]))  # fmt: skip


def test_the_family_gives_latents_words_and_masks(family, picture):
    found = open_backbone(str(family.folder))
    z = found.encode(picture)
    assert z.shape == (2, 4, 8, 8) and torch.equal(z, family.vae.latents(picture))
    assert found.decode(z).shape == picture.shape and found.decode(z).abs().max() <= 1
    text = found.text(["a photo of a mug", ""], 64)
    assert torch.equal(text.hidden, family.hidden_states(["a photo of a mug", ""])) and text.added is None
    assert found.masks(picture, ["mug", "duck"]).shape == (2, 1, 64, 64)
    assert found.prediction == "v_prediction" and found.alphas.shape == (1000,)
    assert (found.size_px, found.step_px, found.cell_px, found.patch_side(64)) == (64, 16, 8, 8)


def test_tiny_is_the_shipped_family():
    assert open_backbone("tiny").size_px == 128


@pytest.mark.parametrize("name", ["nowhere/at-all", "/nowhere/at/all", "sd21", ""])
def test_what_cannot_be_opened_is_told_in_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--base .* cannot be opened.*tiny, sd21, sdxl") as told:
        open_backbone(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("index", [
    "{", "[]", "null", "3", "{}", '{"text_encoder": null}', '{"text_encoder": []}', '{"text_encoder": 3}',
    '{"text_encoder": {}}', '{"text_encoder": [null, null]}'])  # fmt: skip
def test_a_folder_whose_index_is_none_is_told_in_one_sentence(stable_diffusion, index):
    (stable_diffusion / "model_index.json").write_text(index)
    with pytest.raises(InputError, match=r"--base .* cannot be opened"):
        open_backbone(str(stable_diffusion))


@pytest.mark.parametrize(("file", "text"), [
    ("unet/config.json", "[]"), ("unet/config.json", '{"block_out_channels": null}'), ("vae/config.json", "3"),
    ("scheduler/scheduler_config.json", "[]"), ("text_encoder/config.json", "[]"),
    ("unet/diffusion_pytorch_model.safetensors", "nonsense")])  # fmt: skip
def test_a_folder_with_a_broken_part_is_told_in_one_sentence(stable_diffusion, file, text):
    assert (stable_diffusion / file).is_file()
    (stable_diffusion / file).write_text(text)
    with pytest.raises(InputError, match=r"--base .* cannot be opened"):
        open_backbone(str(stable_diffusion))


@pytest.fixture
def stable_diffusion(tmp_path, family, monkeypatch):
    """The folder of a small one as diffusers saves it, and an encoder that can be had."""
    text = CLIPTextModel(text_config(family.tokenizer, 16))
    StableDiffusionPipeline(small_vae(), text, family.tokenizer, small_unet(cross_attention_dim=16),
                            PNDMScheduler(**NOISE), None, None, requires_safety_checker=False
                            ).save_pretrained(tmp_path / "sd")  # fmt: skip
    dino_14().save_pretrained(tmp_path / "dino")
    monkeypatch.setattr(module, "ENCODER", replace(ENCODER, repository=str(tmp_path / "dino"), revision=None))
    return tmp_path / "sd"


def test_a_folder_of_diffusers_is_opened(stable_diffusion, picture):
    found = open_backbone(str(stable_diffusion))
    assert found.prediction == "epsilon" and len(found.text_models) == 1 and found.size_px == 64
    assert found.encode(picture).shape == (2, 4, 8, 8)
    assert found.text(["a mug"], 64).hidden.shape[2] == 16
    assert found.sources["base"].licence == "unknown" and found.sources["masks"] == SEGMENTER


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "../dino"])
def test_a_base_with_a_pickle_is_told_in_one_sentence(stable_diffusion, part):
    (weights,) = (stable_diffusion / part).glob("*.safetensors")
    name = "pytorch_model.bin" if weights.name == "model.safetensors" else weights.with_suffix(".bin").name
    torch.save(load_file(weights), weights.with_name(name))
    weights.unlink()
    with pytest.raises(InputError, match=r"--base .* cannot be opened.*safetensors"):
        open_backbone(str(stable_diffusion))


def test_one_patch_covers_whole_latent_cells(like_sdxl):
    sizes = {64: 4, 128: 8, 512: 32, 1024: 64, 768: 48}
    assert {size: like_sdxl.patch_side(size) for size in sizes} == sizes


def test_sdxl_is_told_pooled_words_and_sizes(like_sdxl):
    text = like_sdxl.text(["a mug", "a duck"], 64)
    assert text.hidden.shape[::2] == (2, 40) and text.added["text_embeds"].shape == (2, 12)
    assert text.added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_refiner_in_the_shape_of_sdxl_trains_and_refines(tmp_path, like_sdxl, precision):
    data = prepare(pictures(), tmp_path / "p", 64, like_sdxl)
    like_sdxl.unet.to(precision)
    config = RefinerConfig(batch_size=3, redrawn=1.0)
    task = RefinerTask(new_refiner(like_sdxl, config), data, like_sdxl, config)
    task.model.unet.to(precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        terms = task.loss(0, torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"]) and task.model.conditioning.weight.grad.abs().max() > 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        columns = task.grid(task.model.eval(), torch.tensor([0, 7]))
    assert len(columns) == 4 and all(c.shape == (2, 3, 64, 64) and torch.isfinite(c).all() for c in columns)
    assert task.model.config.prediction_type == "epsilon"


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_view_generator_in_the_shape_of_sdxl_trains_and_draws(tmp_path, like_sdxl, precision):
    data = prepare(pictures(), tmp_path / "p", 64, like_sdxl, views=2)
    config = ViewConfig(batch_size=3)
    task = ViewTask(new_view_generator(like_sdxl, 64), data, like_sdxl, config)
    task.model.unet.to(precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        terms = task.loss(0, torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"]) and task.model.known.weight.grad.abs().max() > 0
    assert task.model.place.shape[0] == 16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        columns = task.grid(task.model.eval(), torch.tensor([0, 7]))
    assert len(columns) == 3 and all(c.shape == (2, 3, 64, 64) and torch.isfinite(c).all() for c in columns)


def test_an_editor_in_the_shape_of_sdxl_trains_and_draws(tmp_path, like_sdxl):
    config = EditorConfig(batch_size=2, told_depth=1.0, noisings=2)
    data = PairData(str(write_dataset(tmp_path)), config, 64)
    task = EditorTask(new_editor(like_sdxl, config, 64), data, like_sdxl, config)
    terms = task.loss(0, torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"]) and task.model.gate.bias.grad.abs().max() > 0
    assert (task.model.config.patches, task.model.config.prediction_type) == (16, "epsilon")
    with torch.no_grad():
        columns = task.grid(task.model.eval(), torch.tensor([0, 9]))
    data.close()
    assert len(columns) == 4 and all(c.shape == (2, 3, 64, 64) and torch.isfinite(c).all() for c in columns)


@pytest.mark.parametrize("kind", ["refiner", "view"])
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path, like_sdxl, kind):
    data = prepare(pictures(), tmp_path / "p", 64, like_sdxl, views=2)
    config = {"refiner": RefinerConfig, "view": ViewConfig}[kind](batch_size=2)
    torch.manual_seed(0)
    model = new_refiner(like_sdxl, config) if kind == "refiner" else new_view_generator(like_sdxl, 64)
    task = {"refiner": RefinerTask, "view": ViewTask}[kind](model.train(), data, like_sdxl, config)
    found = []
    for switch in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
        switch()
        model.zero_grad()
        task.loss(0, torch.Generator().manual_seed(0))["loss"].backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert any(getattr(part, "gradient_checkpointing", False) for part in model.unet.modules())
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_configuration_names_its_source(name):
    told = json.loads((CONFIGS / name / "source.json").read_text())
    members = {path.stem for path in (CONFIGS / name).glob("*.json")} - {"source"}
    assert set(told) == members | {"masks"}
    base = PUBLISHED[name]
    for member, source in told.items():
        wanted = {"encoder": ENCODER, "masks": SEGMENTER}.get(member, base)
        assert (source["repository"], source["revision"], source["licence"]) == (
            wanted.repository, wanted.revision, wanted.licence)  # fmt: skip


def test_a_configuration_that_is_not_there_is_told():
    with pytest.raises(InputError, match="sd21, sdxl"):
        random_backbone("sd9")
