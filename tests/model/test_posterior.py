"""The posterior against torch.distributions."""

from __future__ import annotations

import torch
from torch.distributions import Normal, kl_divergence

from ddmi.base.planes import Plane, pack
from ddmi.model.posterior import Posterior

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(3, 2)), Plane(name="t", axes=(2,), size=(5,)))


def moments(seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return {p.name: torch.randn(4, 6, *p.shape, generator=numbers) for p in LAYOUT}


def test_a_standard_normal_has_no_divergence():
    zeros = {p.name: torch.zeros(4, 6, *p.shape) for p in LAYOUT}
    assert torch.equal(Posterior.of(zeros, LAYOUT).kl(), torch.zeros(4))


def test_the_divergence_is_the_closed_form_in_nats_per_dimension():
    posterior = Posterior.of(moments(), LAYOUT)
    normal = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    exact = kl_divergence(normal, Normal(0.0, 1.0)).flatten(1).mean(dim=1)
    assert torch.allclose(posterior.kl(), exact, atol=1e-5)
    assert (posterior.kl() > 0).all()


def test_means_come_before_log_variances():
    given = moments()
    posterior = Posterior.of(given, LAYOUT)
    assert torch.equal(posterior.mode["t"], given["t"][:, :3])
    assert torch.equal(posterior.log_variance, pack({name: x[:, 3:] for name, x in given.items()}, LAYOUT))


def test_a_sample_is_mean_plus_deviation_times_noise():
    posterior = Posterior.of(moments(), LAYOUT)
    noise = torch.randn_like(posterior.mean)
    normal = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    standard = (pack(posterior.sample(noise), LAYOUT) - normal.mean) / normal.stddev
    assert torch.allclose(standard, noise, atol=1e-4)
    without = posterior.sample(torch.zeros_like(noise))
    assert all(torch.equal(without[name], posterior.mode[name]) for name in without)


def test_the_log_variance_is_kept_in_range():
    wild = {p.name: torch.full((1, 6, *p.shape), 1e4) for p in LAYOUT}
    assert float(Posterior.of(wild, LAYOUT).log_variance.max()) == 20.0
    assert float(Posterior.of({n: -x for n, x in wild.items()}, LAYOUT).log_variance.min()) == -30.0
    assert torch.isfinite(Posterior.of(wild, LAYOUT).kl()).all()


def test_gradients_reach_both_moments():
    given = {name: x.requires_grad_() for name, x in moments().items()}
    posterior = Posterior.of(given, LAYOUT)
    posterior.sample(torch.randn_like(posterior.mean))["xy"].sum().backward()
    assert float(given["xy"].grad.abs().min()) > 0
