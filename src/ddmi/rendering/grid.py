"""Regular grids of a field, in slabs of rows under a memory budget."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.coordinates import axis, mesh
from ddmi.base.errors import UserError
from ddmi.base.storage import aside

if TYPE_CHECKING:
    from PIL import Image

SLAB = 1 << 22
"""Points of a slab: 4 million points of three numbers are 50 MB."""


def grid_slabs(
    field: Callable[..., Tensor],
    size: Sequence[int],
    window: Sequence[float],
    periods: Float[Tensor, "p"] | None = None,
    slab: int = SLAB,
) -> Iterator[Float[Tensor, "k ... c"]]:
    """Values of the field on a grid, a few indices of the slowest axis at a time, in order.

    Args:
        field: (coordinates (n, d), periods) -> (n, c).
        size: cells in array order (slowest axis first). window: low corner, then high corner, x first.
        slab: at most about this many points are held at once.
    """
    axes = len(size)
    step = max(1, slab // math.prod(size[1:]))
    lines = [axis(n, window[k], window[axes + k]) for k, n in enumerate(reversed(size))]
    for start in range(0, size[0], step):
        stop = min(start + step, size[0])
        points = mesh([*lines[:-1], lines[-1][start:stop]])
        yield field(points, periods).unflatten(0, (stop - start, *size[1:]))


def to_pixels(values: Float[Tensor, "*s 3"]) -> UInt8[np.ndarray, "*s 3"]:
    """[-1, 1] to 8 bits, clamped, rounded to the nearest."""
    scaled = (values.float().clamp(-1, 1) + 1.0) * 127.5
    return scaled.round().to(torch.uint8).cpu().numpy()


def to_signal(pixels: UInt8[np.ndarray, "*s 3"]) -> Float[Tensor, "*s 3"]:
    """8 bits to [-1, 1], which `to_pixels` brings back."""
    return torch.from_numpy(pixels).float() / 127.5 - 1.0


def image_rows(
    field: Callable[..., Tensor],
    size: tuple[int, int],
    window: Sequence[float],
    periods: Float[Tensor, "p"] | None = None,
    slab: int = SLAB,
) -> Iterator[UInt8[np.ndarray, "k w 3"]]:
    """An image (height, width) of a field of colours, in bands of rows."""
    for values in grid_slabs(field, size, window, periods, slab):
        yield to_pixels(values)


def save_image(image: Image.Image, path: str | Path) -> None:
    """Write an image, aside first, then renamed, in the format that its name ends with.

    Raises:
        UserError: the name has no ending of an image format.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    from PIL import Image

    path = Path(path)
    ending = path.suffix.lower()
    kind = Image.registered_extensions().get(ending)
    if kind is None:
        known = "use .png, .jpg, .webp or .tif"
        raise UserError(f"{path}: {ending or 'no ending'} is no image format that can be written; {known}")
    stream = io.BytesIO()  # where PIL itself writes a JPEG to a full disk, the error has no reason
    try:
        image.save(stream, kind)
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{path}: an image of {image.width}x{image.height} cannot be written as {kind}: {error}"
        ) from error
    with aside(path) as scratch:
        scratch.write_bytes(stream.getbuffer())
