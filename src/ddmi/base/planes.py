"""Planes: the latent and the basis fields of a sample live on named 2-D grids.

Shape legend, used in every annotation of the project:

    b  batch            n  query points      d  coordinate axes     c  channels
    h  plane height     w  plane width       l  cells of all planes of a layout, packed

A plane spans one or two of the domain's coordinate axes. Its tensor is (b, c, h, w): the first axis it names runs along
the width, the second along the height (x before y, as in every coordinate). A plane over one axis has height 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Planes = dict[str, Tensor]
"""Plane name -> (b, c, h, w). Named, never positional: two swapped planes would crash nothing and spoil all."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One latent plane: its name, the coordinate axes it spans and its number of cells along each of them.

    `grows` says for each of its axes whether the decoder enlarges it from level to level (a video's time axis may not).
    """

    name: str
    axes: tuple[int, ...]
    size: tuple[int, ...]
    grows: tuple[bool, ...] = (True, True)

    def __post_init__(self) -> None:
        if len(self.axes) not in (1, 2) or len(self.axes) != len(self.size) or min(self.size) < 1:
            raise ValueError(f"plane {self.name!r} needs one or two axes and a positive size for each, not {self}")

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of its tensor."""
        return (self.size[1] if len(self.size) == 2 else 1, self.size[0])

    @property
    def growth(self) -> tuple[bool, bool]:
        """Whether (height, width) grow in the decoder. A height that stands for no axis never does."""
        return (len(self.axes) == 2 and self.grows[1], self.grows[0])


Layout = tuple[Plane, ...]
"""The planes of a domain, in the one order in which they are packed."""


def triplane(side: int) -> Layout:
    """The layout of a cube: one square plane of side x side cells for each pair of its axes."""
    pairs = {"xy": (0, 1), "yz": (1, 2), "xz": (0, 2)}
    return tuple(Plane(name=name, axes=pair, size=(side, side)) for name, pair in pairs.items())


def dimensions(layout: Layout) -> int:
    """Number of coordinates that the planes of a layout are laid over: 2 of an image, 3 of a cube."""
    return 1 + max(axis for plane in layout for axis in plane.axes)


def reduced(planes: Planes, factor: float) -> Planes:
    """Planes with `factor` times as many cells along each axis (at least one), each the mean of what it covers."""
    if factor == 1:
        return planes
    sizes = {name: [max(1, round(factor * n)) for n in z.shape[2:]] for name, z in planes.items()}
    return {name: F.interpolate(z, sizes[name], mode="area") for name, z in planes.items()}


def cells(layout: Layout) -> int:
    """Number of latent cells over all planes: the l of the legend."""
    return sum(plane.shape[0] * plane.shape[1] for plane in layout)


def each(function: Callable[..., Tensor], planes: Planes, *others: Planes) -> Planes:
    """function(plane, plane of each other, ...) for every plane; planes of one shape go through it as one batch.

    For functions that treat the items of a batch apart: a few large calls instead of many small ones.
    """
    every = (planes, *others)
    alike = all(len({x.shape for x in one.values()}) == 1 for one in every)
    if len(planes) == 1 or not alike:
        return {name: function(*(one[name] for one in every)) for name in planes}
    joined = function(*(torch.cat([one[name] for name in planes]) for one in every))
    return dict(zip(planes, joined.chunk(len(planes)), strict=True))


def pack(planes: Planes, layout: Layout) -> Float[Tensor, "b c l"]:
    """Lay all planes behind one another, in the order of the layout. The inverse of `unpack`."""
    return torch.cat([planes[plane.name].flatten(2) for plane in layout], dim=2)


def unpack(packed: Float[Tensor, "b c l"], layout: Layout) -> Planes:
    """The inverse of `pack`. Raises ValueError when the number of cells is not the layout's."""
    lengths = [plane.shape[0] * plane.shape[1] for plane in layout]
    if packed.shape[2] != sum(lengths):
        raise ValueError(f"{packed.shape[2]} cells do not fill the planes {[p.name for p in layout]} of {sum(lengths)}")
    parts = packed.split(lengths, dim=2)
    return {plane.name: part.unflatten(2, plane.shape) for plane, part in zip(layout, parts, strict=True)}
