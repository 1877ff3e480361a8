"""The editor as a diffusers pipeline: what every pipeline does, it does."""

import inspect
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.toffee_hf.pipelines.conftest import TOLD, box, own, photo, seeded
from toffee_hf.pipelines.pipeline_toffee import ToffeePipeline

PROMPTS = ["a red mug on the beach", "a photo of a car in the snow"]


def test_the_call_takes_what_users_of_diffusers_give():
    known = inspect.signature(ToffeePipeline.__call__).parameters
    assert list(known)[:3] == ["self", "prompt", "subject_image"]
    assert known.keys() >= {"num_inference_steps", "num_images_per_prompt", "generator", "latents", "output_type",
                            "return_dict", "height", "width", "guidance_scale", "negative_prompt", "eta",
                            "prompt_embeds", "negative_prompt_embeds", "callback_on_step_end",
                            "callback_on_step_end_tensor_inputs"}  # fmt: skip


@pytest.mark.parametrize(("output_type", "kind"), [("pil", list), ("np", np.ndarray), ("pt", Tensor)])
def test_pictures_come_as_asked(draw, output_type, kind):
    images = draw(output_type=output_type, num_images_per_prompt=2)
    assert isinstance(images, kind) and len(images) == 2
    if kind is list:
        assert all(isinstance(image, Image.Image) and image.size == (64, 64) for image in images)
    else:
        assert images.shape == ((2, 3, 64, 64) if kind is Tensor else (2, 64, 64, 3))
        assert images.min() >= 0 and images.max() <= 1


def test_output_types_tell_of_the_same_pictures(draw):
    pil, array, tensor = (draw(output_type=kind) for kind in ("pil", "np", "pt"))
    assert np.array_equal(np.array(pil[0]), (array[0] * 255).round().astype(np.uint8))
    assert np.array_equal(array[0], tensor[0].permute(1, 2, 0).numpy())


def test_a_tuple_holds_what_the_output_holds(pipe, draw):
    alone = pipe("a red mug on the beach", photo(1), num_inference_steps=2, generator=seeded(0)[0],
                 output_type="latent", return_dict=False)
    assert isinstance(alone, tuple) and len(alone) == 1 and torch.equal(alone[0], draw())


@pytest.mark.parametrize("edit", [{}, TOLD], ids=["new", "edited"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_picture_is_drawn_alone_as_in_a_batch(draw, edit, guidance):
    subjects = [photo(1), photo(2)]
    together = draw(prompt=PROMPTS, subject_image=subjects, generator=seeded(1, 2), guidance_scale=guidance, **edit)
    for i in range(2):
        alone = draw(prompt=PROMPTS[i], subject_image=subjects[i], generator=seeded(i + 1)[0],
                     guidance_scale=guidance, **edit)  # fmt: skip
        assert (alone[0] - together[i]).abs().max() < 1e-4


def test_several_pictures_of_each_prompt_lie_prompt_by_prompt(draw):
    several = draw(prompt=PROMPTS, generator=seeded(1, 2, 3, 4), num_images_per_prompt=2)
    for i, prompt in enumerate(PROMPTS):
        pair = draw(prompt=prompt, generator=seeded(2 * i + 1, 2 * i + 2), num_images_per_prompt=2)
        assert (several[2 * i : 2 * i + 2] - pair).abs().max() < 1e-4


def test_a_seed_is_a_picture(draw):
    assert torch.equal(draw(), draw())
    assert (draw() - draw(generator=seeded(1)[0])).abs().max() > 1e-3
    one_generator = draw(num_images_per_prompt=3)
    assert (one_generator[0] - one_generator[1]).abs().max() > 1e-3


def test_noise_may_be_given(draw):
    noise = torch.randn(1, 4, 8, 8, generator=seeded(0)[0])
    assert torch.equal(draw(latents=noise, generator=None), draw())
    assert (draw(latents=noise + 1) - draw()).abs().max() > 1e-3


def test_what_is_asked_for_has_a_say(draw):
    base = draw()
    for change in ({"prompt": PROMPTS[1]}, {"subject_image": photo(2)}, {"subject_mask": box()}, {"subject_scale": 0.5},
                   {"negative_prompt": "a photo"}, {"guidance_scale": 5.0}, {"depth_image": box()},
                   {"subject_regions": box()}, TOLD):  # fmt: skip
        assert (draw(**change) - base).abs().max() > 1e-5, change


@pytest.mark.parametrize(("guidance", "pictures"), [(0.0, 1), (1.0, 1), (2.0, 2)])
def test_guidance_costs_a_second_pass_above_one(pipe, draw, guidance, pictures):
    seen = []
    with pipe.unet.conv_in.register_forward_hook(lambda module, given, made: seen.append(len(made))):
        drawn = draw(guidance_scale=guidance)
        assert seen == [pictures] * 2
        unlike = draw(guidance_scale=guidance, negative_prompt="a dog")
    assert torch.equal(drawn, unlike) == (pictures == 1), "without guidance, negative prompts do not count"


@pytest.mark.parametrize("edit", [{}, TOLD], ids=["new picture", "edit"])
def test_rescaled_guidance_has_the_spread_of_the_unguided_where_it_draws(pipe, draw, monkeypatch, edit):
    made, used, predict, step = [], [], pipe.unet.forward, pipe.scheduler.step
    monkeypatch.setattr(pipe.unet, "forward", lambda *given, **told: made.append(
        (predict(*given, **told)[0], told["space"][0, 4] > 0)) or (made[-1][0],))
    monkeypatch.setattr(pipe.scheduler, "step", lambda x, *given, **told: used.append(x[0]) or step(x, *given, **told))
    for share in (0.0, 1.0):
        draw(guidance_scale=6.0, guidance_rescale=share, num_inference_steps=1, **edit)
    ((without, wanted), drawn), (as_is, rescaled) = made[0], used
    assert torch.allclose(as_is, without + 6 * (wanted - without))
    assert torch.equal(rescaled[:, ~drawn], as_is[:, ~drawn]) and bool(edit) == bool((~drawn).any())
    spreads = [x[:, drawn].std(correction=0).item() for x in (as_is, rescaled, wanted)]
    assert spreads[1] == pytest.approx(spreads[2], rel=1e-3) != pytest.approx(spreads[0], rel=1e-3)


def test_a_negative_prompt_serves_all_prompts_or_each_has_its_own(draw):
    same = {"prompt": PROMPTS, "generator": None, "latents": torch.randn(2, 4, 8, 8)}
    one, each = draw(**same, negative_prompt="a dog"), draw(**same, negative_prompt=["a dog", "a dog"])
    assert torch.equal(one, each)
    assert (draw(**same, negative_prompt=["a dog", "a cat"])[1] - one[1]).abs().max() > 1e-5


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_embeddings_may_stand_in_for_the_prompt_and_for_the_text_encoder(components, pipe, draw, guidance):
    with torch.no_grad():
        wanted, unwanted, pooled, _ = pipe.encode_prompt(PROMPTS[0], negative_prompt="a dog")
    assert pooled is None and wanted.shape == unwanted.shape == (1, 32, 32)
    embeds = {"prompt": None, "prompt_embeds": wanted, "guidance_scale": guidance}
    if guidance > 1:
        embeds["negative_prompt_embeds"] = unwanted
    expected = draw(prompt=PROMPTS[0], negative_prompt="a dog", guidance_scale=guidance)
    assert torch.equal(draw(**embeds), expected)
    deaf = own(components, text_encoder=None, tokenizer=None)
    assert torch.equal(draw(on=deaf, **embeds), expected)


def test_prompts_are_encoded_before_any_call(pipe):
    with torch.no_grad():
        wanted, unwanted, *_ = pipe.encode_prompt(PROMPTS)
        alone = pipe.encode_prompt(PROMPTS[1], do_classifier_free_guidance=False)
        pairs = pipe.encode_prompt(prompt=PROMPTS, device=torch.device("cpu"), num_images_per_prompt=2,
                                   do_classifier_free_guidance=True, negative_prompt="a dog")  # fmt: skip
    assert wanted.shape == unwanted.shape and len(wanted) == 2
    assert (alone[0][0] - wanted[1]).abs().max() < 1e-5 and alone[1] is None
    assert torch.equal(pairs[0], wanted[[0, 0, 1, 1]]) and pairs[1].shape == pairs[0].shape
    with pytest.raises(TypeError):
        pipe.encode_prompt(PROMPTS, "cpu", 1, True)


def test_a_callback_sees_each_step_and_what_it_returns_counts(pipe, draw):
    seen = []

    def watch(on, step, time, tensors):
        assert on is pipe and on.num_timesteps == 3 and set(tensors) == set(pipe._callback_tensor_inputs)
        seen.append((step, float(time)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    last = draw(num_inference_steps=3, callback_on_step_end=watch,
                callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs)  # fmt: skip
    assert seen == list(enumerate(pipe.scheduler.timesteps.tolist())) and last.abs().max() == 0


def test_a_callback_may_change_the_prompt_or_the_guidance_or_return_nothing(draw):
    def without_guidance(on, step, time, tensors):
        on._guidance_scale = 1.0

    def silence(on, step, time, tensors):
        return {"prompt_embeds": tensors["prompt_embeds"] * 0}

    base = draw()
    assert (draw(callback_on_step_end=without_guidance) - base).abs().max() > 1e-5
    told = {"callback_on_step_end": silence, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    assert (draw(**told) - base).abs().max() > 1e-5
    assert torch.equal(draw(callback_on_step_end=lambda *_: None), base)


def test_the_official_callbacks_name_their_own_tensors(draw):
    from diffusers.callbacks import SDCFGCutoffCallback

    cut = draw(callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0))
    assert (cut - draw()).abs().max() > 1e-5


def test_guidance_may_end_on_the_way_as_diffusers_documents_it(draw):
    seen = []

    def documented(on, step, time, tensors):
        seen.append(len(tensors["prompt_embeds"]))
        if step == 1:
            on._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    def short(on, step, time, tensors):
        on._guidance_scale = 0.0 if step == 1 else on._guidance_scale

    asked = {"prompt": PROMPTS, "generator": seeded(1, 2, 3, 4), "num_images_per_prompt": 2, "num_inference_steps": 4}
    found = draw(**asked, callback_on_step_end=documented, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert seen == [8, 8, 4, 4]
    assert torch.equal(found, draw(**asked | {"generator": seeded(1, 2, 3, 4)}, callback_on_step_end=short))
    assert (found - draw(**asked | {"generator": seeded(1, 2, 3, 4)})).abs().max() > 1e-5


def test_it_can_be_interrupted(pipe, draw):
    steps = []

    def stop(on, step, time, tensors):
        steps.append(step)
        on._interrupt = step == 1
        return {}

    halfway = draw(num_inference_steps=6, callback_on_step_end=stop)
    assert steps == [0, 1] and torch.isfinite(halfway).all()
    assert draw(num_inference_steps=2).shape == halfway.shape and not pipe.interrupt


def test_the_progress_bar_is_quiet_when_told_so(pipe, draw, capsys):
    draw()
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(disable=False, desc="drawing")
    draw()
    assert "drawing" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(64, 128), (96, 48), (16, 64), (80, 112)], ids=str)
def test_pictures_need_not_be_square(draw, size):
    width, height = size
    images = draw(width=width, height=height, output_type="pil")
    assert images[0].size == size
    assert torch.isfinite(draw(width=width, height=height, subject_regions=box(), depth_image=box())).all()


def test_text_past_the_tokenizers_reach_is_left_out_with_a_warning(draw, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    words = "a red mug on the beach " * 40
    assert torch.equal(draw(prompt=words), draw(prompt=words + " and a blue car"))
    assert "tokens" in caplog.text and "left out" in caplog.text
