"""The editor's parts: saved, loaded, shared, adapted by LoRA, of SDXL's kind."""

import copy
import json
import logging

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.callbacks import SDXLCFGCutoffCallback
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import CLIPTextModelWithProjection

from tests.tiny_family import FEATURES, SIDE, small_clip, small_unet, stirred
from tests.toffee_hf.pipelines.conftest import TOLD, own, quiet, seeded, small_kl
from toffee_hf.models.toffee_editor_unet import ToffeeEditorUNet
from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline

# --- saved and shared ---------------------------------------------------------------------------------------------


def test_a_saved_pipeline_is_the_same_when_loaded(pipe, draw, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pipe.save_pretrained(tmp_path)
    again = quiet(ToffeePipeline.from_pretrained(tmp_path))
    assert torch.equal(draw(on=again), draw())
    assert not list(tmp_path.rglob("*.bin")) and not [r for r in caplog.records if r.levelname == "WARNING"]
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["depth_estimator"] == index["text_encoder_2"] == [None, None]


def test_a_variant_and_a_type_for_each_part(pipe, draw, tmp_path):
    pipe.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    mixed = quiet(ToffeePipeline.from_pretrained(tmp_path, variant="fp16",
                                                 dtype={"unet": torch.bfloat16, "default": torch.float32}))
    assert mixed.unet.dtype == torch.bfloat16 and mixed.vae.dtype == mixed.encoder.dtype == torch.float32
    images = draw(on=mixed, output_type="pt", **TOLD)
    assert (images - draw(output_type="pt", **TOLD)).abs().mean() < 0.02


def test_a_pipeline_without_a_text_encoder_is_saved_and_loaded(components, tmp_path):
    own(components, text_encoder=None, tokenizer=None).save_pretrained(tmp_path)
    again = ToffeePipeline.from_pretrained(tmp_path)
    assert again.text_encoder is None and again.tokenizer is None and again.depth_estimator is None


def test_parts_given_at_loading_are_taken(pipe, components, draw, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = quiet(ToffeePipeline.from_pretrained(tmp_path, **{
        name: components[name] for name in ("unet", "text_encoder", "vae", "encoder", "scheduler")}))
    assert again.unet is components["unet"] and torch.equal(draw(on=again), draw())


def test_parts_are_shared(pipe, draw):
    shared = quiet(ToffeePipeline(**pipe.components))
    assert shared.unet is pipe.unet and torch.equal(draw(on=shared), draw())
    also = quiet(ToffeePipeline.from_pipe(pipe, unet=pipe.unet, vae=pipe.vae))
    assert also.encoder is pipe.encoder and torch.equal(draw(on=also), draw())


def test_it_is_made_from_the_pipeline_of_its_base(components, draw):
    base = StableDiffusionPipeline(components["vae"], components["text_encoder"], components["tokenizer"],
                                   small_unet(), components["scheduler"], None, None, requires_safety_checker=False)
    made = ToffeePipeline.from_pipe(base, **{name: components[name] for name in ("vae", "unet", "encoder")})
    assert made.text_encoder is base.text_encoder and torch.equal(draw(on=quiet(made)), draw())


# --- LoRA ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lora(components, tmp_path):
    """A folder with a LoRA for the UNet, of the text's attention and of the subjects'."""
    unet = copy.deepcopy(components["unet"])
    targets = ["to_q", "to_k", "to_v", "to_out.0", "subject_k", "subject_v", "subject_out"]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            weight.add_(torch.randn_like(weight), alpha=0.5 * ("lora_" in name))
    ToffeePipeline.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(unet),
                                     **_collate_lora_metadata({"unet": unet}))
    assert (tmp_path / "pytorch_lora_weights.safetensors").exists()
    return tmp_path


def test_a_lora_is_loaded_weighed_fused_and_taken_off(components, draw, lora):
    whole, base = own(components), draw()
    whole.load_lora_weights(lora, weight_name="pytorch_lora_weights.safetensors", adapter_name="mine")
    full = draw(on=whole)
    assert (full - base).abs().max() > 1e-2 and whole.get_active_adapters() == ["mine"]
    whole.set_adapters(["mine"], [0.0])
    assert (draw(on=whole) - base).abs().max() < 1e-5
    whole.set_adapters(["mine"], [1.0])
    assert torch.equal(draw(on=whole), full)
    whole.fuse_lora()
    assert (draw(on=whole) - full).abs().max() < 1e-3 * full.abs().max()
    whole.unfuse_lora()
    whole.unload_lora_weights()
    assert (draw(on=whole) - base).abs().max() < 1e-4 and not hasattr(whole.unet, "peft_config")


def test_a_lora_reaches_the_subjects_attention(components, draw, lora):
    whole = own(components)
    whole.load_lora_weights(lora, weight_name="pytorch_lora_weights.safetensors")
    found = [name for name, _ in whole.unet.named_parameters() if "subject_" in name and "lora_" in name]
    assert {name.split(".processor.")[1].split(".")[0] for name in found} == {"subject_k", "subject_v", "subject_out"}


def test_no_pickle_is_read_as_a_lora_or_an_embedding(components, lora, tmp_path):
    whole, pickles = own(components), tmp_path / "pickles"
    tensors = load_file(lora / "pytorch_lora_weights.safetensors")
    ToffeePipeline.write_lora_layers(tensors, str(pickles), True, "pytorch_lora_weights.bin", None, False)
    torch.save({"<mug>": torch.zeros(32)}, pickles / "mug.pt")
    for load, given in ((whole.load_lora_weights, {"weight_name": "pytorch_lora_weights.bin"}),
                        (whole.load_textual_inversion, {"weight_name": "mug.pt"})):
        with pytest.raises(ValueError, match=r"read as a pickle.*give a \.safetensors file"):
            load(pickles, **given)
    with pytest.raises(ValueError, match=r"mug\.pt would be read as a pickle"):
        whole.load_textual_inversion([pickles / "mug.pt"])
    for name in ("lora.dat", "lora.BIN", "lora"):
        (pickles / "pytorch_lora_weights.bin").rename(pickles / name)
        for load in (whole.load_lora_weights, whole.load_textual_inversion):
            with pytest.raises(ValueError, match="would be read as a pickle"):
                load(pickles, weight_name=name)
            with pytest.raises(ValueError, match="would be read as a pickle"):
                load(pickles / name)
        (pickles / name).rename(pickles / "pytorch_lora_weights.bin")
    with pytest.raises(OSError, match="safetensors"):
        whole.load_lora_weights(pickles)
    whole.load_textual_inversion({"<mug>": torch.zeros(32)}, token="<mug>")
    assert "<mug>" in whole.tokenizer.get_vocab()


# --- SDXL ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(components):
    """Two text encoders beside each other, and the times and sizes that SDXL's UNet is told."""
    torch.manual_seed(1)
    base = small_unet()
    config = {**{k: v for k, v in base.config.items() if not k.startswith("_")}, "cross_attention_dim": 64,
              "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
              "projection_class_embeddings_input_dim": 6 * 8 + 16}
    unet = stirred(ToffeeEditorUNet.from_unet(type(base)(**config), 2 * FEATURES, SIDE * SIDE))
    text = small_clip(components["tokenizer"]).config.text_config
    text.projection_dim = 16
    second = CLIPTextModelWithProjection(text).eval()
    return own(components, unet=unet, text_encoder_2=second, tokenizer_2=components["tokenizer"])


def test_sdxls_two_text_encoders(large, draw):
    base = draw(on=large)
    assert torch.isfinite(base).all() and (draw(on=large, prompt="a dog") - base).abs().max() > 1e-5
    assert (draw(on=large, num_images_per_prompt=2, generator=seeded(0, 1))[:1] - base).abs().max() < 1e-4
    with torch.no_grad():
        wanted, unwanted, pooled, unwanted_pooled = large.encode_prompt("a red mug on the beach")
    assert wanted.shape[-1] == 64 and pooled.shape == (1, 16)
    told = {"prompt": None, "prompt_embeds": wanted, "negative_prompt_embeds": unwanted}
    given = draw(on=large, **told, pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=unwanted_pooled)
    assert torch.equal(given, base)
    for lacking in ({"pooled_prompt_embeds": pooled}, {"negative_pooled_prompt_embeds": unwanted_pooled}, {}):
        with pytest.raises(ValueError, match="pooled_prompt_embeds"):
            draw(on=large, **told, **lacking)


def test_a_lora_of_the_second_text_encoder_is_not_dropped_silently(large):
    state = {f"text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_{x}.weight": torch.zeros(1, 1)
             for x in "AB"}
    with pytest.raises(ValueError, match="text_encoder_2 too, which the editor does not adapt"):
        large.load_lora_weights(state)


def test_sdxls_official_callback_ends_guidance(large, draw):
    cut = SDXLCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
    seen = []
    with large.unet.conv_in.register_forward_hook(lambda module, given, made: seen.append(len(made))):
        assert torch.isfinite(draw(on=large, callback_on_step_end=cut, num_inference_steps=3)).all()
    assert seen == [2, 1, 1]


def test_an_autoencoder_that_overflows_in_float16_runs_in_float32(large, draw):
    large.vae = small_kl().eval()
    large.to(torch.float16)
    seen = []
    with large.vae.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype)):
        images = draw(on=large, output_type="pt", **TOLD)
        assert seen == [torch.float32] and large.vae.dtype == torch.float16 and torch.isfinite(images).all()
        large.vae.register_to_config(force_upcast=False)
        draw(on=large, output_type="pt")
    assert seen == [torch.float32, torch.float16]
