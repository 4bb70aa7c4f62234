"""The files of one shape as Occupancy Networks writes them, checked when they are read.

Points are float16 or float32 in [-0.55, 0.55], occupancies packed bits or one value a point (Mescheder et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer

from ddmi.base.errors import UserError
from ddmi.base.storage import read_arrays
from ddmi.data.preparation import CLOUD, NEAR, SPACE, UNIT

FEWEST_POINTS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """The arrays of one shape; points as they are in its files (theirs, [-0.55, 0.55])."""

    points: Float[np.ndarray, "s 3"]
    normals: Float[np.ndarray, "s 3"]
    space: Float[np.ndarray, "u 3"]
    space_inside: Bool[np.ndarray, "u"]
    near: Float[np.ndarray, "k 3"] | None
    near_inside: Bool[np.ndarray, "k"] | None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in vars(self).values() if array is not None)


def load(folder: Path) -> Stored:
    """The arrays of one model's folder, checked.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    points, normals = _read(folder / CLOUD, "normals")
    if normals.shape != points.shape or normals.dtype.kind != "f" or not np.isfinite(normals).all():
        raise UserError(f"{folder / CLOUD}: `normals` must be {len(points)} x 3 finite numbers, as `points` are")
    space, inside = _occupancies(folder / SPACE)
    if not inside.any():
        raise UserError(f"{folder / SPACE}: no point is inside")
    near, near_inside = _occupancies(folder / NEAR) if (folder / NEAR).is_file() else (None, None)
    return Stored(points=points, normals=normals, space=space, space_inside=inside, near=near, near_inside=near_inside)


def _read(path: Path, beside: str) -> tuple[Float[np.ndarray, "n 3"], np.ndarray]:
    """The points of a file, checked, and the array `beside` them as it is."""
    points, other = read_arrays(path, "points", beside).values()
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "f":
        raise UserError(f"{path}: `points` must be (n, 3) numbers, not {points.dtype} {points.shape}")
    if len(points) < FEWEST_POINTS:
        raise UserError(f"{path} has {len(points)} points, at least {FEWEST_POINTS} are needed")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: `points` has values that are not finite numbers")
    if (reach := float(np.abs(points).max())) > 1.1 * UNIT:
        raise UserError(f"{path}: coordinates reach {reach:.3g}, the layout of Occupancy Networks ends at {UNIT}")
    return points, other


def _occupancies(path: Path) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
    points, given = _read(path, "occupancies")
    count = len(points)
    if given.dtype == np.uint8 and given.shape == ((count + 7) // 8,):
        return points, np.unpackbits(given)[:count].astype(bool)
    if given.shape != (count,) or given.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: {count} points go with {count} `occupancies`, or {(count + 7) // 8} bytes of packed bits, "
            f"not with {given.dtype} {given.shape}"
        )
    return points, given > 0.5 if given.dtype.kind == "f" else given.astype(bool)


def ours(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Their coordinates as ours, float32 in [-1, 1]."""
    return np.clip(points.astype(np.float32) / np.float32(UNIT), -1, 1)


def some(size: int, count: int, rng: np.random.Generator) -> Integer[np.ndarray, "n"]:
    """`count` of `size` indices, each at most once unless there are too few."""
    return rng.choice(size, count, replace=count > size)
