"""The box of a scene, the cube that becomes [-1, 1]^3: as given, as the layout says, or estimated from the cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, UInt8

from ddmi.base.errors import UserError
from ddmi.domains.nerf.hull import silhouettes
from ddmi.domains.nerf.posed import Views, in_view, meeting
from ddmi.domains.nerf.scene import Scene, shrunk

Cloud = Float32[np.ndarray, "n 6"]
"""Coloured points in the signal's coordinates: xyz, then rgb, all in [-1, 1]."""

CENTRED = 0.05
"""Axes that meet within this share of the distance to the cameras from the origin are taken to meet there."""
SAMPLE_VIEWS, SAMPLE_SIDE = 24, 96
"""What is checked of an object: how many of its views, and their shorter side."""
MOST_OUTSIDE = 0.05
"""Share of the coloured points that may lie outside of the box; those are left out."""
TURN = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""z up becomes y up."""
ENLARGED = 2.2
"""Coloured points of npz files may be those of the shape before it was enlarged so, and y up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedScene:
    """An object of a source: its scene, and the cube, in the units of its poses, that becomes [-1, 1]^3."""

    name: str
    scene: Scene
    radius: float
    centre: tuple[float, float, float]

    def moved(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Points of the scene in the signal's coordinates."""
        moved = (points - self.centre) / self.radius
        return moved @ TURN.T if self.scene.up == "z" else moved

    @cached_property
    def views(self) -> Views:
        """Its cameras, in the signal's coordinates."""
        poses = self.scene.views.poses.copy()
        poses[:, :3, 3] = self.moved(self.scene.views.eyes)
        if self.scene.up == "z":
            poses[:, :3, :3] = TURN @ poses[:, :3, :3]
        return replace(self.scene.views, poses=poses)

    def sample(self, most: int = SAMPLE_VIEWS, side: int = SAMPLE_SIDE) -> tuple[Views, UInt8[np.ndarray, "n h w c"]]:
        """At most so many views, evenly among all, and their images as they are, shrunk to about this side."""
        which = evenly(len(self.scene.views), most)
        factor = max(1, round(min(self.scene.views.size) / side))
        images = [shrunk(self.scene.pixels(int(view)), factor) for view in which]
        if len({image.shape[2] for image in images}) > 1:  # some have alpha
            images = [np.dstack([i, np.full(i.shape[:2], 255, np.uint8)])[..., :4] for i in images]
        return self.views.only(which).shrunk(factor), np.stack(images)

    def points(self, npz_turn: Float64[np.ndarray, "3 3"]) -> Cloud | None:
        """The points that come with the views, in the signal's coordinates; None where there are none.

        Raises:
            UserError: they cannot be read, or are not those of the scene; the file is named.
        """
        if self.scene.cloud is None:
            return None
        points, colours = self.scene.points()
        if self.scene.files is None:
            points = points @ npz_turn.T
        moved = self.moved(points)
        inside = (np.abs(moved) <= 1).all(axis=1)
        if inside.mean() < 1 - MOST_OUTSIDE:
            reach = float(np.abs(points - self.centre).max())
            text = f"{1 - inside.mean():.0%} of its points lie outside of the box: they reach {reach:.3g} from its"
            raise UserError(f"{self.scene.cloud}: {text} middle, the radius is {self.radius:.3g}")
        return coloured(moved[inside], colours[inside])

    def named(self, text: str) -> str:
        """A text about this object, with its place in front."""
        return text if text.startswith(str(self.scene.place)) else f"{self.scene.place}: {text}"


def coloured(points: Float[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"]) -> Cloud:
    """Points in the signal's coordinates with their colours."""
    return np.concatenate([points, colours / 127.5 - 1], axis=1, dtype=np.float32)


def boxed_scenes(scenes: dict[str, Scene], radius: float | None) -> dict[str, BoxedScene]:
    """Each scene in its box: as given, as its files say, or estimated from the cameras, then one radius for all."""
    centres = {name: scene.centre or _middle(scene.views) for name, scene in scenes.items()}
    estimated = [
        in_view(scene.views, np.array(centres[name]))
        for name, scene in scenes.items()
        if scene.radius is None and radius is None
    ]
    estimate = float(np.median([ball for ball in estimated if ball > 0] or [1.0]))
    return {
        name: BoxedScene(name=name, scene=scene, radius=radius or scene.radius or estimate, centre=centres[name])
        for name, scene in scenes.items()
    }


def _middle(views: Views) -> tuple[float, float, float]:
    """Where the optical axes meet; the origin where that is near, or where they do not."""
    meets = meeting(views.eyes, views.axes)
    if meets is None or meets.side < 1 or np.linalg.norm(meets.point) < CENTRED * meets.depth:
        return 0.0, 0.0, 0.0
    x, y, z = map(float, meets.point)
    return x, y, z


def npz_turn(objects: list[BoxedScene]) -> Float64[np.ndarray, "3 3"]:
    """What brings the points of npz files to the scene of their views, by the silhouettes of the first object.

    They are those of the scene, or of the shape before it was turned, enlarged, or both.
    """
    best, found = 0.0, np.eye(3)
    for one in objects:
        if one.scene.files is not None or one.scene.cloud is None:
            continue
        try:
            points, (views, images) = one.scene.points()[0], one.sample()
        except UserError:  # the object says it for itself
            continue
        masks = silhouettes(images)
        if masks is None:
            break
        for matrix in (np.eye(3), TURN.T, ENLARGED * np.eye(3), ENLARGED * TURN.T):
            overlap = _overlap(views, masks, one.moved(points @ matrix.T))
            if overlap > best + 0.02:
                best, found = overlap, matrix
        break
    return found


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


def evenly(size: int, most: int) -> Int[np.ndarray, "k"]:
    """At most so many indices below `size`, the first and the last among them, in order."""
    return np.unique(np.linspace(0, size - 1, most).round().astype(int))
