"""The one coordinate convention: cell centres of a grid over [-1, 1], x before y before z or t.

A grid of n cells along an axis has its samples at -1 + (2 i + 1) / n. A point inside a cell reads from that cell, and a
field rendered at another size or in another window is asked at the centres of that image's own cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.planes import Plane

Window = Sequence[float]
"""Low corner, then high corner, each x first: (x0, y0, x1, y1) for an image. Inside [-1, 1]."""


def check_window(window: Window | None, axes: int) -> tuple[float, ...]:
    """The window as a tuple (None is the whole signal), or UserError when it leaves [-1, 1] or is empty."""
    if window is None:
        return (-1.0,) * axes + (1.0,) * axes
    values = tuple(float(v) for v in window)
    if len(values) != 2 * axes:
        raise UserError(f"a window has {2 * axes} numbers (low corner, high corner), not {len(values)}: {values}")
    low, high = values[:axes], values[axes:]
    if not all(-1.0 <= a < b <= 1.0 for a, b in zip(low, high, strict=True)):
        raise UserError(f"window {values} must lie inside [-1, 1] with its low corner before its high corner")
    return values


def check_size(size: int | Sequence[int], axes: int = 2) -> tuple[int, ...]:
    """The size in array order (height, width), or UserError. One integer means the same size along each axis."""
    values = tuple(size) if isinstance(size, Sequence) else (size,) * axes
    if len(values) != axes or not all(isinstance(v, int) and v >= 1 for v in values):
        several = f", or {axes} of them" if axes > 1 else ""
        raise UserError(f"a size is one positive whole number{several}, not {size!r}")
    return values


def axis(
    n: int, low: float = -1.0, high: float = 1.0, *, start: int = 0, stop: int | None = None
) -> Float[Tensor, "n"]:
    """Cell centres start..stop of the n cells over [low, high]; float64 inside, so that crops are exact."""
    index = torch.arange(start, n if stop is None else stop, dtype=torch.float64)
    return (low + (high - low) * (2 * index + 1) / (2 * n)).float()


def grid(size: Sequence[int], window: Window | None = None) -> Float[Tensor, "n d"]:
    """Coordinates of every cell of a grid, row-major.

    Args:
        size: cells in array order, e.g. (height, width) or (frames, height, width): last runs fastest and is x.
        window: low corner, then high corner, x first; None for [-1, 1] along each axis.
    """
    corners = check_window(window, len(size))
    lines = [axis(n, corners[k], corners[len(size) + k]) for k, n in enumerate(reversed(size))]
    return mesh(lines)


def mesh(lines: Sequence[Float[Tensor, "_"]]) -> Float[Tensor, "n d"]:
    """Every combination of the coordinates along each axis (x first); x runs fastest."""
    spread = torch.meshgrid(*reversed(lines), indexing="ij")
    return torch.stack([line.flatten() for line in reversed(spread)], dim=1)


def project(coordinates: Float[Tensor, "*n d"], plane: Plane) -> Float[Tensor, "*n 2"]:
    """Orthogonal projection onto a plane: (width, height) coordinates. A one-axis plane is read along its middle."""
    columns = [coordinates[..., k] for k in plane.axes]
    if len(columns) == 1:
        columns.append(torch.zeros_like(columns[0]))
    return torch.stack(columns, dim=-1)


def cell_of(at: Float[Tensor, "*n 2"], shape: tuple[int, int]) -> Int[Tensor, "*n"]:
    """The cell of a plane (height, width), counted row by row, that holds each point of [-1, 1]; beyond, the nearest.

    What is written into this cell is what `lookup` reads at the cell's centre.
    """
    cells = torch.tensor([shape[1], shape[0]], device=at.device)
    column, row = ((at + 1) * (0.5 * cells)).floor().long().clamp(min=torch.zeros_like(cells), max=cells - 1).unbind(-1)
    return row * shape[1] + column


def lookup(field: Float[Tensor, "b c h w"], at: Float[Tensor, "#b n 2"]) -> Float[Tensor, "b n c"]:
    """Bilinear interpolation gamma(c; Xi) of the four nearest basis vectors; beyond the outermost centres, their value.

    At least in float32: 8 bits of a bfloat16 coordinate do not tell the cells of a 512-pixel image apart.
    """
    wide = torch.promote_types(field.dtype, torch.float32)
    at = at.to(wide).expand(field.shape[0], -1, -1)
    values = F.grid_sample(field.to(wide), at[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
    return values[..., 0].transpose(1, 2)
