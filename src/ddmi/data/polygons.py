"""Polygons cut into triangles; trimesh cuts every polygon as a fan, which is wrong where it is not convex."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from jaxtyping import Float, Int

from ddmi.base.errors import missing_extra


def triangulated(
    polygons: Sequence[Sequence[int]], vertices: Float[np.ndarray, "v 3"]
) -> tuple[Int[np.ndarray, "f"], Int[np.ndarray, "f 3"]]:
    """Which polygon each triangle belongs to, and its corners as places in the list of all polygons' corners.

    Convex polygons become fans, others are clipped ear by ear (libigl).

    Args:
        polygons: indices of vertices; those with fewer than three give no triangle.

    Raises:
        ValueError: a polygon names a vertex that does not exist.
    """
    sizes = np.array([len(polygon) for polygon in polygons], np.int64)
    flat = np.fromiter(chain.from_iterable(polygons), np.int64, sizes.sum())
    if len(flat) and not 0 <= flat.min() <= flat.max() < len(vertices):
        raise ValueError("a face names a vertex that does not exist")
    starts = sizes.cumsum() - sizes
    owners, triangles = [np.zeros(0, np.int64)], [np.zeros((0, 3), np.int64)]
    for size in np.unique(sizes[sizes >= 3]).tolist():
        which = np.flatnonzero(sizes == size)
        corners = starts[which, None] + np.arange(size)  # (m, size)
        points = vertices[flat[corners]]
        edges = np.roll(points, -1, axis=1) - points
        own = points - points[:, :1]
        normals = np.cross(own, np.roll(own, -1, axis=1)).sum(axis=1)  # twice the area long (Newell)
        turns = np.einsum("mnd,md->mn", np.cross(edges, np.roll(edges, -1, axis=1)), normals)
        convex = (turns >= -1e-6 * np.einsum("md,md->m", normals, normals)[:, None]).all(axis=1)
        fan = [[0, k, k + 1] for k in range(1, size - 1)]
        owners.append(np.repeat(which[convex], size - 2))
        triangles.append(corners[convex][:, fan].reshape(-1, 3))
        if not convex.all():
            try:
                from igl.predicates import polygons_to_triangles
            except ImportError as error:
                raise missing_extra("libigl", "mesh") from error
            rest = corners[~convex]
            ends = np.arange(0, rest.size + 1, size)
            cut, of = polygons_to_triangles(points[~convex].reshape(-1, 3), np.arange(rest.size), ends)
            owners.append(which[~convex][of])
            triangles.append(rest.reshape(-1)[cut])
    owner, triangle = np.concatenate(owners), np.concatenate(triangles)
    order = owner.argsort(kind="stable")
    return owner[order], triangle[order]
