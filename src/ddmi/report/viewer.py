"""Meshes inside the page, turned by hand: packed for `viewer.js`, which draws them without a library or a network."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from ddmi.rendering.cameras import DISTANCE, EXTENT
from ddmi.rendering.materials import CLAY
from ddmi.report.page import script

if TYPE_CHECKING:
    from trimesh import Trimesh

SCRIPT = Path(__file__).with_name("viewer.js")

STEPS = 65_535
"""Steps along the longest side of a mesh: half of one is the largest error of a place."""
NARROW = 65_535
"""Vertices up to which a corner is two bytes; the last number of these means something else to WebGL."""
RAYS = 48
GROUND, SIDE, GROUND_RAYS = 64, 1.5, 160
"""Cells a side of the picture of the ground, half its side, and directions that its cells look in."""
CAMERA = {
    "azimuth": 35.0,
    "elevation": 20.0,
    "distance": DISTANCE,
    "opening": 2 * math.degrees(math.atan(EXTENT / DISTANCE)),
}
"""As that of shaded pictures: degrees, distance from the origin, and the angle of the shorter side of the view."""
COLOUR = tuple(round((value / 255) ** 2.2, 4) for value in CLAY)
"""Linear red, green, blue."""


@dataclass(frozen=True)
class Packed:
    """A mesh in a few bytes.

    `data` is, little-endian: x, y, z of each vertex as uint16, `low + unit * value`; padding to a multiple of 4; for
    each vertex its unit normal as 3 int8, of 127ths, and the share of the sky that it sees as uint8, of 255ths; where
    `coloured`, red, green, blue and 255 of each vertex as uint8; then the three corners of each face, as uint32 where
    `wide`, else as uint16.
    """

    vertices: int
    faces: int
    low: tuple[float, float, float]
    unit: float
    wide: bool
    coloured: bool
    data: bytes

    @property
    def plain(self) -> dict[str, Any]:
        """As the script reads it."""
        return {**vars(self), "data": base64.b64encode(self.data).decode()}


def pack(mesh: Trimesh) -> Packed:
    """The mesh, which has faces, with places rounded to 1/65535 of its longest side, and colours of vertices if any."""
    places, normals = np.asarray(mesh.vertices, float), np.asarray(mesh.vertex_normals, float)
    low = places.min(0)
    unit = max(float((places.max(0) - low).max()), 1e-9) / STEPS
    rounded = np.round((places - low) / unit).astype("<u2")
    sky = openness(mesh, places, normals)
    shade = np.empty((len(places), 4), np.uint8)
    shade[:, :3] = np.round(normals * 127).astype(np.int8).view(np.uint8)
    shade[:, 3] = np.round(sky * 255)
    wide = len(places) >= NARROW
    corners = np.asarray(mesh.faces).astype("<u4" if wide else "<u2").tobytes()
    front = rounded.tobytes()
    colours = painted(mesh)
    tints = b"" if colours is None else np.insert(colours, 3, 255, axis=1).tobytes()
    data = front + bytes(-len(front) % 4) + shade.tobytes() + tints + corners
    x, y, z = low.tolist()
    return Packed(len(places), len(mesh.faces), (x, y, z), unit, wide, colours is not None, data)


def painted(mesh: Trimesh) -> UInt8[np.ndarray, "n 3"] | None:
    """Red, green and blue of each vertex, as a screen shows them; None where the vertices have no colours."""
    visual: Any = mesh.visual
    return np.asarray(visual.vertex_colors, np.uint8)[:, :3] if visual.kind == "vertex" else None


def openness(
    mesh: Trimesh, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], rays: int = RAYS
) -> Float[np.ndarray, "n"]:
    """The share of the sky above each surface point, weighted by the cosine, that the mesh does not hide.

    The directions are the same for every point: a Fibonacci lattice on the sphere, of which the upper half counts.
    """
    k = np.arange(rays) + 0.5
    height, angle = 1 - 2 * k / rays, k * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1)
    weight = np.clip(normals @ directions.T, 0, None)  # (n, rays)
    point, direction = np.nonzero(weight > 0.05)
    origins = points[point] + 2e-3 * normals[point]
    hidden = mesh.ray.intersects_any(origins, directions[direction])
    seen = np.bincount(point, np.where(hidden, 0.0, weight[point, direction]), len(points))
    whole = np.bincount(point, weight[point, direction], len(points))
    return np.where(whole > 0, seen / np.maximum(whole, 1e-9), 1.0)


def ground(mesh: Trimesh) -> dict[str, Any]:
    """The shadow below a mesh: the share of the sky that the floor sees, as a small picture."""
    floor = float(mesh.bounds[0, 1])
    line = (2 * np.arange(GROUND) + 1) / GROUND - 1
    x, z = np.meshgrid(SIDE * line, SIDE * line)
    points = np.stack([x.ravel(), np.full(x.size, floor), z.ravel()], axis=1)
    sky = openness(mesh, points, np.tile([0.0, 1.0, 0.0], (len(points), 1)), GROUND_RAYS)
    data = base64.b64encode(np.round(sky * 255).astype(np.uint8).tobytes()).decode()
    return {"size": GROUND, "side": SIDE, "height": floor, "data": data}


def element(models: Sequence[tuple[str, Trimesh]], still: str, alt: str) -> str:
    """A stage with a button for each mesh. Colours of vertices are shown as they are, or clay in their place, lit.

    Args:
        models: the label of each button, which is HTML, and its mesh, which has faces; the last is shown first.
        still: an `img` that stands there where the script or WebGL is missing.
        alt: plain text for those who do not see it.
    """
    last = len(models) - 1
    packed = [pack(mesh) for _, mesh in models]
    told = {"models": [mesh.plain for mesh in packed], "ground": ground(models[last][1])}
    choices = "".join(
        f'<button type="button" data-model="{k}" aria-pressed="{str(k == last).lower()}">{label}</button>'
        for k, (label, _) in enumerate(models)
    )
    switches = {"flat": "flat faces", "lines": "edges", "turning": "turning"}
    if any(mesh.coloured for mesh in packed):
        switches = {"painted": "its own colours", **switches}
    toggles = "".join(
        f'<button type="button" data-toggle="{name}" aria-pressed="false">{label}</button>'
        for name, label in switches.items()
    )
    # A script element ends at the first "</": base64 has none, and no text of others is in here.
    return (
        f'<div class="viewer" data-camera=\'{json.dumps(CAMERA)}\' data-colour="{json.dumps(COLOUR)}">'
        f'<div class="scene">{still}<canvas tabindex="0" role="img" aria-label="{escape(alt)}"></canvas></div>'
        f'<div class="controls"><div class="choices">{choices}</div><div class="choices">{toggles}</div>'
        "<p>Drag to turn, wheel or pinch to come nearer, double click to start again; or the arrow keys, + and −.</p>"
        f'</div><script type="application/json">{json.dumps(told)}</script></div>' + script(SCRIPT)
    )
