"""PSNR by hand; SSIM against its formula, window by window."""

import numpy as np
import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.metrics.pixels import psnr, ssim


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def ssim_by_hand(a, b, sigma):
    """Wang et al. 2004, eq. 13, for one channel, with a mirrored border."""
    radius = int(3.5 * sigma + 0.5)
    row = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    window = np.outer(row, row) / row.sum() ** 2
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    p, q = np.pad(a, radius, mode="reflect"), np.pad(b, radius, mode="reflect")
    values = []
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            u, v = (t[i : i + 2 * radius + 1, j : j + 2 * radius + 1] for t in (p, q))
            mean_u, mean_v = (window * u).sum(), (window * v).sum()
            var_u, var_v = (window * (u - mean_u) ** 2).sum(), (window * (v - mean_v) ** 2).sum()
            cov = (window * (u - mean_u) * (v - mean_v)).sum()
            values.append(
                (2 * mean_u * mean_v + c1) * (2 * cov + c2) / ((mean_u**2 + mean_v**2 + c1) * (var_u + var_v + c2))
            )
    return np.mean(values)


def test_psnr_of_a_constant_offset():
    x = pictures(3, 3, 8, 9)
    offset = torch.tensor([0.2, 0.02, 0.002]).view(3, 1, 1, 1)
    torch.testing.assert_close(psnr(x + offset, x), torch.tensor([20.0, 40.0, 60.0]), atol=2e-3, rtol=0)


def test_psnr_of_the_extremes():
    white, black = torch.ones(1, 3, 4, 4), -torch.ones(1, 3, 4, 4)
    assert psnr(white, black).item() == 0
    assert psnr(white, white).item() == float("inf")
    assert psnr(3 * white, white).item() == float("inf")  # what is written to a file is clamped


def test_ssim_of_equal_pictures_is_one():
    pytest.importorskip("torchmetrics")
    x = pictures(2, 3, 16, 20)
    torch.testing.assert_close(ssim(x, x), torch.ones(2))


@pytest.mark.parametrize(("shape", "sigma"), [((13, 17), 1.5), ((6, 9), 1.5), ((4, 7), 3 / 3.5), ((2, 5), 1 / 3.5)])
def test_ssim_is_its_formula(shape, sigma):
    pytest.importorskip("torchmetrics")
    a, b = pictures(1, 2, *shape), pictures(1, 2, *shape, seed=1)
    b = 0.7 * a + 0.3 * b
    expected = np.mean([ssim_by_hand(a[0, c].double().numpy(), b[0, c].double().numpy(), sigma) for c in range(2)])
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)


def test_ssim_scores_each_pair_alone():
    pytest.importorskip("torchmetrics")
    a, b = pictures(3, 3, 16, 16), pictures(3, 3, 16, 16, seed=1)
    torch.testing.assert_close(ssim(a[1:2], b[1:2]), ssim(a, b)[1:2])


def test_ssim_refuses_a_single_row():
    pytest.importorskip("torchmetrics")
    with pytest.raises(UserError, match="2x2"):
        ssim(torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 1, 8))
