"""Models of a few thousand parameters, and what the tests of several files need."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ddmi.config import Config, TrainingConfig
from ddmi.domains.base import Domain, Split
from ddmi.domains.image import Image
from ddmi.model.autoencoder import AutoencoderConfig
from ddmi.model.decoder import DecoderConfig, Level
from ddmi.model.diffusion import DiffusionConfig
from ddmi.model.encoders.image import ConvEncoderConfig
from ddmi.model.readout import ReadoutConfig
from ddmi.model.unet import UNetConfig

# 12 channels are 4 groups of 3. A group of its own for every channel would leave convolution biases without a gradient
# but for rounding, which Adam turns into steps of full size.
ENCODER = ConvEncoderConfig(base=12, multipliers=(1, 2), blocks=1, head_width=12)
AUTOENCODER = AutoencoderConfig(
    latent_channels=4,
    decoder=DecoderConfig(
        base=12,
        levels=(Level(multiplier=2), Level(multiplier=1, enlarge=2), Level(multiplier=1, enlarge=2)),
        blocks=1,
        field_width=6,
        head_width=12,
    ),
    readout=ReadoutConfig(width=16, blocks=3, scale_width=8),
)
DIFFUSION = DiffusionConfig(
    unet=UNetConfig(base=12, multipliers=(1, 2), blocks=1, attention=(1, 2), head_width=12),
    timesteps=50,
    mixing_init=0.0,  # the network counts from the first step
)
TRAINING = TrainingConfig(
    autoencoder_steps=4,
    diffusion_steps=4,
    batch_size=4,
    precision="fp32",
    autoencoder_learning_rate=1e-3,
    diffusion_learning_rate=1e-3,
    warmup_steps=2,
    checkpoint_every=2,
    log_every=1,
    keep=10,
)


def image(**settings: Any) -> Image:
    """An 8 x 8 picture domain with a 4 x 4 latent."""
    return Image(**{"resolution": 8, "points": 16, "encode": ENCODER, **settings})


def dataset(domain: Domain, path: Any, part: Split) -> Any:
    """One part of the data at a path, as training sees it."""
    source = domain.open(path)
    return domain.fitted(source).dataset(source, part)


def config(domain: Domain | None = None, **training: Any) -> Config:
    """A complete run of a few seconds."""
    return Config(
        name="tiny",
        domain=domain or image(),
        autoencoder=AUTOENCODER,
        diffusion=DIFFUSION,
        training=replace(TRAINING, **training),
    )


def awake(module: nn.Module, deviation: float = 0.05, seed: int = 1) -> nn.Module:
    """The module with noise on all parameters: branches that start at zero would hide what reaches what."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += deviation * torch.randn(parameter.shape, generator=noise)
    return module


def equal(a: nn.Module | dict[str, Any], b: nn.Module | dict[str, Any]) -> bool:
    """Whether two modules or state dicts agree bit for bit."""
    first, second = (x.state_dict() if isinstance(x, nn.Module) else x for x in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def alike(a: Any, b: Any) -> bool:
    """Whether two images of 8 bits are equal but for rounding.

    Products of another shape add in another order, which moves values of about 1 by up to some 1e-6: enough for one
    that lies between two of the 256 levels to go to the other.
    """
    first, second = (np.asarray(image).astype(int) for image in (a, b))
    if first.shape != second.shape:
        return False
    apart = np.abs(first - second)
    return bool(apart.max(initial=0) <= 1 and (apart > 0).mean() < 0.02)


def untrained(folder: Path, seed: int = 0, settings: Config | None = None) -> Path:
    """A run folder with a model of random weights, of both stages."""
    from ddmi import DDMIPipeline
    from ddmi.model.autoencoder import D2CVAE, freeze
    from ddmi.model.diffusion import Diffusion

    torch.manual_seed(seed)
    settings = settings or config()
    autoencoder = awake(D2CVAE(settings.autoencoder, settings.domain))
    diffusion = awake(Diffusion(settings.diffusion, settings.domain.layout, settings.autoencoder.latent_channels))
    DDMIPipeline(settings, freeze(autoencoder), freeze(diffusion)).save_pretrained(folder / "model")  # type: ignore[arg-type]
    return folder


def shape_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes images and grids of the report of shapes so small that they take no time."""
    sizes = {"QUERIES": 2000, "COMPARED": 16, "TURNED": 16, "FRAMES": 2, "GRIDS": (8, 12, 24), "CELLS": 10}
    for name, value in {**sizes, "SIDE": 12, "CLOSE": 16}.items():
        monkeypatch.setattr(f"ddmi.report.sections.shape.{name}", value)
    monkeypatch.setattr("ddmi.rendering.shader.GROUND", 8)


@contextmanager
def largest(size: int) -> Iterator[None]:
    """No file grows beyond this many bytes: as on a full disk, the write that would fails in the operating system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Features(nn.Module):
    """A feature network of a few weights, which counts the pictures that it was shown."""

    name, num_features, fid = "tiny-features", 5, False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3 * 16, generator=torch.Generator().manual_seed(seed)))
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) @ self.weight.T
