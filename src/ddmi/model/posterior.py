"""The posterior q(z | x): a diagonal Gaussian over every cell of every plane."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.planes import Layout, Planes, pack, unpack

LOG_VARIANCE_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class Posterior:
    """Mean and log-variance of z, packed over the planes of a layout; the log-variance is clamped to [-30, 20]."""

    mean: Float[Tensor, "b c l"]
    log_variance: Float[Tensor, "b c l"]
    layout: Layout

    @staticmethod
    def of(moments: Planes, layout: Layout) -> Posterior:
        """From planes (b, 2 c, h, w) that hold the means, then the log-variances."""
        mean, log_variance = pack(moments, layout).float().chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE_RANGE), layout)

    def sample(self, noise: Float[Tensor, "b c l"]) -> Planes:
        """mean + deviation * noise, the reparameterisation trick (Kingma & Welling 2013)."""
        return unpack(self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean), self.layout)

    @property
    def mode(self) -> Planes:
        """The most probable z."""
        return unpack(self.mean, self.layout)

    def kl(self) -> Float[Tensor, "b"]:
        """KL divergence to the standard normal, in nats per latent dimension (the mean that goes with Eq. 9)."""
        nats = 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)
        return nats.flatten(1).mean(dim=1)
