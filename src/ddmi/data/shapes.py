"""The interface of sources of shapes. Coordinates are [-1, 1] along x, y, z with y up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import missing_extra
from ddmi.base.randomness import derive

if TYPE_CHECKING:
    import trimesh

UNIFORM, NEAR = 3, 2
"""Query points of each kind, a cell of the grid, from which a shape's voxels are made."""


class ShapeSource(ABC):
    """A fixed, ordered set of shapes, each known by points of its surface and by what is inside it."""

    names: list[str]  # stable, unique
    captions: list[list[str]] | None = None  # those of each shape ([] where it has none), None when no shape has one
    labels: list[int] | None = None  # class of each shape, an index into `classes`
    classes: list[str] = []  # noqa: RUF012 # none
    parts: list[str] | None = None  # "train", "val" or "test" of each where the set is split already, else None
    root: Path | None = None  # the folder that the shapes lie in

    @property
    def groups(self) -> list[list[int]]:
        """Indices that are variants of one object: no shape is one of another's."""
        return [[index] for index in range(len(self.names))]

    @abstractmethod
    def surface(
        self, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points of the surface, uniform by area, and unit normals that point outwards; float32, in [-1, 1]."""

    @abstractmethod
    def queries(
        self, index: int, uniform: int, near: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
        """`uniform` points of the cube, float32, then `near` points close to the surface; and which are inside."""

    def mesh(self, index: int) -> trimesh.Trimesh | None:
        """The shape as a mesh, where the source has one."""
        return None

    def voxels(self, index: int, size: int = 32) -> Bool[np.ndarray, "n n n"]:
        """Which cells of the grid of `size` cells over [-1, 1] lie inside a shape, in array order (z, y, x).

        By default of query points, as `rasterised` has it. The same call gives the same grid.
        """
        rng = np.random.default_rng(derive("voxels", self.names[index]))
        return rasterised(*self.queries(index, UNIFORM * size**3, NEAR * size**3, rng), size)


def rasterised(points: Any, inside: Any, size: int) -> Bool[np.ndarray, "n n n"]:
    """Query points of [-1, 1] (n, 3), x first, and which are inside (n,), as a grid in array order (z, y, x).

    A cell is inside when more than half of its points are; a cell without points is as the nearest one that has some.
    """
    points, inside = np.asarray(points, dtype=np.float64), np.asarray(inside, dtype=bool)
    cells = np.clip(np.floor((points + 1) * (size / 2)).astype(np.int64), 0, size - 1)
    flat = (cells[:, 2] * size + cells[:, 1]) * size + cells[:, 0]
    total = np.bincount(flat, minlength=size**3).reshape(size, size, size)
    hit = np.bincount(flat[inside], minlength=size**3).reshape(size, size, size)
    occupied = 2 * hit > total
    empty = total == 0
    if empty.any() and not empty.all():
        try:
            from scipy.ndimage import distance_transform_edt
        except ImportError as error:
            raise missing_extra("scipy", "mesh") from error
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        occupied = occupied[tuple(nearest)]
    return occupied
