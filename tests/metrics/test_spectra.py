"""Spectra of cosines, whose frequencies and amplitudes are known, and Parseval's identity."""

import math

import pytest
import torch

from ddmi.metrics.spectra import log_spectrum, radial_spectrum, spectral_centroid


def cosine(u, v, height=32, width=48, amplitude=0.6):
    """u cycles across and v cycles down, (1, 1, height, width)."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return (amplitude * torch.cos(2 * math.pi * (u * x + v * y)))[None, None]


@pytest.mark.parametrize(("u", "v"), [(5, 0), (0, 7), (3, 4), (-6, 8)])
def test_a_cosine_peaks_at_its_frequency(u, v):
    x = cosine(u, v)
    spectrum = log_spectrum(x)[0]
    peaks = {divmod(index, 48) for index in spectrum.flatten().topk(2).indices.tolist()}
    assert peaks == {(16 + v, 24 + u), (16 - v, 24 - u)}
    assert spectrum.max().exp().item() == pytest.approx(0.3, rel=1e-4)  # half the amplitude in each
    radial = radial_spectrum(x)
    assert radial.frequency[radial.power[0].argmax()] == round(math.hypot(u, v))
    assert spectral_centroid(x).item() == pytest.approx(math.hypot(u, v), rel=1e-4)


def test_parseval():
    x = torch.randn(2, 3, 15, 22, generator=torch.Generator().manual_seed(0)) + 0.5
    radial = radial_spectrum(x)
    torch.testing.assert_close((radial.count * radial.power).sum(dim=1), x.square().mean(dim=(1, 2, 3)))
    assert radial.count.sum() == 15 * 22 and radial.frequency[0] == 0
    torch.testing.assert_close(radial.power[:, 0], x.mean(dim=(2, 3)).square().mean(dim=1))
    log = log_spectrum(x)
    torch.testing.assert_close(log.exp().square().sum(dim=(1, 2)), x.square().mean(dim=(1, 2, 3)))


def test_white_noise_is_flat():
    x = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    radial = radial_spectrum(x)
    inside = radial.power.mean(dim=0)[1:17] * 32 * 32
    torch.testing.assert_close(inside, torch.ones(16), atol=0.2, rtol=0)


def test_the_centroid_weighs_by_power_and_leaves_the_mean_out():
    x = cosine(4, 0, amplitude=1.0) + cosine(0, 10, amplitude=2.0) + 3
    assert spectral_centroid(x).item() == pytest.approx((4 + 4 * 10) / 5, rel=1e-4)
    assert spectral_centroid(torch.full((1, 3, 8, 8), 0.4)).item() == 0
    assert spectral_centroid(torch.zeros(1, 3, 8, 8)).item() == 0


def test_detail_raises_the_centroid():
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    assert spectral_centroid(smooth) < 0.7 * spectral_centroid(x)
