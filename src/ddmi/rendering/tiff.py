"""Images beyond memory: a tiled BigTIFF, written while its rows are computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import aside

TIFF = (".tif", ".tiff")
TILE = 256


class StreamedImage:
    """An image beyond memory, computed while it is saved, once.

    Args:
        rows: bands of rows, from the top.
        size: (height, width) in pixels.
    """

    def __init__(self, rows: Iterator[UInt8[np.ndarray, "k w 3"]], size: tuple[int, int]) -> None:
        self._rows, self.size = rows, size

    def save(self, path: str | Path) -> None:
        """Write a tiled BigTIFF; errors as of `write_tiled`."""
        write_tiled(self._rows, self.size, Path(path))


def tiles(rows: Iterator[UInt8[np.ndarray, "k w 3"]], width: int) -> Iterator[UInt8[np.ndarray, "256 256 3"]]:
    """Cut bands of rows of any height into 256 x 256 tiles, row of tiles by row of tiles; edges are padded with 0."""
    waiting: list[np.ndarray] = []
    held = 0

    def cut(band: np.ndarray) -> Iterator[np.ndarray]:
        padded = np.pad(band, ((0, TILE - band.shape[0]), (0, -width % TILE), (0, 0)))
        for x in range(0, padded.shape[1], TILE):
            yield np.ascontiguousarray(padded[:, x : x + TILE])

    for band in rows:
        while len(band):
            taken = band[: TILE - held]
            waiting.append(taken)
            held += len(taken)
            band = band[len(taken) :]
            if held == TILE:
                yield from cut(np.concatenate(waiting))
                waiting, held = [], 0
    if held:
        yield from cut(np.concatenate(waiting))


def write_tiled(rows: Iterator[UInt8[np.ndarray, "k w 3"]], size: tuple[int, int], path: Path) -> None:
    """Write an 8-bit RGB image (height, width) to `path`, aside first, then renamed.

    Raises:
        UserError: the name does not end in .tif or .tiff, or the package tifffile is missing.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    if path.suffix.lower() not in TIFF:
        raise UserError(f"{path}: a streamed image is a BigTIFF, so its name must end in .tif")
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile", "gigapixel") from error
    with aside(path) as scratch:
        tifffile.imwrite(
            scratch,
            tiles(rows, size[1]),
            bigtiff=True,
            shape=(*size, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="rgb",
            compression="deflate",
            predictor=True,
        )
