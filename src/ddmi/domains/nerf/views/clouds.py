"""The coloured points of objects: those of the files, or of a hull that is carved from the silhouettes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from ddmi.base.errors import UserError
from ddmi.base.progress import working
from ddmi.base.randomness import derive
from ddmi.data.kept import Kept, key
from ddmi.domains.nerf.hull import HULL, NoHull, coloured_hull, silhouettes
from ddmi.domains.nerf.posed import Views
from ddmi.domains.nerf.views.box import TURN, Box, Boxed
from ddmi.domains.nerf.views.contents import one_line
from ddmi.domains.nerf.views.npz import ENLARGED

Cloud = tuple[Float32[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]
"""Coloured points in the signal's coordinates."""

MOST_OUTSIDE = 0.05
"""Share of the coloured points that may lie outside of the box; those are left out."""
HULL_VIEWS, HULL_SIDE, HULL_CELLS, HULL_POINTS = 40, 192, 96, 30_000
"""A hull is carved by at most so many views, of pictures shrunk to about this shorter side; its cells and points."""


class Clouds:
    """Coloured points by the number of the object, read or carved when they are first asked for.

    Args:
        objects: those of the source.
        memory: bytes of points that stay in memory; when it is full, nothing more is kept and nothing leaves.
        hulls: a folder that keeps the points of hulls; None: they stay in memory alone.
    """

    def __init__(self, objects: list[Boxed], memory: int, hulls: Path | None):
        self._objects = objects
        self._room = memory
        self._hulls = Kept(hulls)
        self._kept: dict[int, Cloud] = {}
        self._fitting: Float64[np.ndarray, "3 3"] | None = None

    def read(self, index: int) -> Cloud:
        """All points of object `index`.

        Raises:
            UserError: the points are not those of the scene, or there are none and no hull can be carved; the file or
                folder is named.
        """
        kept = self._kept.get(index)
        if kept is None:
            kept = self._given(index) or self._hull(index)
            size = kept[0].nbytes + kept[1].nbytes
            if size <= self._room:
                self._room -= size
                self._kept[index] = kept
        return kept

    def bad(self) -> dict[int, str]:
        """Why objects cannot be used whose points come with their views, by number, in order; nothing is kept."""

        def reason(index: int) -> str | None:
            try:
                self._given(index)
            except UserError as error:
                return str(error)
            except Exception as error:  # one bad object never stops the others
                return f"{self._objects[index].scene.cloud} cannot be read: {type(error).__name__}: {one_line(error)}"
            return None

        with suppress(UserError):  # each object then says it for itself
            if any(one.scene.loose and one.scene.cloud for one in self._objects):
                self._fit()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "points") as pool:
            return {k: text for k, text in enumerate(pool.map(reason, range(len(self._objects)))) if text}

    def _given(self, index: int) -> Cloud | None:
        """Those that come with the views."""
        scene = self._objects[index].scene
        if scene.cloud is None:
            return None
        points, colours = scene.points(scene.cloud)
        if scene.loose:
            points = points @ self._fit().T
        return _inside(scene.cloud, self._objects[index].box, points, colours)

    def _fit(self) -> Float64[np.ndarray, "3 3"]:
        """What brings the points of npz files to the scene of their views, by the silhouettes of the first object.

        They are those of the scene, or of the shape before it was turned, enlarged, or both.
        """
        if self._fitting is None:
            best, fitting = 0.0, np.eye(3)
            one, points = self._first_loose()
            views, pictures = one.some()
            masks = silhouettes(pictures)
            if masks is not None:
                for enlarged in (1.0, ENLARGED):
                    for turn in (np.eye(3), TURN.T):
                        overlap = _overlap(views, masks, one.box.points(points @ (enlarged * turn).T))
                        if overlap > best + 0.02:
                            best, fitting = overlap, enlarged * turn
            self._fitting = fitting
        return self._fitting

    def _first_loose(self) -> tuple[Boxed, Float64[np.ndarray, "n 3"]]:
        """The first object whose points may be turned and can be read, and these; else what is wrong with the last."""
        wrong: Exception | None = None
        for one in self._objects:
            if one.scene.loose and one.scene.cloud:
                try:
                    return one, one.scene.points(one.scene.cloud)[0]
                except UserError as error:
                    wrong = error
        raise wrong or UserError("no object has points of its own")

    def _hull(self, index: int) -> Cloud:
        """Those of a hull, kept in the folder of hulls by the cameras and pictures that it is carved from."""
        one = self._objects[index]
        with working("carving visual hulls", one.name):
            views, pictures = one.some(HULL_VIEWS, HULL_SIDE)
            settings = (HULL, one.name, HULL_CELLS, HULL_POINTS, views.size)
            name = key(*settings, views.poses, views.focal, views.centre, pictures)
            kept = self._hulls.read(name)
            if kept is not None and {"points", "colours"} <= kept.keys():
                return kept["points"], kept["colours"]
            rng = np.random.default_rng(derive("hull", one.name))
            try:
                points, colours = coloured_hull(views, pictures, rng, count=HULL_POINTS, resolution=HULL_CELLS)
            except NoHull as error:
                place = one.scene.place
                raise UserError(f"{place} has no coloured points, and no hull can be carved: {error}") from error
            self._hulls.write(name, points=points, colours=colours)
        return points, colours


def _inside(path: Path, box: Box, points: Float64[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"]) -> Cloud:
    """Those in the box, in the signal's coordinates."""
    moved = box.points(points)
    kept = (np.abs(moved) <= 1).all(axis=1)
    if kept.mean() < 1 - MOST_OUTSIDE:
        reach = float(np.abs(points - box.centre).max())
        raise UserError(
            f"{path}: {1 - kept.mean():.0%} of its points lie outside of the box: they reach {reach:.3g} from its "
            f"middle, the radius is {box.radius:.3g}"
        )
    return moved[kept].astype(np.float32), colours[kept]


def _overlap(views: Views, masks: Bool[np.ndarray, "n h w"], points: Float64[np.ndarray, "m 3"]) -> float:
    """How well the boxes around the points and around the silhouettes agree: area in both by area in any, the mean."""
    shares = []
    for view in np.flatnonzero(masks.any(axis=(1, 2))):
        pixel, depth, _ = views.project(int(view), points)
        if (depth <= 0).any():
            return 0.0
        rows, columns = np.nonzero(masks[view])
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        first, last = pixel.min(axis=0), pixel.max(axis=0)
        both = np.prod(np.clip(np.minimum(high, last) - np.maximum(low, first), 0, None))
        shares.append(both / (np.prod(high - low) + np.prod(last - first) - both))
    return float(np.mean(shares)) if shares else 0.0
