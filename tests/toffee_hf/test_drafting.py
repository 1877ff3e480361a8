"""Drafts by the stock pipeline: where guidance ends, what the steps after it cost, and that they follow the prompt."""

import pytest
import torch

from tests.tiny_family import write_family
from toffee_hf.drafting import Steering, draft_latents
from toffee_hf.errors import RecipeError
from toffee_hf.family import Family

PROMPTS = ["a mug", "a red car on the moon", "a teapot"]
GUIDED, ENDED = (Steering(guidance=3.0, guidance_end=end, control=1.5) for end in (1.0, 0.5))


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return Family(write_family(tmp_path_factory.mktemp("family")), "cpu")


def seeded():
    return [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]


@pytest.fixture
def draw(family):
    """Draws three prompts, steered alike or each by its own; tells how many rows the denoiser had at each step.
    `stock` is diffusers' own call."""
    picture = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))

    def drawn(*steering):
        rows = []
        hook = family.unet.register_forward_pre_hook(lambda model, given: rows.append(len(given[0])))
        steering = steering if len(steering) == 3 else steering * 3
        found = draft_latents(family.draft_pipeline, PROMPTS, picture, seeded(), 4, steering)
        hook.remove()
        return found, rows

    def stock(**settings):
        return family.draft_pipeline(
            PROMPTS, picture, num_inference_steps=4, guidance_scale=3.0, controlnet_conditioning_scale=1.5, height=64,
            width=64, generator=seeded(), output_type="latent", **settings).images

    drawn.stock = stock
    return drawn


@pytest.mark.parametrize(("end", "rows"), [(1.0, [6, 6, 6, 6]), (0.75, [6, 6, 6, 3]), (0.74, [6, 6, 3, 3]),
                                           (0.5, [6, 6, 3, 3]), (0.01, [6, 3, 3, 3])])
def test_guidance_lasts_for_its_part_of_the_steps(draw, end, rows):
    assert draw(Steering(guidance=3.0, guidance_end=end))[1] == rows


def test_without_an_end_it_is_the_stock_pipeline(draw):
    assert torch.equal(draw(GUIDED)[0], draw.stock())


def test_after_its_end_the_prompt_alone_is_followed(draw):
    def almost_one(pipeline, step, timestep, tensors):
        pipeline._guidance_scale = 1 + 1e-7 if step >= 1 else pipeline._guidance_scale
        return tensors

    whole = draw.stock(callback_on_step_end=almost_one)
    guided, ended = draw(GUIDED)[0], draw(ENDED)[0]
    assert (ended - whole).abs().max() < 1e-4 * whole.abs().max()
    assert (ended - guided).abs().max() > 1e-2 * whole.abs().max()
    assert torch.equal(draw(GUIDED)[0], guided), "and the next drawing is guided again"


def test_each_prompt_is_steered_by_its_own_and_keeps_its_place(draw):
    mixed, rows = draw(ENDED, GUIDED, ENDED)
    assert rows == [4, 4, 2, 2] + [2, 2, 2, 2]
    ended, guided = draw(ENDED)[0], draw(GUIDED)[0]
    expected = torch.stack([ended[0], guided[1], ended[2]])
    assert (mixed - expected).abs().max() < 1e-4 * mixed.abs().max()


@pytest.mark.parametrize("end", [0, 1.01, -0.5, float("nan")])
def test_guidance_cannot_end_before_it_begins_nor_after_the_last_step(end):
    with pytest.raises(RecipeError, match=r"guidance_end must be in \(0, 1\]"):
        Steering(guidance=3.0, guidance_end=end)


def test_unguided_from_the_start_is_left_as_it_is(draw):
    assert draw(Steering(guidance=1.0, guidance_end=0.5))[1] == [3, 3, 3, 3]
