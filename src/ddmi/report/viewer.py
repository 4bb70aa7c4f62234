"""Meshes inside the page, turned by hand: trimesh's three.js viewer in a frame of the page, without a network."""

from __future__ import annotations

import base64
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmi.base.errors import missing_extra
from ddmi.rendering.cameras import DISTANCE, EXTENT
from ddmi.rendering.materials import CLAY
from ddmi.rendering.mesh import simplified
from ddmi.report.content import Inline, Table
from ddmi.report.numbers import Numbers

if TYPE_CHECKING:
    from trimesh import Scene, Trimesh

FACES = 3_000
"""Faces of a mesh above which the viewer has a simplified one, where it is one of many."""
CLOSE_FACES = 20_000
"""The same of a mesh that is shown closely."""
AZIMUTH, ELEVATION = 35.0, 20.0
"""From where a mesh is seen at first, in degrees, as in shaded images."""
EXPOSURE = 0.6
"""Times the colours: the viewer's one light, beside the camera, is brighter than white."""
MESH = "@mesh@"
"""Stands in `document` for the base64 of a mesh."""


@functools.cache
def document() -> str:
    """trimesh's viewer, an HTML document, with MESH in the place of a mesh."""
    import trimesh
    from trimesh.viewer import scene_to_html

    scene = _scene(trimesh.creation.box())
    html = scene_to_html(scene)
    plain = base64.b64encode(scene.export(file_type="glb")).decode()
    assert html.count(plain) == 1, "the viewer of this version of trimesh holds its mesh in another way"
    return html.replace(plain, MESH)


def digest(mesh: str) -> str:
    """SHA-256 of the viewer's script with this encoded mesh, as a content security policy names it."""
    script = document().partition("<script>")[2].rpartition("</script>")[0].replace(MESH, mesh)
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def encoded(mesh: Trimesh) -> str:
    """A mesh in [-1, 1]^3 as base64 of a GLB file with a camera; its vertices' colours are shown, or clay."""

    def matte(tree: dict[str, Any]) -> None:
        (part,) = tree["meshes"][0]["primitives"]
        colour = np.ones(3) if "COLOR_0" in part["attributes"] else np.array(CLAY) / 255
        look = {"baseColorFactor": [*(EXPOSURE * colour).tolist(), 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
        tree["materials"], part["material"] = [{"pbrMetallicRoughness": look, "doubleSided": True}], 0

    shaded = mesh.smooth_shaded.copy()  # sharp edges stay sharp
    shaded.metadata = {}
    scene = _scene(shaded)
    return base64.b64encode(scene.export(file_type="glb", include_normals=True, tree_postprocessor=matte)).decode()


def lighter(mesh: Trimesh, faces: int = FACES) -> Trimesh:
    """The mesh, simplified where it is heavy; a vertex then has the colour of the nearest one that was there."""
    smaller = simplified(mesh, faces, quietly=True)
    visual: Any = mesh.visual
    if smaller is not mesh and visual.kind == "vertex":
        try:
            from scipy.spatial import cKDTree
        except ImportError as error:
            raise missing_extra("scipy", "mesh") from error
        _, nearest = cKDTree(np.asarray(mesh.vertices)).query(np.asarray(smaller.vertices))
        smaller.visual.vertex_colors = visual.vertex_colors[nearest]  # type: ignore[union-attr]
    return smaller


def meshed(
    numbers: Numbers, mesh_of: Callable[[int], Trimesh], grids: Sequence[int], asked: str
) -> tuple[list[tuple[int, Trimesh, Trimesh]], Table]:
    """Meshes on grids of so many cells along each axis, and a table of what each has cost.

    Args:
        mesh_of: gives the mesh of a number of cells. asked: what a mesh makes queries of.

    Returns:
        (cells, mesh, the mesh for the viewer) of those that have a face, and the table.
    """
    shown, rows = [], list[list[Inline]]()
    for cells in grids:
        at, began = f"report/meshes/{cells}", time.monotonic()
        mesh = mesh_of(cells)
        seconds, simple = round(time.monotonic() - began, 3), lighter(mesh, CLOSE_FACES)
        about = {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "queries": mesh.metadata.get("queries")}
        numbers.put(at, {**about, "seconds": seconds, "shown_faces": len(simple.faces)})
        forms = {**dict.fromkeys(about, ","), "seconds": ".2f", "shown_faces": ","}
        rows.append([f"{cells}³", *(numbers.show(f"{at}/{key}", form) for key, form in forms.items())])
        if len(mesh.faces):
            shown.append((cells, mesh, simple))
    head = ["grid", "vertices", "faces", f"queries of the {asked}", "time (s)", "faces in the viewer"]
    return shown, Table(head, rows)


def _scene(mesh: Trimesh) -> Scene:
    """The mesh before the camera of shaded images."""
    from trimesh.scene import Camera

    scene = mesh.scene()
    opening = 2 * float(np.degrees(np.arctan(EXTENT / DISTANCE)))
    scene.camera = Camera(name="camera", resolution=(512, 512), fov=(opening, opening))
    scene.set_camera(angles=np.radians((-ELEVATION, AZIMUTH, 0.0)), distance=DISTANCE, center=(0.0, 0.0, 0.0))
    return scene
