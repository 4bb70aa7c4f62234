"""The video encoder: divided space-time attention, then one small transformer for each plane (section A)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, Plane, Planes
from ddmi.model.encoders.base import Encoder
from ddmi.model.nn.transformer import TokenAttention, TransformerBlock


@dataclass(frozen=True, kw_only=True)
class VideoEncoderConfig:
    """TimeSformer (Bertasius et al. 2021), and the transformers that collapse an axis of its features (PVDM).

    Args:
        patch: pixels a side of the square that becomes one token, and one cell of `xy`.
        tubelet: frames of a token. Where it is 1, the decoder does not enlarge the time axis.
        width: of the space-time transformer.
        blocks: of the space-time transformer.
        head_width: channels of its attention heads.
        plane_width: of the transformer that makes each plane.
        plane_blocks: of the transformer that makes each plane.
        plane_head_width: channels of its attention heads.
        checkpointing: recompute the blocks of the space-time transformer in the backward pass.
    """

    patch: int = 8
    tubelet: int = 1
    width: int = 384
    blocks: int = 8
    head_width: int = 64
    plane_width: int = 192
    plane_blocks: int = 4
    plane_head_width: int = 48
    checkpointing: bool = False


def patches(x: Float[Tensor, "b c T H W"], depth: int, side: int) -> Float[Tensor, "b t h w k"]:
    """Boxes of depth x side x side pixels as vectors of k = c depth side^2 values."""
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side)).unflatten(2, (-1, depth))  # (b, c, t, d, h, p, w, q)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


class SpaceTimeBlock(nn.Module):
    """Divided attention: over time at each place, then over the places of each frame; then an MLP on each token."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.time = TokenAttention(width, head_width)
        self.space = TransformerBlock(width, head_width)

    def forward(
        self, x: Float[Tensor, "b t s c"], times: Float[Tensor, "t 1"], places: Float[Tensor, "s 2"]
    ) -> Float[Tensor, "b t s c"]:
        batch = len(x)
        x = self.time(x.transpose(1, 2).flatten(0, 1), times).unflatten(0, (batch, -1)).transpose(1, 2)
        return self.space(x.flatten(0, 1), places).unflatten(0, (batch, -1))


class AxisCollapse(nn.Module):
    """Tokens along an axis -> one vector: what a transformer has at a learned token that stands behind them."""

    def __init__(self, inputs: int, width: int, blocks: int, head_width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(width, head_width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "m n i"]) -> Float[Tensor, "m c"]:
        x = self.enter(x)
        x = torch.cat([x, self.token.to(x.dtype).expand(len(x), 1, -1)], dim=1)
        at = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)[:, None]
        for block in self.blocks[:-1]:
            x = block(x, at)
        return self.norm(self.blocks[-1](x, at, last=1)[:, 0])  # nobody reads the others after the last block


class VideoEncoder(Encoder):
    """A clip (b, 3, t, h, w) in [-1, 1] -> {plane: features}.

    Args:
        layout: the latent planes, over two of the axes x, y and t each; along an axis they have as many cells as the
            clip has tokens.
        shape: (frames, height, width) of the clips that it reads.
    """

    reach = 1.0

    def __init__(self, config: VideoEncoderConfig, layout: Layout, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.layout, self.shape = config, layout, (3, *shape)
        self.enter = nn.Linear(3 * config.tubelet * config.patch**2, config.width)
        self.blocks = nn.ModuleList(SpaceTimeBlock(config.width, config.head_width) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        own = (config.width, config.plane_width, config.plane_blocks, config.plane_head_width)
        self.collapse = nn.ModuleDict({plane.name: AxisCollapse(*own) for plane in layout})
        self.width = config.plane_width

    def forward(self, x: Float[Tensor, "b 3 T H W"]) -> Planes:
        """Raises UserError for a clip of another size or length."""
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"the encoder reads clips of shape {self.shape}, not {tuple(x.shape[1:])}")
        features = self.features(x)
        return {plane.name: self._project(features, plane) for plane in self.layout}

    def features(self, x: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b t h w c"]:
        """The 3-D features that the planes are projections of."""
        h = self.enter(patches(x, self.config.tubelet, self.config.patch))
        sizes = h.shape[1:4]
        lines = [torch.arange(n, device=x.device, dtype=torch.float32) for n in sizes]
        times, places = lines[0][:, None], torch.cartesian_prod(*lines[1:])
        h = h.flatten(2, 3)
        for block in self.blocks:
            if self.config.checkpointing and self.training:
                h = checkpoint(block, h, times, places, use_reentrant=False)
            else:
                h = block(h, times, places)
        return self.norm(h).unflatten(2, sizes[1:])

    def _project(self, features: Float[Tensor, "b t h w c"], plane: Plane) -> Float[Tensor, "b k h2 w2"]:
        """The features with the axis that the plane does not span collapsed."""
        along = {0: 3, 1: 2, 2: 1}  # coordinate axis -> axis of the features
        (gone,) = set(along) - set(plane.axes)
        rows, columns = along[plane.axes[1]], along[plane.axes[0]]
        lines = features.permute(0, rows, columns, along[gone], 4)
        collapsed = self.collapse[plane.name](lines.flatten(0, 2))
        return collapsed.unflatten(0, lines.shape[:3]).permute(0, 3, 1, 2)
