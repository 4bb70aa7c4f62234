"""The convolutional encoder: an image, or any feature plane, to features at the latent's resolution (section A)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddmi.base.errors import UserError, check_count
from ddmi.base.planes import Planes
from ddmi.model.encoders.base import Encoder
from ddmi.model.nn.attention import PlaneAttention
from ddmi.model.nn.blocks import Downsample, ResidualBlock, convolution, norm


@dataclass(frozen=True, kw_only=True)
class ConvEncoderConfig:
    """A convolutional encoder. Defaults are those of 256x256 images.

    Args:
        base: width of the encoder.
        multipliers: widths of its levels, as multiples; each level but the last halves the resolution.
        blocks: residual blocks a level.
        middle: residual blocks behind the levels, with attention behind the first; 0: neither.
        head_width: channels of an attention head.
        patch: pixels along each axis that are folded into channels at the entrance: the finest level, which costs most,
            is then left out.
        checkpointing: recompute the levels in the backward pass instead of keeping their activations.
    """

    base: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    middle: int = 2
    head_width: int = 512
    patch: int = 1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        check_count("encode.patch", self.patch)

    @property
    def factor(self) -> int:
        """How many times as many cells as the latent plane the input has along each side."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    def cells(self, resolution: int) -> int:
        """Cells of the latent plane along each side, for an input of `resolution` cells.

        Raises:
            UserError: `resolution` is below 4 or no multiple of `factor`.
        """
        if resolution < 4 or resolution % self.factor:
            raise UserError(f"domain.resolution must be a multiple of {self.factor} and at least 4, not {resolution}")
        return resolution // self.factor


class ConvEncoder(nn.Module):
    """(b, inputs, H, W) -> (b, width, H / f, W / f), f = patch * 2^(levels - 1) (half a U-Net, Ho et al. 2020)."""

    def __init__(self, config: ConvEncoderConfig, inputs: int) -> None:
        super().__init__()
        self.checkpointing = config.checkpointing
        widths = [config.base * multiplier for multiplier in config.multipliers]
        self.width = widths[-1]
        self.patch = config.patch
        self.enter = convolution(inputs * config.patch**2, widths[0])
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths):
            blocks: list[nn.Module] = [ResidualBlock(widths[max(i - 1, 0)], width)]
            blocks += [ResidualBlock(width, width) for _ in range(config.blocks - 1)]
            if i < len(widths) - 1:
                blocks.append(Downsample(width))
            self.levels.append(nn.Sequential(*blocks))
        self.attention = PlaneAttention(self.width, config.head_width) if config.middle else None
        self.middle = nn.ModuleList(ResidualBlock(self.width, self.width) for _ in range(config.middle))
        self.exit = nn.Sequential(norm(self.width), nn.SiLU())

    def forward(self, x: Float[Tensor, "b i H W"]) -> Float[Tensor, "b c h w"]:
        x = self.enter(F.pixel_unshuffle(x, self.patch))
        for level in self.levels:
            x = checkpoint(level, x, use_reentrant=False) if self.checkpointing and self.training else level(x)
        for i, block in enumerate(self.middle):
            x = block(x)
            if i == 0 and self.attention is not None:
                x = self.attention({"x": x})["x"]
        return self.exit(x)


class ImageEncoder(Encoder):
    """An image (b, 3, r, r) in [-1, 1] -> {plane: features}."""

    reach = 1.0

    def __init__(self, config: ConvEncoderConfig, plane: str, resolution: int) -> None:
        super().__init__()
        self.plane, self.shape = plane, (3, resolution, resolution)
        self.network = ConvEncoder(config, 3)
        self.width = self.network.width

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Planes:
        """Raises UserError for an image of another size."""
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"the encoder reads images of shape {self.shape}, not {tuple(x.shape[1:])}")
        return {self.plane: self.network(x.contiguous(memory_format=torch.channels_last))}
