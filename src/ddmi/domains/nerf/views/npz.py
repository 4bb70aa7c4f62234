"""The layout of npz files, one an object, as Points2NeRF has them (Zimny et al. 2022).

`images` (n, h, w, c) uint8, or numbers in [0, 1]; `cam_poses` (n, 4, 4), camera-to-world, axes of OpenGL; `data`
(m, 6), coloured points; `focal` in pixels, else a field of view of 0.6911112 rad. z points up, and the box is
[-1.1, 1.1]^3: shapes of diagonal 1, enlarged by 2.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ddmi.base.errors import UserError
from ddmi.domains.nerf.views.contents import arrays, has, header
from ddmi.domains.nerf.views.facts import Facts
from ddmi.domains.nerf.views.pixels import Pixels
from ddmi.domains.nerf.views.scene import Raw, Scene, enough, upright, views_of

RADIUS = 1.1
"""Half the side of the box in the units of the poses, where nothing else is told."""
FIELD = 0.6911112
"""Radians: the horizontal field of view of files without `focal`."""
ENLARGED = 2.2
"""The coloured points may be those of the shape before it was enlarged so, and y up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Archive(Scene):
    """A scene whose pictures and points are arrays of one file."""

    def pixels(self, view: int) -> Pixels:
        return _images(self.place)[view]

    def points(self, path: Path) -> Raw:
        data = arrays(path, "data")["data"]
        colours = data[:, 3:].astype(np.float64)
        colours = colours * 255 if colours.max(initial=0) <= 1.001 else colours
        return enough(path, data[:, :3]), np.clip(colours.round(), 0, 255).astype(np.uint8)


@lru_cache(maxsize=2)
def _images(path: Path) -> UInt8[np.ndarray, "n h w c"]:
    """All pictures of a file; numbers become 8 bits."""
    images = arrays(path, "images")["images"]
    if images.dtype != np.uint8:
        scaled = images.astype(np.float32)
        if not np.isfinite(scaled).all() or scaled.min() < -0.01 or scaled.max() > 1.01:
            raise UserError(f"{path}: `images` that are not of 8 bits must lie in [0, 1]")
        images = np.clip(255 * scaled, 0, 255).round().astype(np.uint8)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def read(path: Path, facts: Facts) -> Archive:
    """The object in a file.

    Raises:
        UserError: the file is damaged, or its arrays do not go together; the file is named.
    """
    shape, kind = header(path, "images")
    if len(shape) != 4 or shape[3] not in (1, 3, 4) or kind.kind not in "fu" or 0 in shape:
        raise UserError(f"{path}: `images` must be (n, h, w, 3), 8 bits or numbers in [0, 1], not {kind} {shape}")
    poses = arrays(path, "cam_poses")["cam_poses"]
    if poses.shape != (shape[0], 4, 4) or poses.dtype.kind != "f":
        raise UserError(f"{path}: {shape[0]} `images` go with `cam_poses` ({shape[0]}, 4, 4), not {poses.shape}")
    poses = np.stack([upright(path, f"pose {number}", pose) for number, pose in enumerate(poses.astype(np.float64))])
    focal: Any = shape[2] / 2 / math.tan(FIELD / 2)
    if has(path, "focal"):
        focal = arrays(path, "focal")["focal"].squeeze()
        if focal.shape not in ((), (shape[0],)) or not np.isfinite(focal).all() or (focal <= 0).any():
            raise UserError(f"{path}: `focal` must be one positive number of pixels, or one a view")
    data = has(path, "data")
    if data:
        points, kind = header(path, "data")
        if len(points) != 2 or points[1] != 6 or kind.kind not in "fiu":
            raise UserError(f"{path}: `data` must be (n, 6), coloured points, not {kind} {points}")
    return Archive(
        place=path,
        cloud=path if data else None,
        views=views_of(poses, focal, (shape[2] / 2, shape[1] / 2), (shape[1], shape[2])),
        up=facts.up,
        radius=facts.radius or RADIUS,
        centre=facts.centre or (0.0, 0.0, 0.0),
        loose=True,
    )
