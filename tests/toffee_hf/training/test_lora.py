"""LoRA: what trains, what is saved, and that both ways back give the same model."""

import pytest
import torch

from tests.tiny_family import FEATURES, LATENTS, SIDE, TEXT, small_unet
from toffee_hf.errors import InputError
from toffee_hf.models.toffee_refiner_unet import ToffeeRefinerUNet
from toffee_hf.training.lora import TARGETS, add_lora, load_trained, merged, save_trained


def made(seed=0):
    torch.manual_seed(0)
    model = ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=16)
    torch.manual_seed(seed)
    return model


def trained(rank=3):
    """A model with LoRA whose every trained weight has moved."""
    model = add_lora(made(), rank)
    torch.manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p), alpha=0.1)
    return model.eval()


@torch.no_grad()
def output(model):
    g = torch.Generator().manual_seed(1)
    grid = (2, LATENTS, SIDE, SIDE)
    mask = torch.rand(2, 1, SIDE, SIDE, generator=g)
    return model.eval()(torch.randn(grid, generator=g), torch.tensor([700, 20]), torch.randn(2, 5, TEXT, generator=g),
                        torch.randn(grid, generator=g), mask, torch.randn(2, FEATURES, SIDE, SIDE, generator=g),
                        torch.randn(grid, generator=g), mask, torch.tensor([0.4, 0.99]))  # fmt: skip


def test_only_low_rank_layers_and_the_new_layers_train():
    model = add_lora(made(), 3)
    for name, p in model.named_parameters():
        assert p.requires_grad == (not name.startswith("unet.") or "lora_" in name), name
    low_rank = [name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name]
    assert {target for target in TARGETS if any(name.endswith(target) for name in low_rank)} == set(TARGETS)


def test_at_first_lora_changes_nothing():
    assert torch.equal(output(add_lora(made(), 3)), output(made()))


def test_saved_and_loaded_onto_the_same_base_it_is_the_same(tmp_path):
    model = trained()
    save_trained(model, tmp_path / "lora.safetensors", 3)
    assert torch.equal(output(load_trained(made(seed=9), tmp_path / "lora.safetensors")), output(model))
    assert not torch.equal(output(model), output(made()))
    assert [p.name for p in tmp_path.iterdir()] == ["lora.safetensors"]


def test_merged_it_is_a_plain_model_with_the_same_output(tmp_path):
    model = trained()
    before = output(model)
    plain = merged(model)
    assert plain.state_dict().keys() == made().state_dict().keys()
    assert (output(plain) - before).abs().max() < 1e-4
    plain.save_pretrained(tmp_path)
    assert torch.equal(output(ToffeeRefinerUNet.from_pretrained(tmp_path)), output(plain))


def test_a_file_of_another_model_is_refused(tmp_path):
    save_trained(trained(), tmp_path / "lora.safetensors", 3)
    other = ToffeeRefinerUNet.from_unet(small_unet(), feature_dim=FEATURES, hint_channels=8)
    with pytest.raises(InputError, match="another model"):
        load_trained(other, tmp_path / "lora.safetensors")


def test_on_a_bf16_base_what_trains_is_float32():
    model = made()
    model.unet.to(torch.bfloat16)
    add_lora(model, 2)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
