"""Figures, fidelity inside a mask, and sheets: each against a value worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from toffee_hf.evaluation.figures import Figure, grid, psnr_inside, ssim_inside


def test_a_figure_is_a_mean_with_its_interval():
    figure = Figure.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert figure.mean == 2.5 and figure.n == 4
    assert figure.half == pytest.approx(1.96 * math.sqrt(5 / 3) / 2, abs=1e-3)


def test_the_interval_holds_the_mean_of_nearly_all_samples():
    generator = torch.Generator().manual_seed(0)
    found = [Figure.of(5 + 2 * torch.randn(100, generator=generator)) for _ in range(400)]
    assert 0.91 < sum(abs(figure.mean - 5) <= figure.half for figure in found) / 400 < 0.98


def test_what_is_not_a_number_does_not_count():
    nan = math.nan
    assert Figure.of(torch.tensor([nan, 1.0, 2.0, nan, 3.0, 4.0])) == Figure.of(torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_a_figure_of_nothing_says_so():
    figure = Figure.of(torch.tensor([math.nan, math.nan]))
    assert figure.n == 0 and math.isnan(figure.mean)


@pytest.mark.parametrize(("mean", "half", "said"), [
    (0.8712, 0.0204, "0.871 ± 0.020"), (-0.25, 0.1, "-0.250 ± 0.100"), (1.499, 0.5, "1.499 ± 0.500"),
    (1.5, 0.25, "1.5 ± 0.2"), (31.248, 0.36, "31.2 ± 0.4"), (-12.04, 1.0, "-12.0 ± 1.0"), (0.0, 0.0, "0.000 ± 0.000"),
])  # fmt: skip
def test_shares_have_three_digits_and_decibels_one(mean, half, said):
    assert str(Figure(mean, half, 8)) == said


def left_half(size=16):
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2] = 1
    return mask


def test_psnr_counts_the_mask_alone():
    truth, mask = torch.zeros(1, 3, 16, 16), left_half()
    inside, outside = truth + 0.2 * mask, truth + (1 - mask)        # 0.2: a tenth of the range of two
    assert psnr_inside(outside, truth, mask).item() == pytest.approx(80)
    assert psnr_inside(inside, truth, mask).item() == pytest.approx(20, abs=1e-4)


def test_psnr_of_a_smaller_mask_is_no_better_for_being_small():
    truth = torch.zeros(2, 3, 16, 16)
    mask = torch.cat([left_half(), torch.ones(1, 1, 16, 16)])
    assert psnr_inside(truth + 0.2, truth, mask).tolist() == pytest.approx([20, 20], abs=1e-4)


def test_psnr_weighs_a_soft_mask():
    truth, mask = torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    assert psnr_inside(truth + 0.2, truth, mask).item() == pytest.approx(20, abs=1e-4)


def noise(size=32, seed=0):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_ssim_of_a_picture_with_itself_is_one():
    x = noise()
    assert ssim_inside(x, x, torch.ones(2, 1, 32, 32)).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_ssim_is_blind_beyond_its_window():
    x, y, mask = noise(), noise(seed=1), left_half(32).expand(2, -1, -1, -1)
    far, near = y.clone(), y.clone()
    far[..., 16 + 3:] = 0                              # a window reaches 3 pixels over the mask's edge
    near[..., 16 + 2] = 0
    assert torch.equal(ssim_inside(x, far, mask), ssim_inside(x, y, mask))
    assert not torch.equal(ssim_inside(x, near, mask), ssim_inside(x, y, mask))


def test_ssim_falls_with_blur_and_with_noise():
    x, mask = F.avg_pool2d(noise(34), 3, 1), torch.ones(2, 1, 32, 32)
    soft = F.avg_pool2d(F.pad(x, (1,) * 4, mode="reflect"), 3, 1)
    softer = F.avg_pool2d(F.pad(soft, (1,) * 4, mode="reflect"), 3, 1)
    values = [ssim_inside(y, x, mask).mean().item() for y in (x, soft, softer, noise(seed=5))]
    assert values == sorted(values, reverse=True) and values[1] < 0.97 and abs(values[3]) < 0.2


def test_ssim_of_a_negative_is_negative():
    x = noise()
    assert (ssim_inside(-x, x, torch.ones(2, 1, 32, 32)) < -0.5).all()


def test_ssim_at_one_pixel_is_the_formula_of_its_window():
    x, y = noise(), noise(seed=1)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 10, 20] = 1
    a, b = (((z + 1) / 2)[:, :, 7:14, 17:24].flatten(2).double() for z in (x, y))
    ma, mb = a.mean(-1), b.mean(-1)
    covariance = ((a - ma[..., None]) * (b - mb[..., None])).mean(-1)
    spread = a.var(-1, correction=0) + b.var(-1, correction=0)
    found = (2 * ma * mb + 1e-4) * (2 * covariance + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (spread + 9e-4))
    assert ssim_inside(x, y, mask).tolist() == pytest.approx(found.mean(1).tolist(), abs=1e-4)


def test_a_grid_has_its_rows_from_top_to_bottom_and_clips():
    shades = torch.linspace(-1, 1, 6).view(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 5).clone()
    shades[1, 2] = 7.0
    sheet = grid([shades[0], shades[1]])
    assert sheet.mode == "RGB" and sheet.size == (15, 8)
    assert [sheet.getpixel((5 * column, 4 * row))[0] for row in (0, 1) for column in (0, 1, 2)] == [
        0, 51, 102, 153, 204, 255]  # fmt: skip
