"""Samples that agree with observations: a Gaussian posterior in closed form, determinism, chunks, and every refusal."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from ddmi import DDMIPipeline, Observations, UserError
from ddmi.base.coordinates import grid
from ddmi.base.planes import Plane
from ddmi.model.diffusion import Diffusion, DiffusionConfig
from ddmi.model.observed import draw_observed, minimised
from ddmi.model.sampling import SamplingConfig, sample_seeds

MEAN, DEVIATION, NOISE = 0.5, 0.8, 0.4
LAYOUT = (Plane(name="xy", axes=(0, 1), size=(64, 64)),)
SUMS, SEEN = torch.tensor([[1.0, 0.5, 0.0, -0.5], [0.0, 1.0, 1.0, 0.0]]), torch.tensor([1.0, 0.5])
"""Two weighted sums of the four channels of a cell are observed; the cells of one latent are samples."""


class Oracle(Diffusion):
    """Of N(m, s^2): E[noise | z_t] = sqrt(1 - a) (z_t - sqrt(a) m) / (a s^2 + 1 - a), a = alpha-bar."""

    def epsilon(self, z, t, condition=None):
        signal, spread = self.shares(t)
        return spread.sqrt() * (z - signal.sqrt() * MEAN) / (signal * DEVIATION**2 + spread)


def test_the_posterior_of_a_gaussian_in_closed_form():
    """Mean and covariance to 2 %: 65,536 samples have a standard error of about 0.5 %."""
    oracle = Oracle(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 4).eval()

    def misfit(z: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        apart = (SUMS @ z - SEEN[:, None]) / NOISE - jitter
        return 0.5 * apart.square().sum((1, 2)), SUMS.T @ apart / NOISE

    seeds = sample_seeds(0, 0, 16)
    z = draw_observed(oracle, seeds, None, SamplingConfig(sampler="ddpm", steps=30), misfit, (2, 4096)).z
    z = z.transpose(1, 2).flatten(0, 1)
    covariance = torch.linalg.inv(torch.eye(4) / DEVIATION**2 + SUMS.T @ SUMS / NOISE**2)
    mean = covariance @ (MEAN / DEVIATION**2 + SUMS.T @ SEEN / NOISE**2)
    assert float((z.mean(0) - mean).norm() / mean.norm()) < 0.02
    assert float((torch.cov(z.T) - covariance).norm() / covariance.norm()) < 0.02


def test_the_minimum_is_that_of_normal_equations_for_each_row_alone():
    torch.manual_seed(0)
    a, y, mean = torch.randn(12, 8), torch.randn(3, 12), torch.randn(3, 2, 4)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        apart = z.flatten(1) @ a.T - y[: len(z)]
        return 0.5 * apart.square().sum(1), (apart @ a).view_as(z)

    variance = torch.tensor([0.1, 1.0, 3.0])[:, None, None]
    found = minimised(loss, mean, variance, 200)
    for row in range(3):
        v = float(variance[row])
        exact = torch.linalg.solve(torch.eye(8) + v * a.T @ a, mean[row].flatten() + v * a.T @ y[row])
        assert torch.allclose(found[row].flatten(), exact, atol=1e-3)
    assert torch.allclose(minimised(loss, mean[:1], variance[:1], 9), minimised(loss, mean, variance, 9)[:1], atol=1e-5)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return DDMIPipeline.from_pretrained(tiny.untrained(tmp_path_factory.mktemp("run")))


AT = grid((8, 8))
GREY = Observations(AT[:40], torch.full((40, 3), 0.1))


def test_samples_are_deterministic_by_seed_and_independent_of_batch_and_chunks(pipe, monkeypatch):
    options = {"steps": 2, "observed": GREY}
    three = pipe.latents(3, 5, **options)
    assert torch.equal(three, pipe.latents(3, 5, **options))
    assert not torch.equal(three[0], three[1])
    alone = pipe.latents(1, 5, first=2, **options)
    monkeypatch.setattr("ddmi.pipeline.OBSERVED", 60)
    for other in (torch.cat([three[:2], alone]), pipe.latents(3, 5, **options)):
        assert float((other - three).abs().mean()) < 0.02 * float(three.std())


def test_samples_agree_with_what_was_observed(pipe):
    """In all channels, in the mean of some points, and in a weighted sum of channels."""
    blocks = AT.view(4, 2, 4, 2, 2).transpose(1, 2).reshape(16, 4, 2)
    luma = (0.3, 0.6, 0.1)
    for seen in (
        GREY,
        Observations(blocks, torch.full((16, 3), 0.1)),
        Observations(AT, torch.full((64, 1), 0.1), 0.1, luma),
    ):
        done: list[tuple[int, int]] = []
        own = pipe(2, 0, steps=6, observed=seen, progress=lambda *step, done=done: done.append(step))
        free = pipe(2, 0, steps=6)

        def error(field, seen=seen):
            values = field(seen.coordinates)
            values = values.mean(1) if values.dim() == 3 else values
            values = values if seen.mix is None else values @ torch.tensor(seen.mix)[:, None]
            return float((values - seen.values).square().mean())

        assert max(map(error, own)) < 0.5 * min(map(error, free))
        assert done[0] == (0, 2) and done[-1] == (2, 2)


@pytest.mark.parametrize(
    ("coordinates", "values", "noise", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0, 3), 0.1, "nothing is observed"),
        (torch.zeros(4, 2), torch.zeros(3, 3), 0.1, r"not \(4, 2\) and \(3, 3\)"),
        (torch.zeros(1, 3), torch.zeros(1, 3), 0.1, "have 2 coordinates, not 3"),
        (torch.tensor([[0.0, 1.5]]), torch.zeros(1, 3), 0.1, r"1 observations lie outside of \[-1, 1\], the first at"),
        (torch.zeros(2, 2), torch.tensor([[0.0] * 3, [0.9] * 3]), 0.1, r"contradict one another at \[0.0, 0.0\]"),
        (torch.zeros(1, 2), torch.full((1, 3), torch.nan), 0.1, "must be finite"),
        (torch.zeros(1, 2), torch.zeros(1, 3), 0.0, "noise of observations must be more than 0"),
        (torch.zeros(1, 2), torch.zeros(1, 2), 0.1, "3 values at each place, not 2"),
    ],
)
def test_observations_that_cannot_be_are_refused(pipe, coordinates, values, noise, message):
    with pytest.raises(UserError, match=message):
        pipe(1, observed=Observations(coordinates, values, noise))
