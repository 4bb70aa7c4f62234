"""One object as its files have it: its cameras, its pictures, its coloured points, and what is known of its box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from ddmi.base.errors import UserError
from ddmi.data.meshes import Up
from ddmi.domains.nerf.posed import Views, askew
from ddmi.domains.nerf.views.pixels import Pixels

Raw = tuple[Float64[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]
"""Coloured points in the units of the files."""

FEWEST_POINTS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What a layout reads; each has its own kind, which knows where pictures and points are."""

    place: Path
    """What an error names."""
    views: Views
    """OpenGL's axes, in the units of the files."""
    up: Up
    radius: float | None
    """None: to be estimated."""
    centre: tuple[float, float, float] | None = (0.0, 0.0, 0.0)
    """None: to be estimated."""
    cloud: Path | None = None
    """The file of its coloured points, where some come with the views."""
    remark: str = ""
    """What a user should know of its cameras."""
    loose: bool = False
    """Its coloured points may be turned and smaller than the scene."""

    def pixels(self, view: int) -> Pixels:
        """A picture as it is, RGB or RGBA."""
        raise NotImplementedError

    def points(self, path: Path) -> Raw:
        """The coloured points in a file, in the units of the poses."""
        raise NotImplementedError


def views_of(poses: Float64[np.ndarray, "n 4 4"], focal: Any, centre: Any, size: tuple[int, int]) -> Views:
    """Cameras whose focal length and principal point (x, y), in pixels, are one for all or one for each."""
    count = len(poses)
    return Views(
        poses=poses,
        focal=np.broadcast_to(np.asarray(focal, dtype=np.float64), (count,)).copy(),
        centre=np.broadcast_to(np.asarray(centre, dtype=np.float64), (count, 2)).copy(),
        size=size,
    )


def upright(path: Path, what: str, rows: np.ndarray) -> Float64[np.ndarray, "4 4"]:
    """A pose given by 3 or 4 rows of 4 numbers, as 4 x 4; its rotation, which may be rounded, is made exact.

    Raises:
        UserError: it is no rotation and translation; the file and `what` are named.
    """
    pose = np.concatenate([rows, [[0, 0, 0, 1]]]) if len(rows) == 3 else rows
    if reason := askew(pose):
        raise UserError(f"{path}: {what} {reason}")
    left, _, right = np.linalg.svd(pose[:3, :3])
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = left @ right, pose[:3, 3]
    return exact


def enough(path: Path, points: np.ndarray) -> Float64[np.ndarray, "n 3"]:
    """Points of a file in 64 bits.

    Raises:
        UserError: there are too few, or values that are not finite; the file is named.
    """
    if len(points) < FEWEST_POINTS:
        raise UserError(f"{path} has {len(points)} points, at least {FEWEST_POINTS} are needed")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: points have values that are not finite numbers")
    return points.astype(np.float64)
