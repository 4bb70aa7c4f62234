"""Convolution blocks of encoder, decoder and denoiser."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Computed in fp32 whatever the precision, as autocast does on CUDA: more exact, and on CPUs up to three times as
    fast as torch's half-precision kernel.
    """

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        return super().forward(x.float()).to(x.dtype)


def norm(channels: int, groups: int = 32) -> GroupNorm:
    """GroupNorm with 32 groups (or `groups`), eps 1e-6; fewer in narrow networks, so that a group has four channels.

    A channel that is a group of its own would lose its mean, and with it whatever an embedding has added to it.
    """
    groups = math.gcd(groups, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return GroupNorm(groups, channels, eps=1e-6)


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """A same-size convolution that keeps the variance of its input (LeCun et al. 1998).

    torch's own initialisation shrinks the variance threefold in every layer; with this one short runs get much further.
    """
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with its weights at zero, so that the residual branch it ends starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """norm, SiLU, 3x3, (+ embedding), norm, SiLU, 3x3, and a 1x1 shortcut where the width changes.

    Args:
        embedding: width of a vector added between the convolutions (the diffusion time); 0 for none.
        film: the embedding scales and shifts what comes out of the second normalisation instead.
        groups: of the normalisations, at most.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int = 0,
        dropout: float = 0.0,
        film: bool = False,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.film = film
        self.first = nn.Sequential(norm(inputs, groups), nn.SiLU(), convolution(inputs, outputs))
        self.shift = nn.Linear(embedding, 2 * outputs if film else outputs) if embedding else None
        last = zeroed(convolution(outputs, outputs))
        self.second = nn.Sequential(norm(outputs, groups), nn.SiLU(), nn.Dropout(dropout), last)
        self.shortcut = convolution(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        h = self.first(x)
        if self.shift is not None:
            shift = self.shift(embedding)[:, :, None, None]
            if self.film:
                scale, shift = shift.chunk(2, dim=1)
                h = torch.addcmul(shift, self.second[0](h), 1 + scale)
                return self.shortcut(x) + self.second[1:](h)
            h = h + shift
        return self.shortcut(x) + self.second(h)


class Downsample(nn.Module):
    """Halve each axis with a strided 3x3 convolution; an axis of size 1 stays, an odd one is rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = convolution(channels, channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        stride = tuple(2 if cells > 1 else 1 for cells in x.shape[2:])
        return F.conv2d(x, self.convolution.weight, self.convolution.bias, stride=stride, padding=1)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to a given (height, width), then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = convolution(inputs, outputs)

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b o h2 w2"]:
        if tuple(x.shape[2:]) != size:
            x = F.interpolate(x, size=size, mode="nearest")
        return self.convolution(x)


class Shuffle(nn.Module):
    """Enlargement by a factor with a 3x3 convolution that has channels of its own for every cell of the finer grid.

    Sub-pixel convolution (Shi et al. 2016). What a coarse cell holds can be laid out in its finer ones at once, which
    copies of the cell and a convolution behind them learn slowly. Starts as copies (Aitken et al. 2017). An axis that
    does not grow gets the mean over what would have been its finer cells.
    """

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.convolution = convolution(inputs, outputs * factor**2)
        with torch.no_grad():
            first = self.convolution.weight[:: factor**2]
            self.convolution.weight.copy_(first.repeat_interleave(factor**2, dim=0))

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b o h2 w2"]:
        fine = self.convolution(x).unflatten(1, (-1, self.factor, self.factor))  # (b, o, f, f, h, w)
        if size[0] == x.shape[2]:
            fine = fine.mean(dim=2, keepdim=True)
        if size[1] == x.shape[3]:
            fine = fine.mean(dim=3, keepdim=True)
        laid = fine.permute(0, 4, 2, 5, 3, 1).flatten(3, 4).flatten(1, 2)  # (b, h2, w2, o)
        return laid.permute(0, 3, 1, 2)
