"""The read-out pi_theta: positional embeddings from basis fields, then a coarse-to-fine MLP (sections 3.1, A, B.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddmi.base.coordinates import lookup, project
from ddmi.base.planes import Layout
from ddmi.model.decoder import BasisFields
from ddmi.model.nn.embeddings import ScaleEmbedding

SLOPE = 0.2
GAIN = math.sqrt(2.0 / (1.0 + SLOPE**2))
"""He gain of a leaky rectifier of slope 0.2: it keeps the variance of unit-norm rows."""
ROWS = 4096
"""Points that go through the MLP together: their features stay in a CPU's cache (4 MB at the paper's width)."""


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig:
    """Table 9, rows "MLP", and the settings around it.

    Args:
        width: w_π.
        blocks: n_π, at least one for each basis field.
        conditioning: how a block receives the next embedding; "sum" adds a projection of it.
        coarse_to_fine: False: all embeddings, concatenated, enter the first block (second row of Table 8).
        planes: how the embeddings of several planes become one.
        scale_injection: modulate every layer by the sampling period (Eq. 13).
        scale_width: width of the embedding of the sampling period.
        checkpointing: recompute the activations of the MLP in the backward pass, some points at a time. A third more
            arithmetic, and memory that does not grow with the number of layers.
    """

    width: int = 256
    blocks: int = 4
    conditioning: Literal["concatenate", "sum"] = "concatenate"
    coarse_to_fine: bool = True
    planes: Literal["sum", "concatenate"] = "sum"
    scale_injection: bool = True
    scale_width: int = 256
    checkpointing: bool = False


def positional_embeddings(
    fields: BasisFields, coordinates: Float[Tensor, "#b n d"], layout: Layout, planes: str = "sum"
) -> list[Float[Tensor, "b n c"]]:
    """p^i = gamma(c; Xi^i) for each scale, coarse to fine; the planes of a scale are summed or concatenated."""
    embeddings = []
    for field in fields:
        parts = [lookup(field[plane.name], project(coordinates, plane)) for plane in layout]
        embeddings.append(torch.cat(parts, dim=2) if planes == "concatenate" else sum(parts[1:], parts[0]))
    return embeddings


class ModulatedLinear(nn.Module):
    """A fully connected layer whose weights the sampling period modulates (Eq. 13; without an embedding, at A = 1).

    Rows of the effective weight have norm `gain`, so that unit-variance inputs stay at that variance.
    """

    EPSILON = 1e-8

    def __init__(self, inputs: int, outputs: int, embedding: int, gain: float = GAIN, bias: bool = True) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(outputs, inputs), std=1 / math.sqrt(inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = nn.Linear(embedding, inputs) if embedding else None  # A^l
        if self.scale is not None:
            nn.init.normal_(self.scale.weight, std=0.1 / math.sqrt(embedding))
            nn.init.ones_(self.scale.bias)

    def modulated(self, embedding: Float[Tensor, "e"] | None) -> Float[Tensor, "o i"]:
        """The weights that are multiplied with the features: computed once a call, not once a point."""
        weight = self.weight.float()
        if self.scale is not None and embedding is not None:
            weight = weight * self.scale(embedding).float()  # the numerator of Eq. 13
        return self.gain * weight * torch.rsqrt(weight.square().sum(dim=1, keepdim=True) + self.EPSILON)


class ReadoutBlock(nn.Module):
    """Residual block of two modulated layers: (leaky(W2 leaky(W1 x + b1) + b2) + W3 x) / sqrt(2).

    The shortcut W3 is the identity where the width stays; it has no bias, as in StyleGAN2's residual blocks, so that it
    can be added to the branch in the same matrix product.
    """

    def __init__(self, inputs: int, width: int, embedding: int) -> None:
        super().__init__()
        share = math.sqrt(0.5)  # leaky commutes with positive factors: the 1 / sqrt(2) sits in the weights
        self.first = ModulatedLinear(inputs, width, embedding)
        self.second = ModulatedLinear(width, width, embedding, gain=GAIN * share)
        self.shortcut = ModulatedLinear(inputs, width, embedding, share, bias=False) if inputs != width else None

    def at(self, embedding: Float[Tensor, "e"] | None, dtype: torch.dtype) -> ModulatedBlock:
        """The block with its weights modulated, as a function of point features."""
        weights = {"weight": self.first, "second_weight": self.second, "shortcut": self.shortcut}
        biases = {"bias": self.first.bias, "second_bias": self.second.bias}
        modulated = {name: layer.modulated(embedding).t() for name, layer in weights.items() if layer is not None}
        return ModulatedBlock(**{name: t.to(dtype) for name, t in {**modulated, **biases}.items() if t is not None})


@dataclass(frozen=True, kw_only=True)
class ModulatedBlock:
    """A `ReadoutBlock` at one sampling period; weights are transposed, inputs first."""

    weight: Float[Tensor, "i o"]
    bias: Float[Tensor, "o"]
    second_weight: Float[Tensor, "o o"]
    second_bias: Float[Tensor, "o"]
    shortcut: Float[Tensor, "i o"] | None = None

    def __call__(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """The block on points, with as few passes over memory as its matrix products allow."""
        hidden = F.leaky_relu_(torch.addmm(self.bias, x, self.weight), SLOPE)
        hidden = F.leaky_relu_(torch.addmm(self.second_bias, hidden, self.second_weight), SLOPE)
        if torch.is_grad_enabled():  # the backward pass of leaky_relu_ reads its result
            return hidden.add(x, alpha=math.sqrt(0.5)) if self.shortcut is None else hidden.addmm(x, self.shortcut)
        if self.shortcut is None:
            return hidden.add_(x, alpha=math.sqrt(0.5))
        return torch.addmm(hidden, x, self.shortcut, out=hidden)


Embeddings = Sequence[Float[Tensor, "b n c"]]
"""Positional embeddings of the same points, one for each scale, coarse to fine."""


class Readout(nn.Module):
    """Basis fields and coordinates -> point features, coarse to fine.

    Args:
        fields: number of basis fields; field_width: channels of each; planes: number of planes.
        periods: sampling periods of a query (0 for a signal that has none); used when scale_injection is on.
    """

    def __init__(self, config: ReadoutConfig, fields: int, field_width: int, planes: int, periods: int) -> None:
        super().__init__()
        if config.blocks < (fields if config.coarse_to_fine else 1):
            raise ValueError(f"{fields} basis fields need at least as many read-out blocks, not {config.blocks}")
        self.config = config
        self.fields = fields
        embedding = config.scale_width if config.scale_injection and periods else 0
        self.embed = ScaleEmbedding(periods, embedding) if embedding else None
        width, entry = config.width, field_width * (planes if config.planes == "concatenate" else 1)
        arrivals = [entry] * fields if config.coarse_to_fine else [entry * fields]  # channels; later blocks get none
        summed = config.conditioning == "sum" and config.coarse_to_fine
        self.entries = nn.ModuleList(nn.Linear(entry, width) for _ in range(fields if summed else 0))
        self.blocks = nn.ModuleList(
            ReadoutBlock(width if summed else sum(arrivals[i : i + 1]) + (width if i else 0), width, embedding)
            for i in range(config.blocks)
        )

    def at(
        self, periods: Float[Tensor, "p"] | None, dtype: torch.dtype = torch.float32
    ) -> Callable[[Embeddings], Float[Tensor, "b n width"]]:
        """The read-out at these sampling periods: a function of positional embeddings, whose weights are modulated once
        for all calls.

        Args:
            dtype: that it computes in.

        Raises:
            ValueError: no periods, where the read-out is modulated by them.
        """
        embedding = None
        if self.embed is not None:
            if periods is None:
                raise ValueError("scale injection needs the sampling period of the query")
            embedding = self.embed(periods)
        return partial(self, blocks=[block.at(embedding, dtype) for block in self.blocks])  # type: ignore[operator]

    def forward(self, embeddings: Embeddings, blocks: Sequence[ModulatedBlock]) -> Float[Tensor, "b n width"]:
        """Feed the embeddings, coarse to fine, through the modulated blocks; see `at`."""
        arriving = [p.flatten(0, 1).to(blocks[0].weight.dtype) for p in embeddings]  # (b * n, c)
        if not self.config.coarse_to_fine:
            arriving = [torch.cat(arriving, dim=1)]
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            parts = zip(*(p.split(ROWS) for p in arriving), strict=True)
            hidden = torch.cat([checkpoint(self._run, part, blocks, use_reentrant=False) for part in parts])
        else:
            hidden = self._run(arriving, blocks)
        return hidden.unflatten(0, embeddings[0].shape[:2])

    def _run(
        self, arriving: Sequence[Float[Tensor, "n c"]], blocks: Sequence[ModulatedBlock]
    ) -> Float[Tensor, "n width"]:
        hidden: Tensor | None = None
        for i, block in enumerate(blocks):
            if i >= len(arriving):
                x = hidden
            elif self.entries:
                weight, bias = (t.to(arriving[i].dtype) for t in self.entries[i].parameters())
                entered = F.linear(arriving[i], weight, bias)
                x = entered if hidden is None else hidden + entered
            else:
                x = arriving[i] if hidden is None else torch.cat([hidden, arriving[i]], dim=1)
            assert x is not None
            hidden = block(x)
        assert hidden is not None
        return hidden


class ColourHead(nn.Module):
    """Point features -> RGB, about [-1, 1], not clamped: the clamp belongs to the rendering."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, features: Float[Tensor, "b n c"], extras: Tensor | None = None) -> Float[Tensor, "b n 3"]:
        return self.linear(features.to(self.linear.weight.dtype))
