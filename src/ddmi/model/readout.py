"""The read-out pi_theta: positional embeddings from basis fields, then a coarse-to-fine MLP (sections 3.1, A, B.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
"""Points that go through the MLP together: their features stay in a processor's cache (4 MB at the paper's width)."""


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig:
    """Table 9, rows "MLP", and the settings around it.

    Args:
        width: w_pi. blocks: n_pi, at least one for each basis field.
        conditioning: how a block receives the next positional embedding: "concatenate" or "sum" (after a projection).
        coarse_to_fine: False is the second row of Table 8: all embeddings, concatenated, enter the first block.
        planes: how the embeddings of several planes become one: "sum" or "concatenate".
        scale_injection: modulate every layer by the sampling period (Eq. 13).
        checkpointing: in training, keep no activations of the MLP; the backward pass computes them again, some points
            at a time. A third more arithmetic, and memory that does not grow with the number of layers.
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
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
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

    def prepare(self, embedding: Float[Tensor, "e"] | None, dtype: torch.dtype) -> list[Tensor]:
        """[W1, b1, W2, b2], and W3 where the width changes; the weights are transposed for `evaluate`."""
        layers = [self.first, self.second] + ([self.shortcut] if self.shortcut is not None else [])
        pairs = [(layer.modulated(embedding).t(), layer.bias) for layer in layers]
        return [t.to(dtype) for pair in pairs for t in pair if t is not None]

    @staticmethod
    def evaluate(x: Float[Tensor, "n i"], weights: Sequence[Tensor]) -> Float[Tensor, "n o"]:
        """The block on points, with as few passes over memory as its matrix products allow."""
        hidden = F.leaky_relu_(torch.addmm(weights[1], x, weights[0]), SLOPE)
        hidden = F.leaky_relu_(torch.addmm(weights[3], hidden, weights[2]), SLOPE)
        if torch.is_grad_enabled():  # the backward pass of leaky_relu_ reads its result
            return hidden.add(x, alpha=math.sqrt(0.5)) if len(weights) == 4 else hidden.addmm(x, weights[4])
        if len(weights) == 4:
            return hidden.add_(x, alpha=math.sqrt(0.5))
        return torch.addmm(hidden, x, weights[4], out=hidden)


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

    def prepare(self, periods: Float[Tensor, "p"] | None, dtype: torch.dtype) -> list[list[Tensor]]:
        """The weights of every block at these sampling periods."""
        embedding = None
        if self.embed is not None:
            if periods is None:
                raise ValueError("scale injection needs the sampling period of the query")
            embedding = self.embed(periods)
        return [block.prepare(embedding, dtype) for block in self.blocks]  # type: ignore[operator]

    def forward(
        self, embeddings: Sequence[Float[Tensor, "b n c"]], weights: Sequence[Sequence[Tensor]]
    ) -> Float[Tensor, "b n width"]:
        """Feed the embeddings, coarse to fine, through the blocks whose weights `prepare` gave."""
        arriving = [p.flatten(0, 1).to(weights[0][0].dtype) for p in embeddings]  # (b * n, c)
        if not self.config.coarse_to_fine:
            arriving = [torch.cat(arriving, dim=1)]
        if self.config.checkpointing and self.training and torch.is_grad_enabled():
            parts = zip(*(p.split(ROWS) for p in arriving), strict=True)
            hidden = torch.cat([checkpoint(self._run, part, weights, use_reentrant=False) for part in parts])
        else:
            hidden = self._run(arriving, weights)
        return hidden.unflatten(0, embeddings[0].shape[:2])

    def _run(
        self, arriving: Sequence[Float[Tensor, "n c"]], weights: Sequence[Sequence[Tensor]]
    ) -> Float[Tensor, "n width"]:
        hidden: Tensor | None = None
        for i, block in enumerate(weights):
            if i >= len(arriving):
                x = hidden
            elif self.entries:
                weight, bias = (t.to(arriving[i].dtype) for t in self.entries[i].parameters())
                entered = F.linear(arriving[i], weight, bias)
                x = entered if hidden is None else hidden + entered
            else:
                x = arriving[i] if hidden is None else torch.cat([hidden, arriving[i]], dim=1)
            assert x is not None
            hidden = ReadoutBlock.evaluate(x, block)
        assert hidden is not None
        return hidden


class ColourHead(nn.Module):
    """Point features -> RGB, about [-1, 1], not clamped: the clamp belongs to the rendering."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, features: Float[Tensor, "b n c"], extras: Tensor | None = None) -> Float[Tensor, "b n 3"]:
        return self.linear(features.to(self.linear.weight.dtype))
