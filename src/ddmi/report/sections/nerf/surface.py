"""One sample as a coloured mesh, turned by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ddmi.base.errors import missing_extra
from ddmi.domains.nerf.shot import SURFACE
from ddmi.rendering.mesh import simplified
from ddmi.report import pictures, viewer
from ddmi.report.page import Section, table
from ddmi.report.sections.nerf.scene import FAST, Scene

if TYPE_CHECKING:
    from trimesh import Trimesh

CELLS = (64, 128)
FACES = 40_000
"""Faces of a mesh above which the viewer has a simplified one."""
STAGE = 256
PLACE = "report/meshes"


def section(scene: Scene) -> Section:
    """The viewer, with what each mesh has cost."""
    which, field = scene.first
    numbers, seen = scene.numbers, (viewer.CAMERA["azimuth"], viewer.CAMERA["elevation"])
    shot = field.render(STAGE, view=seen, **FAST)
    models, rows = [], []
    for cells in CELLS:
        began, at = time.monotonic(), f"{PLACE}/{cells}"
        mesh = shot.mesh(cells)
        seconds = round(time.monotonic() - began, 3)
        shown = lighter(mesh)
        about = {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "queries": mesh.metadata.get("queries")}
        numbers.put(at, {**about, "seconds": seconds, "shown_faces": len(shown.faces)})
        if not len(shown.faces):
            continue
        models.append((f"<b>{cells}³</b> {numbers.show(f'{at}/faces', ',')} faces", shown))
        forms = {"vertices": ",", "faces": ",", "queries": ",", "seconds": ".2f", "shown_faces": ","}
        rows.append([f"{cells}³", *(numbers.show(f"{at}/{name}", form) for name, form in forms.items())])
    title, short = "Its surface, to turn by hand", "Surface"
    named = f"{which[0].upper()}{which[1:]}"
    if not models:
        return Section("surface", title, f"{named}: nowhere is its density above {SURFACE:g}.", "", short)
    head = ["grid", "vertices", "faces", "queries of the density", "seconds", "faces in the viewer"]
    lead = (
        f"{named}: the surface where its density passes {SURFACE:g}, in the colours that the function has for a look "
        "from straight above each place. A radiance field has no surface of its own: what is thin or misty in the "
        f"pictures may be missing here. Above {FACES:,} faces the viewer has a simplified mesh."
    )
    still = pictures.image(shot.image, which, pixels=False)
    body = viewer.element(models, still, f"{which}, a coloured mesh that can be turned") + table(head, rows)
    return Section("surface", title, lead, body, short)


def lighter(mesh: Trimesh) -> Trimesh:
    """The mesh, simplified where it is heavy; a vertex has the colour of the nearest one that was there."""
    smaller = simplified(mesh, FACES, quietly=True)
    colours = viewer.painted(mesh)
    if smaller is not mesh and colours is not None:
        try:
            from scipy.spatial import cKDTree
        except ImportError as error:
            raise missing_extra("scipy", "mesh") from error
        _, nearest = cKDTree(np.asarray(mesh.vertices)).query(np.asarray(smaller.vertices))
        smaller.visual.vertex_colors = colours[nearest]  # type: ignore[union-attr]
    return smaller
