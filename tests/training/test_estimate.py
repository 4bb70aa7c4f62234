"""What a configuration costs: counts checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn

from ddmi.model.autoencoder import D2CVAE
from ddmi.model.diffusion import Diffusion
from ddmi.training import estimate


def test_a_linear_layer_by_hand():
    """y = x W + b, averaged: 2 b i o operations forwards, as many for the gradient of W; x and y are kept."""
    batch, inputs, outputs = 8, 5, 3
    model = nn.Linear(inputs, outputs, device="meta")

    def loss(module: nn.Module, count: int) -> torch.Tensor:
        return module(torch.empty(count, inputs, device="meta")).abs().mean()

    operations, kept = estimate.count(loss, model, batch)
    assert operations == 2 * (2 * batch * inputs * outputs)
    assert kept == 4 * batch * inputs + 4 * batch * outputs  # the weight itself is not counted
    assert model.weight.grad is None


def test_nothing_is_allocated_and_all_is_counted():
    config = tiny.config()
    autoencoder, denoiser = estimate.networks(config)
    assert {p.device.type for part in (autoencoder, denoiser) for p in part.parameters()} == {"meta"}
    counts = estimate.parameters(autoencoder, denoiser)
    real = D2CVAE(config.autoencoder, config.domain)
    assert sum(n for name, n in counts.items() if name != "denoiser") == sum(p.numel() for p in real.parameters())
    real = Diffusion(config.diffusion, config.domain.layout, 4)
    assert counts["denoiser"] == sum(p.numel() for p in real.parameters())


def test_a_constructor_outside_the_device_context_is_no_obstacle(monkeypatch):
    """transformers can leave torch.linspace so, for the rest of the process."""
    linspace = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *args, **kw: linspace(*args, **{"device": "cpu"} | kw))
    for part in estimate.networks(tiny.config()):
        assert {tensor.device.type for tensor in (*part.parameters(), *part.buffers())} == {"meta"}


@pytest.mark.parametrize("condition", ["none", "text", "class"])
def test_the_cost_of_a_batch_is_that_of_its_signals(condition):
    config = tiny.config()
    config = replace(config, diffusion=replace(config.diffusion, condition=condition, text_width=8))
    autoencoder, denoiser = estimate.networks(config)
    first = estimate.autoencoder_loss(config, autoencoder.encoder)
    assert first is not None
    for loss, model in ((first, autoencoder), (estimate.diffusion_loss(config), denoiser)):
        one, three, five = (estimate.count(loss, model, n) for n in (1, 3, 5))
        assert five[0] - three[0] == pytest.approx(2 * one[0], rel=0.05)
        assert five[1] > three[1] > one[1]


def test_steps_are_timed_and_their_memory_is_the_sum_of_its_parts():
    config = tiny.config(autoencoder_ema=0.9)
    found = estimate.steps(config)
    assert list(found) == ["autoencoder", "diffusion"]
    for step in found.values():
        assert step.weights == step.gradients == step.averages == step.optimiser // 2 == 4 * step.parameters
        assert step.memory == 5 * step.weights + step.activations
        assert step.timed == config.training.batch_size and 0 < step.seconds < 10


def test_large_networks_are_counted_not_timed(monkeypatch):
    monkeypatch.setattr(estimate, "product_rate", lambda precision: 1e6)
    found = estimate.steps(tiny.config())["diffusion"]
    assert found.timed == 0 and found.seconds == pytest.approx(4 * found.operations / 1e6)
