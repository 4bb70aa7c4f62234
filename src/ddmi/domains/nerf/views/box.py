"""The box of a scene, the cube that becomes [-1, 1]^3; told, as the layout says, or estimated from the cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int, UInt8

from ddmi.data.meshes import Up
from ddmi.domains.nerf.posed import Views, in_view, meeting
from ddmi.domains.nerf.views.pixels import shrunk
from ddmi.domains.nerf.views.scene import Scene

CENTRED = 0.05
"""Axes that meet within this share of the distance to the cameras from the origin are taken to meet there."""
LOOK_VIEWS, LOOK_SIDE = 24, 96
"""What is looked at of an object: how many of its views, and their shorter side."""
TURN = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""z up becomes y up."""


@dataclass(frozen=True)
class Box:
    """The cube of a scene that becomes [-1, 1]^3, in the units of its poses."""

    radius: float
    centre: tuple[float, float, float]
    up: Up

    def points(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Points of the scene in the signal's coordinates."""
        moved = (points - self.centre) / self.radius
        return moved @ TURN.T if self.up == "z" else moved

    def views(self, views: Views) -> Views:
        """Cameras of the scene in the signal's coordinates."""
        poses = views.poses.copy()
        poses[:, :3, 3] = self.points(views.eyes)
        if self.up == "z":
            poses[:, :3, :3] = TURN @ poses[:, :3, :3]
        return replace(views, poses=poses)


def _boxes(scenes: list[Scene], radius: float | None, up: Up | None) -> list[Box]:
    """The box of each object; those that are estimated have one radius for all."""
    centres, balls = [], []
    for scene in scenes:
        centre = _middle(scene.views) if scene.centre is None else scene.centre
        centres.append(centre)
        if scene.radius is None and radius is None and (ball := in_view(scene.views, np.array(centre))) > 0:
            balls.append(ball)
    estimate = float(np.median(balls)) if balls else 1.0
    return [
        Box(radius or scene.radius or estimate, centre, up or scene.up)
        for scene, centre in zip(scenes, centres, strict=True)
    ]


def _middle(views: Views) -> tuple[float, float, float]:
    """Where the optical axes meet; the origin where that is near, or where they do not."""
    meets = meeting(views) if len(views) > 1 else None
    if meets is None or meets.sound(float(np.median(np.linalg.norm(views.eyes, axis=1)))) < 1:
        return 0.0, 0.0, 0.0
    if np.linalg.norm(meets.point) < CENTRED * np.median(meets.depths):
        return 0.0, 0.0, 0.0
    x, y, z = (float(value) for value in meets.point)
    return x, y, z


@dataclass(frozen=True, eq=False)
class Boxed:
    """An object of a source: its scene, in its box."""

    name: str
    scene: Scene
    box: Box

    @property
    def views(self) -> Views:
        """Its cameras, in the signal's coordinates."""
        return self.box.views(self.scene.views)

    def some(self, most: int = LOOK_VIEWS, side: int = LOOK_SIDE) -> tuple[Views, UInt8[np.ndarray, "n h w c"]]:
        """At most so many views, evenly among all, and their pictures as they are, shrunk to about this side."""
        which = evenly(len(self.scene.views), most)
        factor = max(1, round(min(self.scene.views.size) / side))
        pictures = [shrunk(self.scene.pixels(int(view)), factor) for view in which]
        if len({picture.shape[2] for picture in pictures}) > 1:  # some have alpha
            pictures = [np.dstack([p, np.full(p.shape[:2], 255, np.uint8)])[..., :4] for p in pictures]
        return self.views.only(which).shrunk(factor), np.stack(pictures)


def boxed(names: list[str], scenes: list[Scene], radius: float | None, up: Up | None) -> list[Boxed]:
    """Each scene in its box; the radius and the axis that are given go first."""
    boxes = _boxes(scenes, radius, up)
    return [Boxed(*parts) for parts in zip(names, scenes, boxes, strict=True)]


def evenly(size: int, most: int) -> Int[np.ndarray, "k"]:
    """At most so many indices below `size`, the first and the last among them, in order."""
    return np.unique(np.linspace(0, size - 1, most).round().astype(int))
