"""The point encoder: a cloud of points to features on planes, by a PointNet with local pooling (section A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.coordinates import cell_of, project
from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, Planes, each
from ddmi.model.encoders.base import Encoder
from ddmi.model.encoders.image import ConvEncoder, ConvEncoderConfig


@dataclass(frozen=True, kw_only=True)
class PointEncoderConfig:
    """Convolutional Occupancy Networks' encoder (Peng et al. 2020), with a convolutional encoder behind it.

    Args:
        width: features of a point.
        blocks: residual blocks of the PointNet.
        features: channels that are scattered to the planes.
        offsets: each point also receives its position inside its cell of every plane, a saw-tooth of the coordinates
            that takes long to learn; the paper has the coordinates alone.
        planes: the convolutional encoder, shared by all planes.
    """

    width: int = 256
    blocks: int = 7
    features: int = 32
    offsets: bool = False
    planes: ConvEncoderConfig = field(default_factory=lambda: ConvEncoderConfig(base=64, head_width=256))


class PointBlock(nn.Module):
    """W2 relu(W1 relu(x)) + W3 x; W2 starts at zero, and W3 is the identity where the width stays."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = min(inputs, outputs)
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)
        self.shortcut = nn.Linear(inputs, outputs, bias=False) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        return self.shortcut(x) + self.second(torch.relu(self.first(torch.relu(x))))


class Cells:
    """Points sorted into the cells of one plane: what pooling and scattering of a batch of clouds share.

    Args:
        at: points of every cloud on the plane. shape: (height, width) of the plane in cells.
    """

    def __init__(self, at: Float[Tensor, "b n 2"], shape: tuple[int, int]) -> None:
        self.batch, self.shape = at.shape[0], shape
        self.at = at
        first = torch.arange(self.batch, device=at.device)[:, None] * (shape[0] * shape[1])
        self.cell = (cell_of(at, shape) + first).flatten()
        """Of each point, counted over the planes of the whole batch."""
        ordered, order = self.cell.sort()
        rank = torch.cat([ordered.new_zeros(1), (ordered[1:] != ordered[:-1]).cumsum(0)])
        self.place = torch.empty_like(order).scatter(0, order, rank)
        """Of each point, counted over the cells that hold any: there are no more of these than points."""

    @property
    def offsets(self) -> Float[Tensor, "b n 2"]:
        """Where in its cell each point lies: (0, 0) in the middle, 1 cell from -1 to 1."""
        cells = 0.5 * (self.at + 1) * torch.tensor([self.shape[1], self.shape[0]], device=self.at.device)
        return 2 * (cells - cells.floor()) - 1

    def greatest(self, x: Float[Tensor, "m c"]) -> Float[Tensor, "m c"]:
        """For every point (all clouds behind one another) the largest features in its cell: local max pooling."""
        rows = self.place[:, None].expand(-1, x.shape[1])
        pooled = torch.zeros_like(x).scatter_reduce(0, rows, x, "amax", include_self=False)
        return pooled.index_select(0, self.place)

    def mean(self, x: Float[Tensor, "m c"]) -> Float[Tensor, "b c h w"]:
        """The plane whose cells hold the mean features of their points, in float32; empty ones hold zeros."""
        x = x.float()  # 16 bits count no further than 256
        count = x.new_zeros(self.batch * self.shape[0] * self.shape[1], 1)
        count = count.index_add(0, self.cell, torch.ones_like(x[:, :1]))
        total = x.new_zeros(len(count), x.shape[1]).index_add(0, self.cell, x)
        plane = total / count.clamp(min=1)
        return plane.unflatten(0, (self.batch, *self.shape)).permute(0, 3, 1, 2)  # channels-last in memory


class PointEncoder(Encoder):
    """Clouds (b, n, 3 + e): coordinates in [-1, 1], then e features a point -> {plane: features}.

    Points become features, which are pooled among the points that share a cell of a plane, and laid on the planes as
    means; a convolutional encoder, shared by the planes, brings these to the latent's resolution.

    Args:
        layout: the latent planes. points: of a usual cloud; any other number works as well.
        extras: features that a point carries beside its coordinates (a colour).
    """

    reach = 1.0

    def __init__(self, config: PointEncoderConfig, layout: Layout, points: int, extras: int = 0) -> None:
        super().__init__()
        self.layout, self.shape = layout, (points, 3 + extras)
        self.finer = config.planes.factor
        told = 3 + extras + (2 * len(layout) if config.offsets else 0)
        self.offsets = config.offsets
        self.enter = nn.Linear(told, 2 * config.width)
        self.blocks = nn.ModuleList(PointBlock(2 * config.width, config.width) for _ in range(config.blocks))
        self.exit = nn.Linear(config.width, config.features)
        self.network = ConvEncoder(config.planes, config.features)
        self.width = self.network.width

    def forward(self, x: Float[Tensor, "b n f"]) -> Planes:
        """Raises UserError for points of another number of features."""
        if x.shape[2] != self.shape[1]:
            raise UserError(f"the encoder reads clouds of shape (points, {self.shape[1]}), not {tuple(x.shape[1:])}")
        cells = self._cells(x[:, :, :3])
        if self.offsets:
            x = torch.cat([x, *(part.offsets for part in cells)], dim=2)
        h = self.enter(x.flatten(0, 1))
        for i, block in enumerate(self.blocks):
            if i:
                h = torch.cat([h, self._pooled(h, cells)], dim=1)
            h = block(h)
        h = self.exit(h)
        planes = {plane.name: part.mean(h) for plane, part in zip(self.layout, cells, strict=True)}
        return each(self.network, planes)

    def _cells(self, points: Float[Tensor, "b n 3"]) -> list[Cells]:
        return [
            Cells(project(points, plane), (plane.shape[0] * self.finer, plane.shape[1] * self.finer))
            for plane in self.layout
        ]

    @staticmethod
    def _pooled(h: Float[Tensor, "m c"], cells: Sequence[Cells]) -> Float[Tensor, "m c"]:
        parts = [part.greatest(h) for part in cells]
        return sum(parts[1:], parts[0])
