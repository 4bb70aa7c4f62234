"""D2C-VAE: discrete data -> latent planes -> continuous functions (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ddmi.base.planes import Layout, Planes
from ddmi.model.decoder import Decoder, DecoderConfig
from ddmi.model.encoders.base import Encoder
from ddmi.model.losses import ElboConfig
from ddmi.model.nn.blocks import convolution
from ddmi.model.posterior import Posterior
from ddmi.model.readout import Readout, ReadoutConfig
from ddmi.model.signal import Signal


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Table 9, without the encoder, which belongs to the domain, and the objective of stage 1 (Table 10).

    Args:
        latent_channels: channels of z on every plane.
        decoder: from z to basis fields.
        readout: from basis fields to point features.
        objective: the terms of stage 1.
    """

    latent_channels: int = 64
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    objective: ElboConfig = field(default_factory=ElboConfig)


@runtime_checkable
class Modality(Protocol):
    """The part of a domain that the networks are built from."""

    @property
    def layout(self) -> Layout: ...

    @property
    def periods(self) -> int: ...

    def encoder(self) -> Encoder: ...

    def head(self, width: int) -> nn.Module: ...


class D2CVAE(nn.Module):
    """encode(x) -> Posterior; decode(z) -> Signal."""

    def __init__(self, config: AutoencoderConfig, domain: Modality) -> None:
        super().__init__()
        self.config, self.layout = config, domain.layout
        self.encoder = domain.encoder()
        self.moments = convolution(self.encoder.width, 2 * config.latent_channels)
        self.decoder = Decoder(config.decoder, config.latent_channels, domain.layout)
        self.readout = Readout(
            config.readout,
            fields=len(config.decoder.fields),
            field_width=config.decoder.field_width,
            planes=len(domain.layout),
            periods=domain.periods,
        )
        self.head = domain.head(config.readout.width)

    def encode(self, x: Tensor) -> Posterior:
        """q(z | x) over the planes of the domain's layout."""
        return Posterior.of({name: self.moments(h) for name, h in self.encoder(x).items()}, self.layout)

    def decode(self, z: Planes) -> Signal:
        """The functions that z stands for."""
        return Signal(self.decoder(z), self.readout, self.head, self.layout)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Posterior, Signal]:
        """Encode, sample z with the noise (b, c, l) (None: the mode), decode."""
        posterior = self.encode(x)
        z = posterior.mode if noise is None else posterior.sample(noise)
        return posterior, self.decode(z)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(channels, cells): the shape of a packed latent."""
        return (self.config.latent_channels, sum(h * w for h, w in (plane.shape for plane in self.layout)))


def freeze(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, its parameters without gradients."""
    return module.eval().requires_grad_(False)


def as_channels_last(module: nn.Module) -> nn.Module:
    """Convolution weights laid out channels-last: several times faster on CPUs, never slower on accelerators."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
