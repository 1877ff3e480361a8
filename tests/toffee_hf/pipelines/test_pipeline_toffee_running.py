"""The editor under other schedulers, number types and places of its weights."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from transformers import DepthAnythingForDepthEstimation

from tests.tiny_family import small_dino
from tests.toffee_hf.pipelines.conftest import TOLD, own, photo, seeded
from toffee_hf.training.perception import depth_config

# --- schedulers ---------------------------------------------------------------------------------------------------

SCHEDULERS = [DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler,
              UniPCMultistepScheduler, LCMScheduler, DDPMScheduler, HeunDiscreteScheduler, PNDMScheduler]  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.__name__)
def test_schedulers_are_swapped(components, draw, kind):
    options = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    swapped = own(components, scheduler=kind.from_config(components["scheduler"].config, **options))
    drawn = draw(on=swapped, num_inference_steps=3, output_type="pt", **TOLD)
    assert torch.isfinite(drawn).all()
    seen = torch.isfinite(draw(on=swapped, num_inference_steps=3)).all()
    assert seen and torch.equal(drawn, draw(on=swapped, num_inference_steps=3, output_type="pt", **TOLD))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_other_solvers_find_the_same_picture(components, draw, prediction):
    unet = copy.deepcopy(components["unet"])
    unet.register_to_config(prediction_type=prediction)
    usual = DDIMScheduler(prediction_type=prediction, clip_sample=False, set_alpha_to_one=True, steps_offset=1,
                          beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    made = own(components, unet=unet, scheduler=usual)
    asked = {"on": made, "num_inference_steps": 20, "guidance_scale": 1.0, **TOLD}
    expected, other_seed = draw(**asked), draw(**asked, generator=seeded(5)[0])
    for kind, options in ((EulerDiscreteScheduler, {}), (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
                          (DPMSolverMultistepScheduler, {}), (UniPCMultistepScheduler, {})):  # fmt: skip
        made.scheduler = kind.from_config(usual.config, **options)
        away = (draw(**asked) - expected).abs().mean() / (other_seed - expected).abs().mean()
        assert away < 0.25, kind


@pytest.mark.parametrize("options", [{}, {"use_karras_sigmas": True}, {"timestep_spacing": "trailing"}], ids=str)
def test_the_signal_rate_is_right_at_times_between_two_steps(components, options):
    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear",
                                       beta_start=0.00085, beta_end=0.012, **options)  # fmt: skip
    made = own(components, scheduler=scheduler)
    scheduler.set_timesteps(25)
    assert any(float(t) % 1 for t in scheduler.timesteps) or options.get("timestep_spacing")
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert float(made._alpha(t)) == pytest.approx(float((1 + sigma**2) ** -0.5), abs=2e-4)


@pytest.mark.parametrize("kind", [FlowMatchEulerDiscreteScheduler, DDIMScheduler], ids=lambda kind: kind.__name__)
def test_a_scheduler_of_another_kind_of_noise_is_refused(components, draw, kind):
    with pytest.raises(ValueError, match=f"v_prediction.*{kind.__name__}.*from_config"):
        draw(on=own(components, scheduler=kind()))


# --- types and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_draws_nearly_the_same(components, draw, dtype):
    half = own(components).to(dtype)
    assert half.unet.dtype == half.vae.dtype == dtype
    for edit in ({}, TOLD):
        rough, fine = draw(on=half, output_type="pt", **edit), draw(output_type="pt", **edit)
        assert torch.isfinite(rough).all() and (rough.float() - fine).abs().mean() < 0.03
    assert half.vae.dtype == dtype
    assert draw(on=half).dtype == dtype and isinstance(draw(on=half, output_type="pil"), list)


def test_float8_storage_of_the_unet(components, draw):
    light = own(components)
    light.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert light.unet.mid_block.resnets[0].conv1.weight.dtype == torch.float8_e4m3fn
    assert light.unet.dtype == light.unet.place.dtype == torch.float32
    assert (draw(on=light, output_type="pt") - draw(output_type="pt")).abs().mean() < 0.05


@pytest.mark.parametrize("depth", [False, True])
def test_every_weight_is_at_hand_when_it_is_needed(components, draw, depth):
    """As under sequential offload: outside its own module's forward pass, every weight is on the meta device."""
    encoder = small_dino().eval()
    more = {"depth_estimator": DepthAnythingForDepthEstimation(depth_config(encoder)).eval()} if depth else {}
    whole = own(components, **more)
    asked = {**TOLD, **({"pose_image": photo(8)} if depth else {})}
    expected = draw(on=whole, output_type="pt", **asked)
    for name in ("vae", "unet", "encoder", "text_encoder", *more):
        cpu_offload(getattr(whole, name), torch.device("cpu"), offload_buffers=True)
    assert whole.unet.place.device.type == "meta"
    assert torch.equal(draw(on=whole, output_type="pt", **asked), expected)


def test_whole_models_are_offloaded_and_take_turns(components, draw):
    """Under model offload a model comes when its pass begins, or encoding, and the next one sends it away."""
    expected, whole, order = draw(output_type="pt", **TOLD), own(components), []
    whole.enable_model_cpu_offload(device="cpu")
    assert torch.equal(draw(on=whole, output_type="pt", **TOLD), expected)
    whole.remove_all_hooks()

    class Turn(ModelHook):
        def __init__(self, name):
            self.name = name

        def pre_forward(self, module, *args, **kwargs):
            order.append(self.name)
            return args, kwargs

    for name in ("text_encoder", "vae", "encoder", "unet"):
        add_hook_to_module(getattr(whole, name), Turn(name))
    assert torch.equal(draw(on=whole, output_type="pt", **TOLD), expected)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["text_encoder", "vae", "encoder", "unet", "vae"]
    assert set(whole.model_cpu_offload_seq.split("->")) >= set(turns)


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_groups_of_weights_may_be_offloaded(components, draw, kind):
    whole = own(components)
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    whole.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type=kind, **options)
    assert torch.equal(draw(on=whole, **TOLD), draw(**TOLD))


def test_shallow_features_are_taken_while_the_encoder_runs(pipe, draw):
    """Under block-wise offload its patches' weights are on the device at no other time."""
    running, outside = [], []
    encoder = pipe.encoder
    hooks = [encoder.register_forward_pre_hook(lambda *_: running.append(1)),
             encoder.register_forward_hook(lambda *_: running.clear()),
             encoder.embeddings.patch_embeddings.register_forward_pre_hook(
                 lambda *_: None if running else outside.append(1))]  # fmt: skip
    draw()
    for hook in hooks:
        hook.remove()
    assert not outside and not encoder.embeddings.patch_embeddings._forward_hooks


def test_attention_slicing_leaves_the_subjects_attention_in_place(components, draw):
    whole = own(components)
    whole.enable_attention_slicing()
    assert torch.equal(draw(on=whole), draw())
