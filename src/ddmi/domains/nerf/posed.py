"""Posed views of one object: the geometry of their cameras.

Poses are camera-to-world with OpenGL axes: a camera looks along its -z, its y is up, its x right. A pixel in column i
and row j has its centre at (i + 0.5, j + 0.5), row 0 at the top. The scene lies in the box [-1, 1]^3, y up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

TOLERANCE = 2e-3
"""How far the products of a pose's axes may be from those of a rotation: rounding to three decimals moves them by up to
2 sqrt(3) 0.0005 = 0.0017."""
NEAR_AXES = 0.35
"""Optical axes meet where they pass within this fraction of the distance to the cameras."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """The cameras of one object."""

    poses: Float64[np.ndarray, "n 4 4"]
    focal: Float64[np.ndarray, "n"]
    """In pixels."""
    centre: Float64[np.ndarray, "n 2"]
    """Principal points (x, y) in pixels."""
    size: tuple[int, int]
    """(height, width) of all images."""

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def eyes(self) -> Float64[np.ndarray, "n 3"]:
        """Where the cameras stand."""
        return self.poses[:, :3, 3]

    @property
    def axes(self) -> Float64[np.ndarray, "n 3"]:
        """Where they look, unit vectors."""
        return -self.poses[:, :3, 2] / np.linalg.norm(self.poses[:, :3, 2], axis=1, keepdims=True)

    def project(
        self, view: int, points: Float[np.ndarray, "m 3"]
    ) -> tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, "m"], Bool[np.ndarray, "m"]]:
        """(column, row) of points in a view, in pixels; their depth along its axis; and which are in the image."""
        local = (points - self.poses[view, :3, 3]) @ self.poses[view, :3, :3]
        depth = -local[:, 2]
        ahead = np.where(depth > 1e-9, depth, np.inf)
        pixel = self.centre[view] + self.focal[view] * local[:, :2] * [1, -1] / ahead[:, None]
        (column, row), (height, width) = pixel.T, self.size
        seen = (depth > 1e-9) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        return pixel, depth, seen

    def only(self, which: Int[np.ndarray, "k"]) -> Views:
        """Some of the views."""
        return replace(self, poses=self.poses[which], focal=self.focal[which], centre=self.centre[which])

    def shrunk(self, factor: int) -> Views:
        """The cameras of images of which `factor` x `factor` pixels became one."""
        height, width = (-(-side // factor) for side in self.size)
        return replace(self, focal=self.focal / factor, centre=self.centre / factor, size=(height, width))


@dataclass(frozen=True, eq=False)
class Meeting:
    """The point that is nearest to all optical axes."""

    point: Float64[np.ndarray, "3"]
    depth: float
    """Of the point, median over the cameras; negative where it lies behind them."""
    side: int
    """1: the axes meet there, in front of (nearly) all cameras; -1: behind them; 0: they do not meet."""


def meeting(eyes: Float64[np.ndarray, "n 3"], axes: Float64[np.ndarray, "n 3"]) -> Meeting | None:
    """Where optical axes (unit vectors) meet, by least squares; None where they are all but parallel."""
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    total = across.sum(axis=0)
    if np.linalg.eigvalsh(total)[0] < 1e-3 * len(axes):
        return None
    point = np.linalg.solve(total, np.einsum("nij,nj->i", across, eyes))
    miss = np.einsum("nij,nj->ni", across, point - eyes)
    depths = ((point - eyes) * axes).sum(axis=1)
    depth, side = float(np.median(depths)), 0
    distance = np.median(np.linalg.norm(eyes, axis=1))
    apart = abs(depth) >= 1e-3 * distance  # nearer, it is where the camera is
    if apart and np.sqrt((miss**2).sum(axis=1).mean()) <= NEAR_AXES * abs(depth):
        side = int(np.sign(depth)) if (np.sign(depths) == np.sign(depth)).mean() >= 0.9 else 0
    return Meeting(point, depth, side)


def in_view(views: Views, point: Float[np.ndarray, "3"]) -> float:
    """The radius of the largest ball around a point that (nearly) all views show whole; 0 where they do not."""
    local = np.einsum("ni,nij->nj", point - views.eyes, views.poses[:, :3, :3])
    height, width = views.size
    ends = np.concatenate([views.centre, [width, height] - views.centre], axis=1) / views.focal[:, None]
    sides = np.stack([-local[:, 0], local[:, 1], local[:, 0], -local[:, 1]], axis=1)
    inside = (-local[:, 2:] * ends - sides) / np.sqrt(1 + ends**2)  # to the left, upper, right, lower plane
    return max(0.0, float(np.quantile(inside.min(axis=1), 0.1)))


def pose_error(pose: Float[np.ndarray, "4 4"]) -> str | None:
    """Why a matrix is no pose, or None: not finite, no rotation, mirrored, or a last row that is not 0 0 0 1."""
    if not np.isfinite(pose).all():
        return "has values that are not finite numbers"
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > TOLERANCE:
        return f"has the last row {' '.join(f'{value:.4g}' for value in pose[3])}, not 0 0 0 1"
    axes = pose[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if np.abs(lengths - 1).max() > TOLERANCE:
        return f"is no rotation: its axes have the lengths {', '.join(f'{length:.4g}' for length in lengths)}, not 1"
    if np.abs(axes.T @ axes - np.eye(3)).max() > TOLERANCE:
        return "is no rotation: its axes are not perpendicular"
    return "is mirrored: its axes are left-handed (determinant -1)" if np.linalg.det(axes) < 0 else None
