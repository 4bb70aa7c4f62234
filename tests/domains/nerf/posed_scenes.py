"""Objects known in closed form, rendered exactly from cameras around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddmi.domains.nerf.posed import Views

Paint = Callable[[np.ndarray], np.ndarray]
RED, BLUE = (230, 20, 20), (20, 20, 230)


def look(eye: np.ndarray, target: np.ndarray | tuple = (0.0, 0.0, 0.0), up: tuple = (0.0, 1.0, 0.0)) -> np.ndarray:
    """Camera-to-world, OpenGL's axes."""
    back = (eye - np.asarray(target)) / np.linalg.norm(eye - np.asarray(target))
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def around(count: int, distance: float, lowest: float = -0.9, up: str = "y") -> np.ndarray:
    """Directions that spread over a sphere, as poses that look at the origin."""
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    high = lowest + (0.95 - lowest) * (np.arange(count) + 0.5) / count
    flat = np.sqrt(1 - high**2)
    eyes = np.stack([flat * np.sin(turn), high, flat * np.cos(turn)], axis=1)
    if up == "z":
        eyes = np.stack([eyes[:, 0], -eyes[:, 2], eyes[:, 1]], axis=1)
    return np.stack([look(distance * eye, up=(0, 0, 1) if up == "z" else (0, 1, 0)) for eye in eyes])


def views_of(poses: np.ndarray, size: tuple[int, int], focal: float) -> Views:
    count = len(poses)
    middle = np.array([size[1] / 2, size[0] / 2])
    return Views(poses=poses, focal=np.full(count, focal), centre=np.tile(middle, (count, 1)), size=size)


def rays(views: Views, view: int) -> tuple[np.ndarray, np.ndarray]:
    """Origin and unit directions (h, w, 3) through the middles of the pixels."""
    rows, columns = np.mgrid[: views.size[0], : views.size[1]] + 0.5
    x, y = views.centre[view]
    local = np.stack([columns - x, y - rows, np.full(rows.shape, -views.focal[view])], axis=2)
    world = local @ views.poses[view, :3, :3].T
    return views.poses[view, :3, 3], world / np.linalg.norm(world, axis=2, keepdims=True)


def ball(centre: tuple, radius: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """How far along rays a ball is met; infinite where it is not."""

    def meet(origin: np.ndarray, ray: np.ndarray) -> np.ndarray:
        along = ray @ (np.asarray(centre) - origin)
        gap = radius**2 - (np.sum((np.asarray(centre) - origin) ** 2) - along**2)
        return np.where(gap > 0, along - np.sqrt(np.maximum(gap, 0)), np.inf)

    return meet


def box(low: tuple, high: tuple) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def meet(origin: np.ndarray, ray: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            first, second = (np.asarray(low) - origin) / ray, (np.asarray(high) - origin) / ray
        near, far = np.minimum(first, second).max(axis=-1), np.maximum(first, second).min(axis=-1)
        return np.where(near < far, near, np.inf)

    return meet


def photograph(views: Views, *things: tuple[Callable, Paint]) -> np.ndarray:
    """RGBA pictures (n, h, w, 4) of solids, each with its paint (points -> 0-255)."""
    out = np.zeros((len(views), *views.size, 4), dtype=np.uint8)
    for view in range(len(views)):
        origin, ray = rays(views, view)
        nearest = np.full(views.size, np.inf)
        for meet, paint in things:
            depth = meet(origin, ray)
            seen = depth < nearest
            out[view, seen, :3] = paint(origin + ray[seen] * depth[seen, None])
            out[view, seen, 3] = 255
            nearest = np.minimum(nearest, depth)
    return out


def plain(colour: tuple[int, int, int]) -> Paint:
    return lambda points: np.broadcast_to(np.array(colour), points.shape)


def halves(axis: int, at: float) -> Paint:
    """Red beyond a plane across an axis, blue before it."""
    return lambda points: np.where(points[..., axis : axis + 1] > at, RED, BLUE)


def on(pictures: np.ndarray, grey: int = 255) -> np.ndarray:
    """Pictures without alpha."""
    return np.where(pictures[..., 3:] > 127, pictures[..., :3], grey).astype(np.uint8)
