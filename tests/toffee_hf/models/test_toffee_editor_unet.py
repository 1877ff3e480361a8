"""The editor's denoiser: starts as the text-to-image UNet it is made from, and hears each condition where it should."""

import inspect
import json
import logging

import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.tiny_family import FEATURES, LATENTS, SIDE, TEXT, small_unet, stirred
from toffee_hf.models.toffee_editor_unet import PLANES, ToffeeEditorUNet

PATCHES, SUBJECTS = 16, 2
PREDICTIONS = ["v_prediction", "epsilon"]


def made(prediction="v_prediction"):
    torch.manual_seed(0)
    return ToffeeEditorUNet.from_unet(small_unet(), FEATURES, PATCHES, prediction).eval()


def inputs(height=SIDE, width=SIDE):
    """Everything told: two subjects, a part to draw, depth, a hint in part of it."""
    g = torch.Generator().manual_seed(1)
    grid = (2, LATENTS, height, width)
    planes = (torch.rand(2, PLANES, height, width, generator=g) < 0.5).float()
    return {
        "sample": torch.randn(grid, generator=g), "timestep": torch.tensor([700, 20]),
        "encoder_hidden_states": torch.randn(2, 5, TEXT, generator=g),
        "subjects": torch.randn(2, SUBJECTS, PATCHES, FEATURES, generator=g),
        "subject_patches": torch.rand(2, SUBJECTS, PATCHES, generator=g) < 0.5,
        "weights": torch.rand(2, SUBJECTS, height, width, generator=g),
        "space": torch.cat([torch.randn(grid, generator=g), planes[:, :3], torch.randn(grid, generator=g),
                            planes[:, 3:]], 1),
        "alpha": torch.tensor([0.4, 0.99]),
    }


def with_planes(x, mask=None, shown=None):
    """The same with the mask and the hint's place set to one value."""
    space = x["space"].clone()
    for plane, value in ((LATENTS, mask), (-1, shown)):
        if value is not None:
            space[:, plane] = value
    return {**x, "space": space}


@torch.no_grad()
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_at_first_it_predicts_what_its_base_does_and_believes_the_hint(prediction):
    torch.manual_seed(0)
    base, model = small_unet().eval(), made(prediction)
    x = inputs()
    stock = base(x["sample"], x["timestep"], x["encoder_hidden_states"]).sample
    assert (model(**with_planes(x, mask=1, shown=0)).sample - stock).abs().max() < 1e-5
    alpha, belief = x["alpha"][:, None, None, None], torch.tensor(5.0).sigmoid()
    sigma, hint = (1 - alpha**2).sqrt(), x["space"][:, LATENTS + 3 : -1]
    if prediction == "epsilon":
        told = (x["sample"] - alpha * hint) / sigma
        kept = (x["sample"] - alpha * x["space"][:, :LATENTS]) / sigma
        most = stock + belief * sigma**2 * (told - stock)
    else:
        told = (alpha * x["sample"] - hint) / sigma
        kept = (alpha * x["sample"] - x["space"][:, :LATENTS]) / sigma
        most = stock + belief * sigma**2 * (told - stock)
    assert (model(**with_planes(x, mask=1, shown=1)).sample - most).abs().max() < 1e-4
    assert (model(**with_planes(x, mask=0)).sample - kept).abs().max() < 1e-4, "outside the mask the source is known"


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(inputs()))
def test_every_condition_has_a_say(name):
    model, x = stirred(made()), inputs()
    changed = ~x[name] if x[name].dtype == torch.bool else x[name] * 0.9 + (7 if name == "timestep" else 0.01)
    assert (model(**x).sample - model(**{**x, name: changed}).sample).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("plane", range(2 * LATENTS + PLANES))
def test_every_plane_of_the_conditions_has_a_say(plane):
    model, x = stirred(made()), with_planes(inputs(), mask=0.5, shown=0.5)
    space = x["space"].clone()
    space[:, plane] += 0.3
    assert (model(**x).sample - model(**{**x, "space": space}).sample).abs().max() > 1e-4


@torch.no_grad()
def test_a_subject_without_weight_has_no_say_and_neither_have_patches_that_do_not_show_it():
    model, x = stirred(made()), inputs()
    weights = x["weights"].clone()
    weights[:, 1] = 0
    other = x["subjects"].clone()
    other[:, 1] += 1
    assert torch.equal(model(**{**x, "weights": weights}).sample,
                       model(**{**x, "weights": weights, "subjects": other}).sample)
    unseen = torch.where(x["subject_patches"][..., None], x["subjects"], torch.randn_like(x["subjects"]))
    assert torch.equal(model(**x).sample, model(**{**x, "subjects": unseen}).sample)


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (8, 16), (7, 5)], ids=str)
def test_at_every_layer_a_subject_acts_in_its_own_cells_only(size):
    """The attention beside the text's changes no query outside the subject's region."""
    model, x = stirred(made()), inputs(*size)
    weights = torch.zeros_like(x["weights"])
    weights[:, 0, :, : size[1] // 2] = 1
    seen = {}

    def keep(name):
        return lambda module, given, result: seen.setdefault(name, []).append(result)

    layers = {name: layer for name, layer in model.named_modules() if name.endswith("attn2")}
    first = next(iter(layers))
    with layers[first].register_forward_hook(keep(first)):
        model(**{**x, "weights": weights})
        model(**{**x, "weights": torch.zeros_like(weights)})
    moved = (seen[first][0] - seen[first][1]).abs().amax(-1).unflatten(1, size)
    assert moved[..., : size[1] // 2].min() > 0 and moved[..., size[1] // 2 :].max() == 0
    assert len(layers) == 4


@torch.no_grad()
def test_a_batch_is_what_its_parts_are():
    model, x = stirred(made()), inputs()
    together = model(**x).sample
    for i in range(2):
        assert (model(**{k: v[i : i + 1] for k, v in x.items()}).sample - together[i]).abs().max() < 1e-5
    as_tuple = model(**x, return_dict=False)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], together)


@torch.no_grad()
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_saved_and_loaded_it_is_the_same(tmp_path, low_cpu_mem_usage):
    model = stirred(made("epsilon"))
    model.save_pretrained(tmp_path)
    again, told = ToffeeEditorUNet.from_pretrained(tmp_path, output_loading_info=True,
                                                   low_cpu_mem_usage=low_cpu_mem_usage)  # fmt: skip
    assert not told["missing_keys"] and not told["unexpected_keys"] and again.config.prediction_type == "epsilon"
    assert torch.equal(again.eval()(**inputs()).sample, model(**inputs()).sample)


def test_variants_shards_and_types(tmp_path):
    stirred(made()).save_pretrained(tmp_path, variant="fp16", max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.fp16*.safetensors"))) > 1
    half = ToffeeEditorUNet.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    with pytest.raises(OSError):
        ToffeeEditorUNet.from_pretrained(tmp_path)


def test_its_configuration_is_the_stock_classes_and_three_words_more(tmp_path, caplog, monkeypatch):
    made().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    stock = {k: v for k, v in small_unet().config.items() if not k.startswith("_")}
    own = {"subject_dim": FEATURES, "patches": PATCHES, "prediction_type": "v_prediction"}
    assert {k: v for k, v in saved.items() if not k.startswith("_")} == {
        **json.loads(json.dumps(stock)), **own, "in_channels": 3 * LATENTS + PLANES}
    assert UNet2DConditionModel.from_config(saved).conv_in.in_channels == 3 * LATENTS + PLANES
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    caplog.clear()
    assert ToffeeEditorUNet.from_config(saved).config.patches == PATCHES and not caplog.records


def test_its_signature_is_the_stock_classes_and_three_words_more():
    stock = list(inspect.signature(UNet2DConditionModel.__init__).parameters)
    assert list(inspect.signature(ToffeeEditorUNet.__init__).parameters) == [
        *stock, "subject_dim", "patches", "prediction_type"]
    model = ToffeeEditorUNet(8, 16, 4, block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=8,
                             down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
                             up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), patches=4)  # fmt: skip
    assert (model.config.sample_size, model.config.in_channels, model.config.out_channels) == (8, 16, 4)
    assert model.config.subject_dim == 384 and model.place.shape == (4, 8)


@pytest.mark.parametrize("wrong", [{"prediction_type": "sample"}, {"in_channels": 9}], ids=str)
def test_bases_of_another_kind_are_refused(wrong):
    base = small_unet()
    prediction = wrong.pop("prediction_type", "epsilon")
    base.register_to_config(**wrong)
    with pytest.raises(ValueError, match="prediction_type must be|text-to-image"):
        ToffeeEditorUNet.from_unet(base, FEATURES, PATCHES, prediction)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter(checkpointing):
    model = made().train()
    stir = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=stir), alpha=0.05)
    if checkpointing:
        model.enable_gradient_checkpointing()
    model(**inputs()).sample.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert {id(p) for part in model.own_layers() for p in ([part] if isinstance(part, torch.nn.Parameter)
            else part.parameters())} <= {id(p) for p in model.parameters()}


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)], ids=str)
def test_half_precision_tells_late_times_apart(dtype, bound):
    model, x = stirred(made()), inputs()
    x["alpha"] = torch.tensor([0.9996, 0.99])
    x["sample"] = x["space"][:, :LATENTS] * 0.99
    fine = model(**x).sample
    rough = model.to(dtype)(**{k: v.to(dtype) if v.is_floating_point() and k != "alpha" else v for k, v in x.items()})
    assert rough.sample.dtype == dtype
    assert ((rough.sample.float() - fine).abs().mean() / fine.abs().mean()) < bound
