"""Base and ControlNet: trained on together, on the subject most, and the caption as a whole counts."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from toffee_hf.training.diffusion import (
    ANY_SHOT,
    LEARNT_THERE,
    SEEN_AS_TOLD,
    UNET,
    _correlation,
    _mostly_any,
    _noised_rows,
    _on_the_subject,
    new_controlnet,
    noise_schedule,
    train_base,
    train_consistency,
    train_controlnet,
)
from toffee_hf.training.loop import Schedule
from toffee_hf.training.pool import SHOTS

SCHEDULE = Schedule(steps=2, learning_rate=1e-3, batch_size=4)


@pytest.fixture
def unet():
    """In the shape of the shipped base, narrow."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**UNET, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 16, 16),
                                   "cross_attention_dim": 64, "attention_head_dim": 2})


@pytest.fixture
def captions():
    """Hidden states that differ by step."""
    return lambda index, step: torch.randn(len(index), 5, 64, generator=torch.Generator().manual_seed(step))


def _moved(model, before):
    return {name.partition(".")[0] for name, p in model.state_dict().items() if not torch.equal(p, before[name])}


def _state(model):
    return {name: p.clone() for name, p in model.state_dict().items()}


def test_the_base_learns_from_pictures(toys, unet, captions, tmp_path):
    before = _state(unet)
    train_base(unet, toys, captions, SCHEDULE, tmp_path, 0)
    assert {"conv_in", "add_embedding", "mid_block", "conv_out"} <= _moved(unet, before)


def test_base_and_controlnet_learn_together_and_go_on(toys, unet, captions, tmp_path):
    start = _state(unet)
    control = new_controlnet(unet)
    mine = _state(control)
    found, base = train_controlnet(control, toys, captions, unet, SCHEDULE, tmp_path / "one", 0)
    assert found is control and base is unet
    assert "controlnet_down_blocks" in _moved(control, mine) and "add_embedding" in _moved(unet, start)
    assert not found.training and not base.training
    again = UNet2DConditionModel(**unet.config)
    again.load_state_dict(start)
    other = new_controlnet(again)
    other.load_state_dict(mine)
    train_controlnet(other, toys, captions, again, SCHEDULE, tmp_path / "one", 0)
    assert all(torch.equal(a, b) for a, b in zip(_state(unet).values(), _state(again).values(), strict=True)), \
        "a finished training is loaded, not done again"


def test_depth_is_told_to_a_quarter_of_a_batch(toys, unet, captions, tmp_path):
    seen = []
    control = new_controlnet(unet)
    control.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    train_controlnet(control, toys, captions, unet, SCHEDULE, tmp_path, 0)
    assert seen == [1, 1]


def test_a_controlnet_learns_from_the_depth_that_is_seen(toys, unet, captions, family, tmp_path):
    control = new_controlnet(unet)
    for block in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.1)
    start = _state(control)
    found = {}
    for weight in (SEEN_AS_TOLD, 0.0):
        control.load_state_dict(start)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("toffee_hf.training.diffusion.SEEN_AS_TOLD", weight)
            folder = tmp_path / str(weight)
            frozen = [_state(model) for model in (unet, family.vae, family.depth)]
            assert train_consistency(control, toys, captions, unet, family.vae, family.depth, SCHEDULE, folder,
                                     0) is control
        assert all(not _moved(model, before) for model, before in zip((unet, family.vae, family.depth), frozen,
                                                                      strict=True)), "only the ControlNet learns"
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert all(0 <= row["apart"] <= 2 and row["loss"] > 0 for row in rows)
        found[weight] = _state(control), rows[0]
    (told, row), (not_told, other) = found.values()
    assert row["apart"] == other["apart"]
    assert row["loss"] == pytest.approx(other["loss"] + SEEN_AS_TOLD * row["apart"], abs=1e-4)
    assert any(not torch.equal(told[name], not_told[name]) for name in told), "what is seen has a gradient"


def test_correlation_is_by_the_weights():
    a, generator = torch.rand(3, 1, 8, 8), torch.Generator().manual_seed(0)
    weight = (torch.rand(3, 1, 8, 8, generator=generator) > 0.5).float()
    b = torch.where(weight > 0, 0.3 * a + 0.2, torch.rand(3, 1, 8, 8, generator=generator))
    assert _correlation(a, b, weight).tolist() == pytest.approx([1.0] * 3, abs=1e-4)
    assert _correlation(a, -b, weight).tolist() == pytest.approx([-1.0] * 3, abs=1e-4)
    assert _correlation(a, b, torch.ones_like(a)).max() < 0.9
    flat = _correlation(a, torch.full_like(a, 0.4), weight)
    assert flat.tolist() == pytest.approx([0.0] * 3, abs=1e-3)


def test_the_caption_as_a_whole_counts(unet):
    noisy, t = torch.randn(1, 4, 16, 16), torch.tensor([500])
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for attention in getattr(block, "attentions", ()):
            for layer in attention.transformer_blocks:
                torch.nn.init.zeros_(layer.attn2.to_v.weight)
    one, other = (unet(noisy, t, torch.randn(1, 5, 64)).sample for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-4), "without a word of it reaching the attention"


def test_most_is_learnt_where_pictures_are_drawn(toys):
    scheduler = noise_schedule()
    scheduler.set_timesteps(100)
    index = torch.zeros(20_000, dtype=torch.long)
    noisy, velocity, t = _noised_rows(toys, index, scheduler.alphas_cumprod, torch.Generator().manual_seed(0))
    assert noisy.shape == velocity.shape == (20_000, 4, 16, 16)
    assert 0 <= t.min() < 20 and 980 <= t.max() <= 999, "a little of everything"
    drawn = scheduler.timesteps
    there = t[(t >= drawn.min()) & (t <= drawn.max())].float()
    assert 0.75 < len(there) / len(t) < LEARNT_THERE, "some a little beyond"
    deciles = torch.arange(1, 10) / 10
    assert (there.quantile(deciles) - drawn.quantile(deciles)).abs().max() < 15, "as often as a sampler stops there"


def test_an_error_on_the_subject_counts_more(toys):
    index = torch.tensor([0])
    inside = torch.nn.functional.avg_pool2d(toys.planes("mask", index), 8)
    assert 0 < inside.mean() < 1
    velocity = torch.zeros(1, 4, 16, 16)
    on, beside = ((where > 0.99).float().expand_as(velocity) for where in (inside, 1 - inside))
    costs = [_on_the_subject(x / x.sum(), velocity, toys, index)["loss"] * x.sum() for x in (on, beside)]
    assert costs[0] == pytest.approx(3 * costs[1].item(), rel=0.02)


def test_most_of_what_is_learnt_is_in_any_pose_and_style():
    rows = _mostly_any(SimpleNamespace(subjects=50), 8000, torch.Generator().manual_seed(0))
    shots = torch.bincount(rows % SHOTS, minlength=SHOTS) / len(rows)
    assert rows.min() >= 0 and rows.max() < 50 * SHOTS and len((rows // SHOTS).unique()) == 50
    assert shots.tolist() == pytest.approx([(1 - ANY_SHOT) / 2] * 2 + [ANY_SHOT / 2] * 2, abs=0.02)
