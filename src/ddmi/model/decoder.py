"""The decoder D_psi: latent planes to hierarchically decomposed basis fields (HDBF, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddmi.base.planes import Layout, Planes, each
from ddmi.model.nn.attention import PlaneAttention
from ddmi.model.nn.blocks import ResidualBlock, Shuffle, Upsample, convolution, norm

BasisFields = list[Planes]
"""The basis fields Xi^1 .. Xi^n, coarse to fine; each is one (b, c, h, w) a plane."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the decoder.

    Args:
        multiplier: its width, as a multiple of the decoder's.
        enlarge: factor by which it enlarges what comes from the level before.
        field: whether it gives a basis field.
    """

    multiplier: int
    enlarge: int = 1
    field: bool = True


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Table 9, rows "Decoder". Defaults are those of the 256x256 images.

    Args:
        base: width of the decoder.
        levels: of each level its width, enlargement, and whether it gives a basis field.
        blocks: residual blocks a level.
        middle: residual blocks before the levels; 0: none, and no attention across planes.
        field_width: channels of a basis field.
        hierarchical: False: a single basis field, from the last level (first row of Table 8).
        exchange: attention across planes behind the first middle block; with one plane, plain self-attention.
        head_width: channels of an attention head.
        shuffle: enlarge by sub-pixel convolutions (Shi et al. 2016) instead of copies and a convolution.
        checkpointing: recompute the levels in the backward pass instead of keeping their activations.
    """

    base: int = 64
    levels: tuple[Level, ...] = (Level(multiplier=4), Level(multiplier=2, enlarge=2), Level(multiplier=1, enlarge=2))
    blocks: int = 3
    middle: int = 2
    field_width: int = 64
    hierarchical: bool = True
    exchange: bool = True
    head_width: int = 64
    shuffle: bool = False
    checkpointing: bool = False

    @property
    def fields(self) -> tuple[int, ...]:
        """Indices of the levels that give a basis field, coarse to fine."""
        given = tuple(i for i, level in enumerate(self.levels) if level.field)
        if not given:
            raise ValueError("at least one level of the decoder must give a basis field")
        return given if self.hierarchical else (len(self.levels) - 1,)

    def shapes(self, layout: Layout) -> list[dict[str, tuple[int, int]]]:
        """(height, width) of every plane at every level."""
        sizes = {plane.name: plane.shape for plane in layout}
        shapes = []
        for level in self.levels:
            sizes = {
                plane.name: tuple(  # type: ignore[misc]
                    cells * (level.enlarge if grows else 1)
                    for cells, grows in zip(sizes[plane.name], plane.growth, strict=True)
                )
                for plane in layout
            }
            shapes.append(sizes)
        return shapes


class _Level(nn.Module):
    def __init__(self, inputs: int, width: int, blocks: int, enlarge: int, shuffle: bool) -> None:
        super().__init__()
        self.enter: nn.Module | None = None
        if enlarge > 1 and shuffle:
            self.enter = Shuffle(inputs, width, enlarge)
        elif enlarge > 1 or inputs != width:
            self.enter = Upsample(inputs, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks)))


class Decoder(nn.Module):
    """z {plane: (b, latent, h, w)} -> basis fields; every plane through the same weights."""

    def __init__(self, config: DecoderConfig, latent: int, layout: Layout) -> None:
        super().__init__()
        self.config = config
        self.growth = {plane.name: plane.growth for plane in layout}
        widths = [config.base * level.multiplier for level in config.levels]
        self.enter = convolution(latent, widths[0])
        self.middle = nn.ModuleList(ResidualBlock(widths[0], widths[0]) for _ in range(config.middle))
        self.exchange = PlaneAttention(widths[0], config.head_width) if config.exchange and config.middle else None
        self.levels = nn.ModuleList(
            _Level(inputs, width, config.blocks, level.enlarge, config.shuffle)
            for inputs, width, level in zip([widths[0], *widths], widths, config.levels, strict=False)
        )
        last = len(widths) - 1
        self.projections = nn.ModuleDict()
        for i in config.fields:
            if i < last:
                self.projections[str(i)] = convolution(widths[i], config.field_width, 1)
            else:
                finest = convolution(widths[i], config.field_width)
                self.projections[str(i)] = nn.Sequential(norm(widths[i]), nn.SiLU(), finest)

    def _enlarged(self, name: str, x: Tensor, by: int) -> tuple[int, int]:
        rows, columns = (n * by if grows else n for n, grows in zip(x.shape[2:], self.growth[name], strict=True))
        return rows, columns

    def forward(self, z: Planes) -> BasisFields:
        """Basis fields coarse to fine, each {plane: (b, field_width, h * enlarged, w * enlarged)}.

        The planes may have any number of cells, not only the layout's.
        """
        hidden = each(self.enter, z)
        for i, block in enumerate(self.middle):
            hidden = each(block, hidden)
            if i == 0 and self.exchange is not None:
                hidden = self.exchange(hidden)
        fields = []
        for i, (level, spec) in enumerate(zip(self.levels, self.config.levels, strict=True)):
            assert isinstance(level, _Level)
            if level.enter is not None:
                hidden = {name: level.enter(x, self._enlarged(name, x, spec.enlarge)) for name, x in hidden.items()}
            if self.config.checkpointing and self.training:
                hidden = {name: checkpoint(level.blocks, x, use_reentrant=False) for name, x in hidden.items()}
            else:
                hidden = each(level.blocks, hidden)
            if str(i) in self.projections:
                fields.append(each(self.projections[str(i)], hidden))
        return fields
