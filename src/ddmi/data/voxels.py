"""Shapes as occupancy grids: what a voxel classifier looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool

from ddmi.base.coordinates import grid
from ddmi.base.errors import missing_extra
from ddmi.base.randomness import derive

UNIFORM, NEAR = 3, 2
"""Query points asked of a source that is known at points only, a cell of the grid."""


def voxels(source: Any, index: int, size: int = 32) -> Bool[np.ndarray, "n n n"]:
    """Which cells of the grid of `size` cells over [-1, 1] lie inside shape `index`; array order (z, y, x).

    A source with `occupancy(index, points)` is asked at the cell centres. Any other is asked for query points, and a
    cell is inside when more than half of its points are; a cell without points takes the value of the nearest cell
    that has some. The same call gives the same grid.

    Args:
        source: a source of shapes: `occupancy(index, points (n, 3)) -> (n,)` of bool, or
            `queries(index, uniform, near, rng) -> (points (n, 3), inside (n,))` and `names`.
    """
    if hasattr(source, "occupancy"):
        centres = grid((size, size, size)).numpy()
        return np.asarray(source.occupancy(index, centres), dtype=bool).reshape(size, size, size)
    rng = np.random.default_rng(derive("voxels", source.names[index]))
    points, inside = source.queries(index, UNIFORM * size**3, NEAR * size**3, rng)
    return rasterised(points, inside, size)


def rasterised(points: Any, inside: Any, size: int) -> Bool[np.ndarray, "n n n"]:
    """Query points of [-1, 1] (n, 3), x first, and which are inside (n,), as a grid in array order (z, y, x).

    A cell is inside when more than half of its points are; a cell without points is as the nearest one that has some.
    """
    points, inside = np.asarray(points, dtype=np.float64), np.asarray(inside, dtype=bool)
    cells = np.clip(np.floor((points + 1) * (size / 2)).astype(np.int64), 0, size - 1)
    flat = (cells[:, 2] * size + cells[:, 1]) * size + cells[:, 0]
    asked = np.bincount(flat, minlength=size**3).reshape(size, size, size)
    hit = np.bincount(flat[inside], minlength=size**3).reshape(size, size, size)
    occupied = 2 * hit > asked
    empty = asked == 0
    if empty.any() and not empty.all():
        try:
            from scipy.ndimage import distance_transform_edt
        except ImportError as error:
            raise missing_extra("scipy", "mesh") from error
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        occupied = occupied[tuple(nearest)]
    return occupied
