"""One sample up close: a mesh to turn by hand, and the same function meshed on three grids."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ddmi.rendering.mesh import EMPTY
from ddmi.report import pictures, viewer
from ddmi.report.page import Section, table
from ddmi.report.sections.shape.scene import Scene, figure, still

if TYPE_CHECKING:
    from trimesh import Trimesh

SIZES = (32, 64, 256)
FACES = 40_000
"""Faces of a mesh above which the viewer has a simplified one."""
STAGE, SIDE = 512, 320
NEARER = 4.0


@dataclass(frozen=True)
class Meshed:
    """A function's surface on one grid, and the same with no more faces than the viewer takes."""

    size: int
    mesh: Trimesh
    shown: Trimesh

    @property
    def at(self) -> str:
        """Where its numbers stand."""
        return f"report/meshes/{self.size}"


def sections(scene: Scene) -> list[Section]:
    """The viewer, then the stills."""
    kind, number, field = scene.first
    found = []
    field.render(SIZES[0])  # what is prepared at the first call is no time of meshing
    for size in SIZES:
        began = time.monotonic()
        mesh = field.render(size)
        about = {
            "seconds": round(time.monotonic() - began, 3),
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
        }
        meshed = Meshed(size, mesh, lighter(mesh))
        scene.numbers.put(
            meshed.at, {**about, "queries": mesh.metadata.get("queries"), "shown_faces": len(meshed.shown.faces)}
        )
        found.append(meshed)
    full = [meshed for meshed in found if len(meshed.shown.faces)]
    which = f"{kind} {number}"
    if not scene.samples:
        which = f"the reconstruction of “{scene.name(scene.held_out, scene.subjects[0])}”"
    return [closely(scene, full, which), *([stills(full, which)] if len(full) > 1 else [])]


def closely(scene: Scene, found: list[Meshed], which: str) -> Section:
    """The viewer, with what each mesh has cost."""
    title, short = "One sample, up close" if scene.samples else "One shape, up close", "Up close"
    if not found:
        return Section("closely", title, f"{which[0].upper()}{which[1:]}: {EMPTY}.", "", short)
    numbers = scene.numbers
    models = []
    rows = []
    for meshed in found:
        models.append((f"<b>{meshed.size}³</b> {numbers.show(f'{meshed.at}/faces', ',')} faces", meshed.shown))
        shown = numbers.show(f"{meshed.at}/shown_faces", ",")
        rows.append(
            [
                f"{meshed.size}³",
                *(numbers.show(f"{meshed.at}/{name}", ",") for name in ("vertices", "faces", "queries")),
                numbers.show(f"{meshed.at}/seconds", ".2f"),
                shown,
            ]
        )
    alt = f"{which}, a mesh that can be turned"
    first = pictures.image(still(found[-1].shown, STAGE), which, pixels=False)
    head = ["grid", "vertices", "faces", "queries of the function", "seconds", "faces in the viewer"]
    lead = (
        f"The surface of {which}, taken from the same function on coarser and finer grids. Only points near the "
        f"surface are asked on the finer ones; above {FACES:,} faces the viewer has a simplified mesh."
    )
    return Section("closely", title, lead, viewer.element(models, first, alt) + table(head, rows), short)


def stills(found: list[Meshed], which: str) -> Section:
    """Whole, and the corner that is nearest to the eye."""
    corner = nearest(found[-1].mesh)
    whole = [figure(m.mesh, SIDE, f"{which} on a grid of {m.size}³", f"<b>{m.size}³</b>") for m in found]
    near = [
        figure(enlarged(m.mesh, corner), SIDE, f"{which} on a grid of {m.size}³, a corner", ground=False) for m in found
    ]
    lead = (
        f"{which[0].upper()}{which[1:]} on grids of {', '.join(f'{m.size}³' for m in found)}; below, the corner "
        f"nearest to the eye, {NEARER:g} times larger. The function is the same: a finer grid asks it at more points."
    )
    body = pictures.row(whole, len(found), "wide") + pictures.row(near, len(found), "wide")
    return Section("meshes", "One function on every grid", lead, body, "Grids")


def lighter(mesh: Trimesh) -> Trimesh:
    """The mesh, simplified where it is heavy."""
    from ddmi.rendering.mesh import simplified

    return simplified(mesh, FACES, quietly=True)


def nearest(mesh: Trimesh) -> Float[np.ndarray, "3"]:
    """The vertex that lies farthest towards the eye: nothing is in front of it."""
    a, e = (math.radians(viewer.CAMERA[name]) for name in ("azimuth", "elevation"))
    towards = np.array([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])
    places = np.asarray(mesh.vertices)
    return places[int((places @ towards).argmax())]


def enlarged(mesh: Trimesh, centre: Float[np.ndarray, "3"]) -> Trimesh:
    """The mesh, enlarged, with a point of it in the middle of the picture."""
    found = mesh.copy()
    found.vertices = (np.asarray(mesh.vertices) - centre) * NEARER
    return found
