"""D2C-VAE: data to planes to functions, and the switches of its ablations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.coordinates import grid
from ddmi.model.autoencoder import D2CVAE, as_channels_last, freeze


def autoencoder(**settings):
    config = tiny.AUTOENCODER
    parts = {name: replace(getattr(config, name), **part) for name, part in settings.items()}
    return tiny.awake(D2CVAE(replace(config, **parts), tiny.image()), 0.1).eval()


X = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


def test_from_pictures_to_functions():
    model = autoencoder()
    posterior, signal = model(X)
    assert posterior.mean.shape == (2, *model.latent_shape) == (2, 4, 16)
    assert signal(grid((5, 3))[None], torch.ones(1)).shape == (2, 15, 3)


def test_without_noise_the_mode_is_decoded():
    model, at = autoencoder(), grid((5, 5))[None]
    posterior, signal = model(X)
    assert torch.equal(signal(at, torch.ones(1)), model.decode(posterior.mode)(at, torch.ones(1)))
    noise = torch.randn(2, 4, 16)
    _, noisy = model(X, noise)
    assert torch.equal(noisy(at, torch.ones(1)), model.decode(posterior.sample(noise))(at, torch.ones(1)))


@pytest.mark.parametrize(
    "settings, fields, inputs",
    [
        ({}, 3, [6, 22, 22]),
        ({"decoder": {"hierarchical": False}}, 1, [6, 16, 16]),  # Table 8, without the decomposition
        ({"readout": {"coarse_to_fine": False}}, 3, [18, 16, 16]),  # and without coarse to fine
        ({"readout": {"conditioning": "sum"}}, 3, [16, 16, 16]),
    ],
)
def test_ablations_change_what_they_say(settings, fields, inputs):
    model = autoencoder(**settings)
    _, signal = model(X)
    assert len(signal.fields) == fields
    assert [block.first.weight.shape[1] for block in model.readout.blocks] == inputs
    assert torch.isfinite(signal(grid((4, 4))[None], torch.ones(1))).all()


def test_memory_layout_changes_no_value():
    model = autoencoder()
    before = model(X)[0].mean
    assert torch.allclose(as_channels_last(model)(X)[0].mean, before, atol=1e-5)


def test_a_frozen_model_has_no_gradients():
    model = freeze(autoencoder().train())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
