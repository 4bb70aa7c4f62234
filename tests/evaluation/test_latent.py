"""Latent health on planes whose answer is known, and on a model: disturbed latents score as decoded by hand."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.evaluation import Protocol, check_metrics, evaluate, latent, prepare
from ddmi.model.sampling import SamplingConfig


def test_white_noise_has_no_structure():
    z = torch.randn(512, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert abs(latent.neighbour_correlation(z)) < 0.01  # 230,000 pairs: a standard error of 0.002
    assert latent.spectral_tail(z) == pytest.approx(1.0, abs=0.05)


def test_constant_planes_are_all_structure():
    z = torch.randn(64, 4, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 8, 6)
    assert latent.neighbour_correlation(z) == pytest.approx(1.0, abs=1e-5)
    assert latent.spectral_tail(z) < 1e-5


def test_neighbours_of_a_moving_average_correlate_by_half():
    """Sums of two neighbours of white noise share one of their two terms; along the other axis they share none."""
    noise = torch.randn(4096, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    z = noise[..., 1:] + noise[..., :-1]
    assert latent.neighbour_correlation(z[..., :1, :]) == pytest.approx(0.5, abs=0.02)
    assert latent.neighbour_correlation(z) == pytest.approx(0.25, abs=0.02)  # the mean over both axes


def test_a_plane_of_one_axis_has_neighbours_along_it_alone():
    z = torch.randn(32, 2, 1, 1).expand(-1, -1, 1, 5)
    assert latent.neighbour_correlation(z) == pytest.approx(1.0, abs=1e-5)
    assert math.isnan(latent.neighbour_correlation(z[..., :1]))


def test_the_cosine_transform_by_hand():
    rows = latent.cosines(4)
    assert torch.allclose(rows @ rows.T, torch.eye(4), atol=1e-6)
    expected = [math.sqrt(0.5) * math.cos(math.pi * (n + 0.5) * 3 / 4) for n in range(4)]
    assert torch.allclose(rows[3], torch.tensor(expected), atol=1e-6)
    alternating = rows[3][:, None] * torch.ones(4) * torch.tensor([1.0, -1.0])[:, None, None, None]
    assert latent.spectral_tail(alternating) > 1e3  # all of it at the highest frequency along y, none constant


def test_a_low_pass_keeps_constants_and_removes_a_checkerboard():
    board = (-1.0) ** (torch.arange(6)[:, None] + torch.arange(6))
    planes = latent.low_passed({"xy": torch.stack([board, torch.full((6, 6), 3.0)])[None]})
    assert planes["xy"][0, 0].abs().max() < 1e-6 and torch.allclose(planes["xy"][0, 1], torch.tensor(3.0))


def test_health_is_a_metric_of_a_run(pictures, tmp_path):
    run = tiny.untrained(tmp_path)
    evaluated = prepare(run, pictures, Protocol(samples=2, sampling=SamplingConfig(steps=2)))
    found = evaluate(evaluated, ["latent"])["latent"]
    dataset = evaluated.held_out
    indices = list(range(len(dataset)))
    batch = dataset.batch(indices, latent.generator(0, "latent", 0, 0), indices)
    assert len(dataset) == found["protocol"]["signals"] == 2
    with torch.no_grad():
        model = evaluated.pipe.autoencoder
        posterior = model.encode(batch.x)
        plain, low = (model.decode(z) for z in (posterior.mode, latent.low_passed(posterior.mode)))
        domain = evaluated.pipe.config.domain
        assert found["loss"]["mean"] == pytest.approx(float(domain.likelihood(plain, batch).loss), rel=1e-5)
        assert found["loss"]["low_passed"] == pytest.approx(float(domain.likelihood(low, batch).loss), rel=1e-5)
    assert found["loss"]["noisy"] != found["loss"]["mean"]
    assert found["neighbour_correlation"].keys() == {"xy"} == found["spectral_tail"].keys()
    assert 0 < found["posterior_variance"] < 1
    with pytest.raises(UserError, match="unknown metric 'latents': did you mean 'latent'"):
        check_metrics(domain, ["latents"])
