"""Attention over the tokens of all planes at once, and from planes to text."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ddmi.base.planes import Planes
from ddmi.model.nn.blocks import norm

SHORT = 256
"""Keys up to which half-precision attention on a CPU is multiplied out: the backward pass of torch's fused kernel takes
two to seven times as long there (measured from 8 to 256 keys)."""


def heads_of(width: int, head_width: int) -> int:
    """Number of heads of at most `head_width` channels each that divide the width."""
    heads = max(1, width // head_width)
    while width % heads:
        heads -= 1
    return heads


def attention(
    query: Float[Tensor, "b h n c"],
    key: Float[Tensor, "b h m c"],
    value: Float[Tensor, "b h m c"],
    mask: Bool[Tensor, "#b 1 1 m"] | None = None,
) -> Float[Tensor, "b h n c"]:
    """Scaled dot-product attention; `mask` is True where a key may be read."""
    if query.device.type != "cpu" or query.dtype == torch.float32 or key.shape[2] > SHORT:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=3).to(value.dtype) @ value


def attend(
    query: Float[Tensor, "b n c"],
    key: Float[Tensor, "b m c"],
    value: Float[Tensor, "b m c"],
    heads: int,
    mask: Bool[Tensor, "b m"] | None = None,
) -> Float[Tensor, "b n c"]:
    """Multi-head scaled dot-product attention; `mask` is True where a key may be read."""
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    allowed = None if mask is None else mask[:, None, None, :]
    return attention(q, k, v, allowed).transpose(1, 2).flatten(2)


class PlaneAttention(nn.Module):
    """Self-attention among the tokens of all planes together: within a plane, and across planes (PVDM; section B.2).

    With one plane this is the usual self-attention. Weights are shared between planes.
    """

    def __init__(self, channels: int, head_width: int, groups: int = 32) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_width)
        self.norm = norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, planes: Planes) -> Planes:
        tokens = torch.cat([self.norm(x).flatten(2).transpose(1, 2) for x in planes.values()], dim=1)
        query, key, value = self.qkv(tokens).chunk(3, dim=2)
        mixed = self.out(attend(query, key, value, self.heads)).transpose(1, 2)  # (b, c, l)
        parts = mixed.split([x.shape[2] * x.shape[3] for x in planes.values()], dim=2)
        return {
            name: x + part.unflatten(2, tuple(x.shape[2:]))
            for (name, x), part in zip(planes.items(), parts, strict=True)
        }


class TextAttention(nn.Module):
    """Cross-attention from the cells of a plane to the tokens of a condition."""

    def __init__(self, channels: int, condition: int, head_width: int, groups: int = 32) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_width)
        self.norm = norm(channels, groups)
        self.query = nn.Linear(channels, channels)
        self.context = nn.LayerNorm(condition)
        self.key_value = nn.Linear(condition, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b m k"], mask: Bool[Tensor, "b m"]
    ) -> Float[Tensor, "b c h w"]:
        query = self.query(self.norm(x).flatten(2).transpose(1, 2))
        key, value = self.key_value(self.context(tokens)).chunk(2, dim=2)
        mixed = self.out(attend(query, key, value, self.heads, mask)).transpose(1, 2)
        return x + mixed.unflatten(2, tuple(x.shape[2:]))
