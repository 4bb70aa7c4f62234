"""Posed views of one object: the geometry of their cameras, and what they look like when they are wrong.

Poses are camera-to-world with OpenGL axes: a camera looks along its -z, its y is up, its x right. A pixel in column i
and row j has its centre at (i + 0.5, j + 0.5), row 0 at the top. The scene lies in the box [-1, 1]^3, y up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt8

TOLERANCE = 2e-3
"""How far the products of a pose's axes may be from those of a rotation: rounding to three decimals moves them by up to
2 sqrt(3) 0.0005 = 0.0017."""
FIELDS = (3.0, 100.0)
"""Degrees: a field of view beyond these is that of a focal length in a wrong unit."""
SOUND = 0.35
"""Optical axes meet where they pass within this fraction of the distance to the cameras."""
COARSE = 32
"""Cells a side of the hull that a check carves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """The cameras of one object."""

    poses: Float64[np.ndarray, "n 4 4"]
    focal: Float64[np.ndarray, "n"]
    """In pixels."""
    centre: Float64[np.ndarray, "n 2"]
    """Principal points (x, y) in pixels."""
    size: tuple[int, int]
    """(height, width) of all pictures."""
    parts: tuple[str, ...] | None = None
    """"train", "val" or "test" of each view where the files say so."""

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
        """(column, row) of points in a view, in pixels; their depth along its axis; and which are in the picture."""
        local = (points - self.poses[view, :3, 3]) @ self.poses[view, :3, :3]
        depth = -local[:, 2]
        ahead = np.where(depth > 1e-9, depth, np.inf)
        pixel = self.centre[view] + self.focal[view] * local[:, :2] * [1, -1] / ahead[:, None]
        (column, row), (height, width) = pixel.T, self.size
        seen = (depth > 1e-9) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
        return pixel, depth, seen

    def only(self, which: Int[np.ndarray, "k"]) -> Views:
        """Some of the views."""
        parts = None if self.parts is None else tuple(self.parts[view] for view in which)
        return replace(self, poses=self.poses[which], focal=self.focal[which], centre=self.centre[which], parts=parts)

    def shrunk(self, factor: int) -> Views:
        """The cameras of pictures of which `factor` x `factor` pixels became one."""
        height, width = (-(-side // factor) for side in self.size)
        return replace(self, focal=self.focal / factor, centre=self.centre / factor, size=(height, width))


@dataclass(frozen=True, eq=False)
class Meeting:
    """The point that is nearest to all optical axes."""

    point: Float64[np.ndarray, "3"]
    off: float
    """How far the axes pass from it, root mean square."""
    depths: Float64[np.ndarray, "n"]
    """Of the point in each view; negative where it lies behind the camera."""

    def sound(self, reach: float) -> int:
        """1: the axes meet in front of (nearly) all cameras, -1: behind them, 0: they do not meet.

        Args:
            reach: how far from the origin the cameras are; what is a thousandth of it away is where the camera is.
        """
        depth = float(np.median(self.depths))
        if abs(depth) < 1e-3 * reach or self.off > SOUND * abs(depth):
            return 0
        return int(np.sign(depth)) if (np.sign(self.depths) == np.sign(depth)).mean() >= 0.9 else 0


def meeting(views: Views) -> Meeting | None:
    """Where the optical axes meet, by least squares; None where they are all but parallel."""
    return _meeting(views.eyes, views.axes)


def _meeting(eyes: Float64[np.ndarray, "n 3"], axes: Float64[np.ndarray, "n 3"]) -> Meeting | None:
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    total = across.sum(axis=0)
    if np.linalg.eigvalsh(total)[0] < 1e-3 * len(axes):
        return None
    point = np.linalg.solve(total, np.einsum("nij,nj->i", across, eyes))
    aside = np.einsum("nij,nj->ni", across, point - eyes)
    off = float(np.sqrt((aside**2).sum(axis=1).mean()))
    return Meeting(point, off, ((point - eyes) * axes).sum(axis=1))


def in_view(views: Views, point: Float[np.ndarray, "3"]) -> float:
    """The radius of the largest ball around a point that (nearly) all views show whole; 0 where they do not."""
    local = np.einsum("ni,nij->nj", point - views.eyes, views.poses[:, :3, :3])
    height, width = views.size
    ends = np.concatenate([views.centre, [width, height] - views.centre], axis=1) / views.focal[:, None]
    sides = np.stack([-local[:, 0], local[:, 1], local[:, 0], -local[:, 1]], axis=1)
    inside = (-local[:, 2:] * ends - sides) / np.sqrt(1 + ends**2)  # to the left, upper, right, lower plane
    return max(0.0, float(np.quantile(inside.min(axis=1), 0.1)))


def askew(pose: Float[np.ndarray, "4 4"]) -> str | None:
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


def fits(views: Views, masks: Bool[np.ndarray, "n h w"], points: Float[np.ndarray, "m 3"]) -> float:
    """Share of the points that lie in the silhouettes (one pixel more), the mean of the views that have any."""
    shares = []
    for view in np.flatnonzero(masks.any(axis=(1, 2))):
        pixel, _, seen = views.project(int(view), points)
        columns, rows = np.floor(pixel[seen]).astype(int).T
        padded = np.pad(masks[view], 1)
        wide = np.any(
            [padded[r : r + views.size[0], c : c + views.size[1]] for r in range(3) for c in range(3)], axis=0
        )
        shares.append(wide[rows, columns].sum() / len(points))
    return float(np.mean(shares)) if shares else 0.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the views of an object."""

    text: str
    fatal: bool
    """Nothing can be trained on them."""


def check(views: Views, pictures: UInt8[np.ndarray, "n h w c"]) -> list[str]:
    """What the views of one object look like when they are wrong, a line each; [] when nothing is.

    Args:
        views: in the signal's coordinates.
        pictures: those of the views, RGB or RGBA, at their size or a smaller one.
    """
    return [finding.text for finding in findings(views, pictures)]


def findings(
    views: Views, pictures: UInt8[np.ndarray, "n h w c"], points: Float[np.ndarray, "m 3"] | None = None
) -> list[Finding]:
    """As `check`, with what is fatal; what follows from another finding is not told again.

    Args:
        points: of the scene's surface, where they are known: they say how far it reaches, better than a hull.
    """
    found = _poses(views)
    if not any(finding.fatal for finding in found):
        found += _focal(views)
    if not any(finding.fatal for finding in found):
        found += _where(views)
    if not any(finding.fatal for finding in found):
        found += _seen(views, pictures, points, carved=not found)
    return found


def _poses(views: Views) -> list[Finding]:
    wrong = [(view, reason) for view, pose in enumerate(views.poses) if (reason := askew(pose))]
    if not wrong:
        return []
    view, reason = wrong[0]
    return [Finding(f"{len(wrong)} of {len(views)} poses cannot be used: pose {view} {reason}", True)]


def _focal(views: Views) -> list[Finding]:
    width = views.size[1]
    focal = float(np.median(views.focal))
    if not np.isfinite(focal) or focal <= 0:
        return [Finding(f"the focal length is {focal:g}: it must be a positive number of pixels", True)]
    field = math.degrees(2 * math.atan(width / 2 / focal))
    low, high = FIELDS
    if low <= field <= high:
        return []
    if field < low:
        guess = "as if of a larger picture"
    elif focal < 5:
        guess = "as if in radians or as a share of the width"
    else:
        guess = "as if in millimetres or degrees"
    text = f"a focal length of {focal:.4g} at {width} pixels is a field of view of {field:.1f} degrees, {guess}; "
    return [Finding(text + "it must be in pixels", field < low / 3 or field > 170)]


def _where(views: Views) -> list[Finding]:
    """What the optical axes tell."""
    meets = meeting(views) if len(views) > 1 else None
    if meets is not None:
        reach = float(np.median(np.linalg.norm(views.eyes, axis=1)))
        sound = meets.sound(reach)
        if sound < 0:
            return [
                Finding(
                    "the scene lies behind the cameras: their axes look as if OpenCV's (y down, z ahead) and OpenGL's "
                    "(y up, z back) are exchanged",
                    True,
                )
            ]
        if sound == 0 and _inverted(views):
            return [
                Finding(
                    "the optical axes do not meet, those of the inverse poses do: the poses look like world-to-camera, "
                    "camera-to-world is needed",
                    True,
                )
            ]
        if sound > 0 and np.abs(meets.point).max() > 0.7:
            where = ", ".join(f"{value:.2g}" for value in meets.point)
            return [
                Finding(
                    f"the optical axes meet at ({where}), off the middle of the box [-1, 1]^3: the scene's radius or "
                    "centre does not fit its units",
                    float(np.abs(meets.point).max()) > 3,
                )
            ]
    near = int((np.abs(views.eyes).max(axis=1) < 1).sum())
    if 2 * near > len(views):
        return [
            Finding(f"{near} of {len(views)} cameras stand inside of the box [-1, 1]^3: the radius is too large", False)
        ]
    return []


def _inverted(views: Views) -> bool:
    """Whether the axes of the inverse poses meet.

    Where the scene was turned upright, that was done at the wrong side of these poses, so any axis of theirs is tried.
    """
    inverse = np.linalg.inv(views.poses)
    eyes = inverse[:, :3, 3]
    reach = float(np.median(np.linalg.norm(eyes, axis=1)))
    meets = [_meeting(eyes, inverse[:, :3, axis]) for axis in range(3)]
    return any(meet is not None and meet.sound(reach) != 0 for meet in meets)


def _seen(
    views: Views,
    pictures: UInt8[np.ndarray, "n h w c"],
    points: Float[np.ndarray, "m 3"] | None,
    carved: bool,
) -> list[Finding]:
    """What the pictures tell, by their silhouettes and, where nothing else is wrong, the hull of these."""
    from ddmi.domains.nerf.hull import backdrop, carve, silhouettes

    plain = [int(view) for view in np.flatnonzero([bool((p == p[0, 0]).all()) for p in pictures])]
    if len(plain) == len(views):
        return [Finding("all pictures show nothing but background", True)]
    found = []
    if plain:
        found.append(
            Finding(f"{len(plain)} of {len(views)} pictures show nothing but background (view {plain[0]})", False)
        )
    masks = silhouettes(pictures)
    if masks is None:
        return found
    back = backdrop(pictures)
    if back is not None and back.colour == 0:
        found.append(Finding("the pictures stand on black and have no alpha: the background must be black too", False))

    if not carved:
        return found
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    shrunk = pictures.shape[2] / views.size[1]
    small = replace(
        views, focal=views.focal * shrunk, centre=views.centre * shrunk, size=(pictures.shape[1], pictures.shape[2])
    ).only(shown)
    masks = masks[shown]
    inside = carve(small, masks, COARSE)
    if not inside.any():
        told = "no part of the box [-1, 1]^3 lies in the silhouettes of the views"
        return [*found, Finding(f"{told}: the poses, the focal length or the radius are wrong", True)]
    cells = np.argwhere(inside)[:, ::-1]
    centres = (cells + 0.5) * (2 / COARSE) - 1
    rim = 0.0 if points is not None else float(np.mean([inside[side].mean() for side in _SIDES]))
    if rim > 0.02 and _spread(small):
        found.append(
            Finding(
                f"the scene leaves the box [-1, 1]^3 (its hull takes {rim:.0%} of the sides): the radius is too small",
                False,
            )
        )
    elif (reach := float(np.abs(points).max() if points is not None else np.abs(centres).max() + 1 / COARSE)) < 0.3:
        found.append(
            Finding(f"the scene takes only the inner {reach:.2g} of the box [-1, 1]^3: the radius is too large", False)
        )
    covered = _covered(small, masks, centres)
    if covered < 0.5:
        found.append(Finding(f"the views do not agree: their hull covers {covered:.0%} of the silhouettes", False))
    return found


def _spread(views: Views) -> bool:
    """Whether views are from so many sides that their hull ends in every direction."""
    along = np.einsum("ni,nj->ij", views.axes, views.axes) / len(views)
    return len(views) >= 4 and bool(np.linalg.eigvalsh(along)[-1] < 0.9)


_SIDES: list[Any] = [np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]]


def _covered(views: Views, masks: Bool[np.ndarray, "n h w"], centres: Float[np.ndarray, "m 3"]) -> float:
    """The share of the silhouettes that cells with these centres hide, each drawn as the square around it."""
    shares = []
    for view in range(len(views)):
        pixel, depth, seen = views.project(view, centres)
        height, width = views.size
        drawn = np.zeros((height + 1, width + 1))
        half = views.focal[view] / COARSE / np.maximum(depth[seen], 1e-9) + 0.5
        low = np.clip(np.floor(pixel[seen] - half[:, None]), 0, [width, height]).astype(int)
        high = np.clip(np.ceil(pixel[seen] + half[:, None]), 0, [width, height]).astype(int)
        np.add.at(drawn, (low[:, 1], low[:, 0]), 1)
        np.add.at(drawn, (low[:, 1], high[:, 0]), -1)
        np.add.at(drawn, (high[:, 1], low[:, 0]), -1)
        np.add.at(drawn, (high[:, 1], high[:, 0]), 1)
        hidden = drawn.cumsum(axis=0).cumsum(axis=1)[:height, :width] > 0.5
        shares.append((hidden & masks[view]).sum() / masks[view].sum())
    return float(np.mean(shares)) if shares else 0.0
