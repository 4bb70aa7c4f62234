"""Transformers on rows of tokens, with rotary positions (Vaswani et al. 2017; Su et al. 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.model.nn.attention import attention, heads_of

LONGEST = 100.0
"""The slowest rotation takes so many times longer than the fastest: rows here have tens of tokens, not thousands."""


def angles(positions: Float[Tensor, "n a"], pairs: int) -> Float[Tensor, "n p"]:
    """Rotary angles of tokens at positions along one or more axes, which share the pairs of channels evenly.

    Of the pairs of an axis the first turns by 1 a position, the last by 1 / LONGEST; what is left over does not turn.
    """
    each = pairs // positions.shape[1]
    frequency = torch.exp(-math.log(LONGEST) * torch.arange(each, device=positions.device) / max(each - 1, 1))
    turned = (positions[:, :, None] * frequency).flatten(1)
    return F.pad(turned, (0, pairs - turned.shape[1]))


def rotate(x: Float[Tensor, "b h n c"], by: Float[Tensor, "n p"]) -> Float[Tensor, "b h n c"]:
    """Turn the pairs (k, k + c / 2) of channels: the product of two turned vectors depends on their distance alone."""
    first, second = x.chunk(2, dim=3)
    cosine, sine = by.cos().to(x.dtype), by.sin().to(x.dtype)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=3)


class TokenAttention(nn.Module):
    """x + attention(norm(x)) among the tokens of each row.

    Where only the `last` tokens are wanted, the others are keys and values alone.
    """

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads_of(width, head_width)
        self.pairs = width // self.heads // 2
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n c"], positions: Float[Tensor, "n a"], last: int = 0
    ) -> Float[Tensor, "b m c"]:
        y, by = self.norm(x), angles(positions, self.pairs)
        query, (key, value) = self.query(y[:, -last:]), self.key_value(y).chunk(2, dim=2)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        mixed = attention(rotate(q, by[-last:]), rotate(k, by), v)
        return x[:, -last:] + self.out(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, then an MLP four times as wide on each token."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.attention = TokenAttention(width, head_width)
        wide, out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), wide, nn.GELU(), out)

    def forward(
        self, x: Float[Tensor, "b n c"], positions: Float[Tensor, "n a"], last: int = 0
    ) -> Float[Tensor, "b m c"]:
        x = self.attention(x, positions, last)
        return x + self.mlp(x)
