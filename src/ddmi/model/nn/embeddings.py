"""Sinusoidal embeddings of scalars: diffusion time and sampling period."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sinusoid(value: Float[Tensor, "b"], width: int, longest: float = 10_000.0) -> Float[Tensor, "b width"]:
    """sin and cos of the value at width / 2 angular frequencies, geometric from 1 down to 1 / longest.

    Attention Is All You Need, section 3.5. `width` is even.
    """
    half = width // 2
    frequency = torch.exp(-math.log(longest) * torch.arange(half, device=value.device) / (half - 1))
    angle = value.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ScaleEmbedding(nn.Module):
    """Fourier embedding of the sampling periods s with fully connected layers behind it (section B.1).

    Args:
        periods: how many sampling periods a query has (1 for an image: it is sampled alike along x and y).
        width: of the embedding.
    """

    FREQUENCIES = 64

    def __init__(self, periods: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(periods * self.FREQUENCIES, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, periods: Float[Tensor, "p"]) -> Float[Tensor, "width"]:
        return self.layers(sinusoid(periods, self.FREQUENCIES).flatten())


class TimeEmbedding(nn.Module):
    """Diffusion time t in [-1, T), which need not be whole, to a vector; with `zero` to the zero vector at first."""

    def __init__(self, base: int, width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.base = base
        first, last = nn.Linear(base, width), nn.Linear(width, width)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(first, nn.SiLU(), last)

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b width"]:
        return self.layers(sinusoid(t, self.base))
