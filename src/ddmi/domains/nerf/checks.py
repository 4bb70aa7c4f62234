"""What the views of one object look like when their poses, focal lengths, radius or images are wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ddmi.domains.nerf.hull import backdrop, carve, silhouettes, widened
from ddmi.domains.nerf.posed import Views, meeting, pose_error

FIELDS = (3.0, 100.0)
"""Degrees: a field of view beyond these is that of a focal length in a wrong unit."""
COARSE = 32
"""Cells a side of the hull that a check carves."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the views of an object."""

    text: str
    fatal: bool = False
    """Nothing can be trained on them."""


def check(
    views: Views, images: UInt8[np.ndarray, "n h w c"], points: Float[np.ndarray, "m 3"] | None = None
) -> list[Finding]:
    """What is wrong with the views of one object; what follows from another finding is not listed.

    Args:
        views: in the signal's coordinates.
        images: those of the views, RGB or RGBA, at their size or a smaller one.
        points: of the scene's surface, where they are known: they say how far it reaches, better than a hull.
    """
    found: list[Finding] = []
    for look in (_poses, _focal, _axes):
        found += look(views)
        if any(finding.fatal for finding in found):
            return found
    return [*found, *_images(views, images, points, carved=not found)]


def _poses(views: Views) -> Iterator[Finding]:
    errors = [(view, error) for view, pose in enumerate(views.poses) if (error := pose_error(pose))]
    if errors:
        view, error = errors[0]
        yield Finding(f"{len(errors)} of {len(views)} poses cannot be used: pose {view} {error}", True)


def _focal(views: Views) -> Iterator[Finding]:
    width, focal = views.size[1], float(np.median(views.focal))
    if not np.isfinite(focal) or focal <= 0:
        yield Finding(f"the focal length is {focal:g}: it must be a positive number of pixels", True)
        return
    field = math.degrees(2 * math.atan(width / 2 / focal))
    low, high = FIELDS
    if not low <= field <= high:
        unit = "radians or as a share of the width" if focal < 5 else "millimetres or degrees"
        guess = "of a larger image" if field < low else f"in {unit}"
        text = f"a focal length of {focal:.4g} at {width} pixels is a field of view of {field:.1f} degrees, as if "
        yield Finding(f"{text}{guess}; it must be in pixels", field < low / 3 or field > 170)


def _axes(views: Views) -> Iterator[Finding]:
    """What the optical axes say of the axes' convention, the direction of the poses, and the box."""
    meets = meeting(views.eyes, views.axes)
    if meets is not None:
        reach = float(np.abs(meets.point).max())
        if meets.side < 0:
            convention = "as if OpenCV's (y down, z ahead) and OpenGL's (y up, z back) are exchanged"
            yield Finding(f"the scene lies behind the cameras: their axes look {convention}", True)
            return
        if meets.side == 0 and _inverted(views):
            text = "the optical axes do not meet, those of the inverse poses do: the poses look like world-to-camera"
            yield Finding(f"{text}, camera-to-world is needed", True)
            return
        if meets.side > 0 and reach > 0.7:
            where = ", ".join(f"{value:.2g}" for value in meets.point)
            text = f"the optical axes meet at ({where}), off the middle of the box [-1, 1]^3: the scene's radius or"
            yield Finding(f"{text} centre does not fit its units", reach > 3)
            return
    inside = int((np.abs(views.eyes).max(axis=1) < 1).sum())
    if 2 * inside > len(views):
        text = f"{inside} of {len(views)} cameras stand inside of the box [-1, 1]^3"
        yield Finding(f"{text}: the radius is too large")


def _inverted(views: Views) -> bool:
    """Whether the axes of the inverse poses meet.

    Where the scene was turned upright, that was done at the wrong side of these poses, so any axis of theirs is tried.
    """
    inverse = np.linalg.inv(views.poses)
    found = [meeting(inverse[:, :3, 3], inverse[:, :3, axis]) for axis in range(3)]
    return any(meets is not None and meets.side != 0 for meets in found)


def _images(
    views: Views,
    images: UInt8[np.ndarray, "n h w c"],
    points: Float[np.ndarray, "m 3"] | None,
    carved: bool,
) -> Iterator[Finding]:
    """What the images say, by their silhouettes and, where `carved`, the hull of these."""
    plain = [view for view, image in enumerate(images) if (image == image[0, 0]).all()]
    if len(plain) == len(views):
        yield Finding("all images show nothing but background", True)
        return
    if plain:
        yield Finding(f"{len(plain)} of {len(views)} images show nothing but background (view {plain[0]})")
    masks = silhouettes(images)
    if masks is None:
        return
    back = backdrop(images)
    if back is not None and back.colour == 0:
        yield Finding("the images stand on black and have no alpha: the background must be black too")
    if not carved:
        return
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    scale = images.shape[2] / views.size[1]
    small = replace(views, focal=views.focal * scale, centre=views.centre * scale, size=images.shape[1:3]).only(shown)
    inside = carve(small, masks[shown], COARSE)
    if not inside.any():
        text = "no part of the box [-1, 1]^3 lies in the silhouettes of the views"
        yield Finding(f"{text}: the poses, the focal length or the radius are wrong", True)
        return
    centres = (np.argwhere(inside)[:, ::-1] + 0.5) * (2 / COARSE) - 1
    rim = np.mean([np.take(inside, end, axis).mean() for axis in range(3) for end in (0, -1)])
    reach = np.abs(centres).max() + 1 / COARSE if points is None else np.abs(points).max()
    if points is None and rim > 0.02 and _spread(small):
        text = f"the scene leaves the box [-1, 1]^3 (its hull takes {rim:.0%} of the sides)"
        yield Finding(f"{text}: the radius is too small")
    elif reach < 0.3:
        yield Finding(f"the scene takes only the inner {reach:.2g} of the box [-1, 1]^3: the radius is too large")
    covered = _covered(small, masks[shown], centres)
    if covered < 0.5:
        yield Finding(f"the views do not agree: their hull covers {covered:.0%} of the silhouettes")


def _spread(views: Views) -> bool:
    """Whether views are from so many sides that their hull ends in every direction."""
    along = np.einsum("ni,nj->ij", views.axes, views.axes) / len(views)
    return len(views) >= 4 and bool(np.linalg.eigvalsh(along)[-1] < 0.9)


def _covered(views: Views, masks: Bool[np.ndarray, "n h w"], centres: Float[np.ndarray, "m 3"]) -> float:
    """The share of the silhouettes that cells with these centres hide, each as the square around the nearest cell."""
    shares = []
    for view, mask in enumerate(masks):
        pixel, depth, seen = views.project(view, centres)
        hidden = np.zeros(views.size, dtype=bool)
        if seen.any():
            columns, rows = np.floor(pixel[seen]).astype(int).T
            hidden[rows, columns] = True
            half = math.ceil(views.focal[view] / COARSE / depth[seen].min())
            hidden = widened(hidden, min(half, max(views.size)))
        shares.append((hidden & mask).sum() / mask.sum())
    return float(np.mean(shares))


def share_in_silhouettes(views: Views, masks: Bool[np.ndarray, "n h w"], points: Float[np.ndarray, "m 3"]) -> float:
    """Share of the points that lie in the silhouettes (one pixel more), the mean of the views that have any."""
    shares = []
    for view in np.flatnonzero(masks.any(axis=(1, 2))):
        pixel, _, seen = views.project(int(view), points)
        columns, rows = np.floor(pixel[seen]).astype(int).T
        shares.append(widened(masks[view], 1)[rows, columns].sum() / len(points))
    return float(np.mean(shares)) if shares else 0.0
