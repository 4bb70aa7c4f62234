"""Losses against torch.distributions, the singular value decomposition, and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Laplace, Normal

from ddmi.model.losses import (
    PatchDiscriminator,
    SpectralNorm,
    bernoulli,
    gaussian,
    hinge_discriminator,
    hinge_generator,
    laplace,
    linear_anneal,
    noisy,
)


@pytest.fixture
def pair():
    return torch.randn(4, 7), torch.randn(4, 7)


def test_likelihoods_are_those_of_their_distributions(pair):
    prediction, target = pair
    constant = math.log(2)
    assert torch.allclose(laplace(prediction, target) + constant, -Laplace(prediction, 1.0).log_prob(target).mean())
    constant = 0.5 * math.log(2 * math.pi)
    assert torch.allclose(gaussian(prediction, target) + constant, -Normal(prediction, 1.0).log_prob(target).mean())
    occupied = (target > 0).float()
    assert torch.allclose(bernoulli(prediction, occupied), -Bernoulli(logits=prediction).log_prob(occupied).mean())


def test_likelihoods_are_computed_in_full_precision(pair):
    prediction, target = pair
    for likelihood in (laplace, gaussian, bernoulli):
        half = likelihood(prediction.bfloat16(), target.sigmoid())
        assert half.dtype == torch.float32
        assert torch.equal(half, likelihood(prediction.bfloat16().float(), target.sigmoid()))


def test_the_anneal_is_a_straight_line():
    assert linear_anneal(1.0, 3.0, 0.5, -1.0) == 1.0
    assert linear_anneal(1.0, 3.0, 0.5, 0.0) == 1.0
    assert linear_anneal(1.0, 3.0, 0.5, 0.25) == pytest.approx(2.0)
    assert linear_anneal(1.0, 3.0, 0.5, 0.5) == 3.0 == linear_anneal(1.0, 3.0, 0.5, 0.9)
    assert linear_anneal(10.0, 0.0, 1.0, 0.9) == pytest.approx(1.0)
    assert linear_anneal(1.0, 3.0, 0.0, 0.0) == 3.0


def test_noise_on_a_latent_is_as_large_as_that_latent():
    """(1 - share) z + share r noise, r of each signal alone: at any share a z of noise keeps its mean square."""
    z, noise = torch.randn(3, 2, 4000), torch.randn(3, 2, 4000)
    z *= torch.tensor([0.1, 1.0, 20.0])[:, None, None]
    size, share = z.square().mean(dim=(1, 2)), torch.tensor([0.0, 0.3, 1.0])
    found = noisy(z, noise, share)
    assert torch.equal(found[0], z[0])
    torch.testing.assert_close(found[1], 0.7 * z[1] + 0.3 * size[1].sqrt() * noise[1])
    assert (found.square().mean(dim=(1, 2)) / size).tolist() == pytest.approx([1, 0.7**2 + 0.3**2, 1], rel=0.05)


@pytest.fixture
def network():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.Linear(5, 9)
    )


def largest(network):
    return sum(torch.linalg.svdvals(m.weight.flatten(1))[0] for m in network if isinstance(m, nn.Conv2d | nn.Linear))


def test_spectral_norms_are_the_largest_singular_values(network):
    norm = SpectralNorm(network, iterations=4)
    for _ in range(40):
        estimate = norm()
    assert float(estimate.detach()) == pytest.approx(float(largest(network).detach()), rel=1e-4)


def test_the_estimate_never_exceeds_them(network):
    assert (
        0.9 * float(largest(network).detach())
        < float(SpectralNorm(network, iterations=1)().detach())
        <= float(largest(network).detach()) * (1 + 1e-6)
    )


def test_their_gradient_is_that_of_the_singular_value(network):
    norm = SpectralNorm(network, iterations=4)
    for _ in range(60):
        estimate = norm()
    estimate.backward()
    got = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    largest(network).backward()
    expected = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(got) == len(expected) == 4
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(got, expected, strict=True))


def test_the_vectors_follow_the_weights_and_are_stored(network):
    norm = SpectralNorm(network, iterations=1)
    for _ in range(30):
        norm()
    with torch.no_grad():
        network[0].weight *= 3
    assert float(norm().detach()) == pytest.approx(float(largest(network).detach()), rel=1e-2)
    assert sum(name.startswith("v") for name in norm.state_dict()) == 3  # 8x27, 8x72 (two of them), 9x5
    again = SpectralNorm(network, iterations=1)
    again.load_state_dict(norm.state_dict())
    assert torch.equal(again(), norm())
    assert not list(norm.parameters())  # the network owns its weights


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_discriminator(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert hinge_generator(fake).item() == pytest.approx(1.5)


def test_the_discriminator_sees_the_scale():
    judge, picture = PatchDiscriminator(4, 3), torch.randn(2, 3, 32, 32)
    assert judge(picture, 1.0).shape == (2, 1, 4, 4)  # a verdict a patch
    assert not torch.allclose(judge(picture, 1.0), judge(picture, 0.5), atol=1e-4)
