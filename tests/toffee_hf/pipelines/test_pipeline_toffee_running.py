"""The editor under other schedulers, number types and places of its weights."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from transformers import DepthAnythingForDepthEstimation

from tests.tiny_family import small_dino
from tests.toffee_hf.pipelines.conftest import TOLD, own, photo, seeded
from toffee_hf.pipelines.pipeline_toffee import _as_spread
from toffee_hf.training.perception import depth_config

# --- schedulers ---------------------------------------------------------------------------------------------------

SCHEDULERS = [DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler,
              UniPCMultistepScheduler, LCMScheduler, DDPMScheduler, HeunDiscreteScheduler, PNDMScheduler]  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.__name__)
def test_schedulers_are_swapped(pipe, components, draw, kind):
    options = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    swapped = own(components, scheduler=kind.from_config(pipe.scheduler.config, **options))
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
    with pytest.raises(ValueError, match=f"v_prediction.*{kind.__name__}.*make Euler.*from_config"):
        draw(on=own(components, scheduler=kind()))


@pytest.mark.parametrize(("kind", "options", "sentence"), [
    (EDMEulerScheduler, {}, "EDMEulerScheduler is not set up for: make Euler"),
    (FlowMatchEulerDiscreteScheduler, {}, "FlowMatchEulerDiscreteScheduler is not set up for: make Euler"),
    (DPMSolverMultistepScheduler, {"use_flow_sigmas": True}, "use_flow_sigmas=False"),
    (EulerDiscreteScheduler, {"timestep_type": "continuous"}, "timestep_type='discrete'"),
    (DDIMScheduler, {"clip_sample": True}, "clip_sample=False"),
    (DEISMultistepScheduler, {}, "DEISMultistepScheduler stops at a noise of 1.4"),
    (HeunDiscreteScheduler, {"use_exponential_sigmas": False}, "HeunDiscreteScheduler goes astray"),
    (KDPM2AncestralDiscreteScheduler, {"use_exponential_sigmas": False}, "KDPM2Ancestral.* goes astray"),
])  # fmt: skip
def test_a_scheduler_that_would_draw_wrongly_is_refused(pipe, components, draw, kind, options, sentence):
    options = {"use_exponential_sigmas": False, **options} if "use_flow_sigmas" in options else options
    scheduler = kind.from_config(pipe.scheduler.config, **options)
    with pytest.raises(ValueError, match=sentence) as told:
        draw(on=own(components, scheduler=scheduler))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, UniPCMultistepScheduler, DEISMultistepScheduler],
                         ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("spacing", ["use_karras_sigmas", "use_exponential_sigmas"])
def test_times_that_repeat_are_taken_in_their_order(components, draw, kind, spacing):
    sigmas = {"use_karras_sigmas": False, "use_exponential_sigmas": False, spacing: True}
    whole = {k: v for k, v in components["scheduler"].config.items() if k not in ("sigma_min", "sigma_max")}
    scheduler = kind.from_config(whole if kind is DEISMultistepScheduler else components["scheduler"].config, **sigmas)
    assert torch.isfinite(draw(on=own(components, scheduler=scheduler), num_inference_steps=20)).all()


def test_ddim_made_from_the_config_does_not_cut_latents_off(pipe, components, draw):
    swapped = own(components, scheduler=DDIMScheduler.from_config(pipe.scheduler.config))
    assert swapped.scheduler.config.clip_sample is False and torch.isfinite(draw(on=swapped)).all()


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


def test_the_spread_of_a_large_picture_is_within_float16():
    """A picture of 1024 pixels has 65,536 latent values, which float16 cannot count."""
    x, like = (torch.randn(1, 4, 128, 128, generator=seeded(n)[0]).half() * scale for n, scale in ((0, 6), (1, 1)))
    mask = torch.ones(1, 1, 128, 128).half()
    found = _as_spread(x, like, mask)
    assert found.dtype == torch.float16 and torch.isfinite(found).all()
    assert found.float().std().item() == pytest.approx(like.float().std().item(), rel=1e-2)


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


def test_fusing_projections_leaves_the_subjects_attention_in_place(components, draw):
    whole = own(components)
    for change in (whole.unet.fuse_qkv_projections, whole.unet.unfuse_qkv_projections):
        change()
        assert torch.equal(draw(on=whole), draw())
