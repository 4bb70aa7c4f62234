"""A radiance field before a camera: pictures, turntables and meshes of it, drawn when they are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.domains.base import FieldLike
from ddmi.rendering.cameras import Camera
from ddmi.rendering.clip import Clip, tiled
from ddmi.rendering.grid import contact_sheet, save_image
from ddmi.rendering.volume import Occupancy, Quadrature, View, picture

if TYPE_CHECKING:
    from PIL import Image
    from trimesh import Trimesh

CAMERA = (35.0, 20.0)
"""Azimuth and elevation of the usual camera, in degrees."""
TURN = 48
"""Views of a turntable."""
SECONDS = 4.0
"""What a whole turn takes."""
SURFACE = 10.0
"""Density at which a mesh has its surface: a tenth of a unit behind it light is down to a third."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MOVIES = (".mp4", ".webm", ".gif", ".frames")
MESHES = (".glb", ".ply", ".obj")

_FOUND: weakref.WeakKeyDictionary[FieldLike, Occupancy] = weakref.WeakKeyDictionary()


def occupancy(field: FieldLike) -> Occupancy:
    """Where a field is empty; found once for a field, and kept as long as the field is."""
    if field not in _FOUND:
        _FOUND[field] = Occupancy(field)
    return _FOUND[field]


class Shot:
    """A field, a camera, and how finely rays are sampled.

    Args:
        field: (points (n, 3), periods, directions (n, 3)) -> (n, 4), colour in [0, 1] and density.
    """

    def __init__(self, field: FieldLike, camera: Camera, quadrature: Quadrature) -> None:
        self.field, self.camera, self.quadrature = field, camera, quadrature

    def seen(self, camera: Camera, *, normals: bool = False) -> View:
        """Colour, opacity, depth and maybe normals from any camera."""
        device = getattr(self.field, "device", torch.device("cpu"))
        return picture(self.field, camera.to(device), self.quadrature, occupancy=occupancy(self.field), normals=normals)

    @cached_property
    def view(self) -> View:
        """What the camera sees."""
        return self.seen(self.camera)

    @property
    def picture(self) -> Image.Image:
        """The colours."""
        return _image(self.view.colour)

    @property
    def depth(self) -> Image.Image:
        """Distance from the camera, the nearest point dark and the farthest light; white where nothing is."""
        there = self.view.opacity > 0.5
        depth = self.view.depth
        if not bool(there.any()):
            return _image(torch.ones(*depth.shape, 3))
        low, high = depth[there].min(), depth[there].max()
        shade = 0.1 + 0.75 * (depth - low) / (high - low).clamp(min=1e-6)
        return _image(torch.where(there, shade, 1.0)[..., None].expand(-1, -1, 3))

    @property
    def normals(self) -> Image.Image:
        """Directions of the surface as colours: (n + 1) / 2."""
        view = self.seen(self.camera, normals=True)
        assert view.normals is not None
        there = (view.opacity > 0.5)[..., None]
        return _image(torch.where(there, (view.normals + 1) / 2, 1.0))

    def turntable(self, count: int = TURN, fps: float | None = None) -> Clip:
        """The object turning once, seen from the camera's height and distance. Its frames are drawn when asked for."""
        height, width = self.camera.size
        step = 2 * torch.pi / count

        def frame(k: int) -> UInt8[np.ndarray, "h w 3"]:
            return np.asarray(_image(self.seen(turned(self.camera, k * step)).colour))

        return Clip(frame, count, (height, width), fps or count / SECONDS)

    def mesh(self, cells: int = 128, level: float = SURFACE) -> Trimesh:
        """The surface where the density passes a level, with the colours that it has from straight above it."""
        from ddmi.rendering.mesh import iso_surface

        def density(points: Tensor) -> Tensor:
            return self.field(points, None, straight(points))[:, 3]

        mesh = iso_surface(density, cells, level=level)
        if len(mesh.faces):
            points = torch.from_numpy(np.array(mesh.vertices, np.float32))
            inwards = -torch.from_numpy(np.array(mesh.vertex_normals, np.float32))
            colours = self.field(points, None, inwards)[:, :3].clamp(0, 1)
            mesh.visual.vertex_colors = (255 * colours).round().to(torch.uint8).cpu().numpy()  # type: ignore[union-attr]
        return mesh

    def save(self, path: str | Path) -> None:
        """Write a picture, a turntable or a mesh, as the ending of the name says."""
        write_shots([self], path)


def straight(points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The direction of a ray from the front, for each point: densities do not depend on it."""
    return points.new_tensor([[0.0, 0.0, -1.0]]).expand(len(points), 3)


def turned(camera: Camera, angle: float) -> Camera:
    """The camera, moved around the y axis by an angle in radians."""
    sine, cosine = np.sin(angle), np.cos(angle)
    around = np.array([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1]])
    return replace(camera, pose=torch.from_numpy(around).to(camera.pose) @ camera.pose)


def check_shot(ending: str) -> None:
    """Raise the UserError that writing a file of this ending would, before any work."""
    if ending in MOVIES:
        from ddmi.rendering.movie import check_ending

        check_ending(ending)
    elif ending not in (*PICTURES, *MESHES):
        known = ", ".join((*PICTURES, *MOVIES, *MESHES))
        raise UserError(f"a radiance field is written as {known}, not {ending or 'without an ending'}")


def write_shots(shots: Sequence[Shot], path: str | Path, columns: int = 0) -> None:
    """One as a picture, a turntable or a mesh; several side by side as a picture or as turntables."""
    path = Path(path)
    ending = path.suffix.lower()
    check_shot(ending)
    if ending in PICTURES:
        pictures = [shot.picture for shot in shots]
        save_image(contact_sheet(pictures, columns) if len(shots) > 1 else pictures[0], path)
    elif ending in MOVIES:
        from ddmi.rendering.movie import write

        turning = [shot.turntable() for shot in shots]
        write(tiled(turning, columns) if len(turning) > 1 else turning[0], path)
    elif len(shots) > 1:
        raise UserError(f"{path}: several objects are one file as a picture or a turntable alone")
    else:
        from ddmi.rendering.mesh import write_mesh

        write_mesh(shots[0].mesh(max(shots[0].camera.size)), path)


def _image(colour: Float[Tensor, "h w 3"]) -> Image.Image:
    from PIL import Image

    return Image.fromarray((255 * colour.clamp(0, 1)).round().to(torch.uint8).cpu().numpy())
