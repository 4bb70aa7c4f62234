"""Polygons cut into triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int


def triangulated(
    polygons: Sequence[Sequence[int]], vertices: Float[np.ndarray, "v 3"]
) -> tuple[Int[np.ndarray, "f"], Int[np.ndarray, "f 3"]]:
    """Which polygon each triangle is of, and which corners of it; convex ones as a fan, others by ears clipped off.

    Args:
        polygons: indices of vertices; those with fewer than three have no triangle.

    Raises:
        IndexError: a polygon names a vertex that does not exist.
    """
    sizes = np.array([len(polygon) for polygon in polygons], np.int64)
    owners, corners = [np.zeros(0, np.int64)], [np.zeros((0, 3), np.int64)]
    for size in np.unique(sizes[sizes >= 3]).tolist():
        which = np.flatnonzero(sizes == size)
        points = vertices[np.array([polygons[k] for k in which.tolist()], np.int64)]  # (m, size, 3)
        fan = np.stack([np.zeros(size - 2, np.int64), np.arange(1, size - 1), np.arange(2, size)], axis=1)
        convex = _convex(points)
        owners.append(np.repeat(which[convex], size - 2))
        corners.append(np.tile(fan, (int(convex.sum()), 1)))
        for k in np.flatnonzero(~convex):
            found = _clipped(points[k])
            owners.append(np.full(len(found), which[k]))
            corners.append(found)
    owner, corner = np.concatenate(owners), np.concatenate(corners)
    order = owner.argsort(kind="stable")
    return owner[order], corner[order]


def _normals(points: Float[np.ndarray, "m n 3"]) -> Float[np.ndarray, "m 3"]:
    """As long as twice the area (Newell's method)."""
    own = points - points[:, :1]
    return np.cross(own, np.roll(own, -1, axis=1)).sum(axis=1)


def _convex(points: Float[np.ndarray, "m n 3"]) -> Bool[np.ndarray, "m"]:
    edges = np.roll(points, -1, axis=1) - points
    normals = _normals(points)
    turns = np.einsum("mnd,md->mn", np.cross(edges, np.roll(edges, -1, axis=1)), normals)
    return (turns >= -1e-6 * np.einsum("md,md->m", normals, normals)[:, None]).all(axis=1)


def _clipped(points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "f 3"]:
    """Ear clipping (Meisters 1975) in the plane along which the polygon is largest."""
    normal = _normals(points[None])[0]
    axis = int(np.abs(normal).argmax())
    flat = np.delete(points, axis, axis=1) * ([1, 1] if (normal[axis] > 0) == (axis != 1) else [-1, 1])

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    left, found = list(range(len(flat))), []
    while len(left) > 3:
        ear = 0  # without an ear it crosses itself, and any cut is as good
        for k in range(len(left)):
            before, here, after = left[k - 1], left[k], left[(k + 1) % len(left)]
            a, b, c = flat[[before, here, after]]
            if side(a, b, c) <= 0:
                continue
            others = flat[[i for i in left if i not in (before, here, after)]]
            inside = (side(a, b, others) >= 0) & (side(b, c, others) >= 0) & (side(c, a, others) >= 0)
            if not (inside & ~(others == a).all(axis=1) & ~(others == c).all(axis=1)).any():
                ear = k
                break
        found.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
    return np.array([*found, tuple(left)], np.int64)
