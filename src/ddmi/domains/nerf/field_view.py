"""A radiance field before a camera: images, turntables and meshes of it, rendered when they are asked for."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.domains.base import FieldLike
from ddmi.rendering.cameras import Camera
from ddmi.rendering.clip import Clip
from ddmi.rendering.files import save_object
from ddmi.rendering.volume import Occupancy, Quadrature, View, render_field

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

_FOUND: weakref.WeakKeyDictionary[FieldLike, Occupancy] = weakref.WeakKeyDictionary()


def occupancy(field: FieldLike) -> Occupancy:
    """Where a field is empty; found once for a field, and kept as long as the field is."""
    if field not in _FOUND:
        _FOUND[field] = Occupancy(field)
    return _FOUND[field]


class FieldView:
    """A field, a camera, and how finely rays are sampled.

    Args:
        field: (points (n, 3), periods, directions (n, 3)) -> (n, 4), colour in [0, 1] and density.
    """

    def __init__(self, field: FieldLike, camera: Camera, quadrature: Quadrature) -> None:
        self.field, self.camera, self.quadrature = field, camera, quadrature

    def seen(self, camera: Camera, *, normals: bool = False) -> View:
        """Colour, opacity, depth and maybe normals from any camera."""
        known = occupancy(self.field)  # which lies where the field is evaluated
        camera = camera.to(known.occupied.device)
        return render_field(self.field, camera, self.quadrature, occupancy=known, normals=normals)

    @cached_property
    def view(self) -> View:
        """What the camera sees."""
        return self.seen(self.camera)

    @property
    def image(self) -> Image.Image:
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
        """The object turning once, seen from the camera's height and distance; rendered when asked for."""
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
        """Write an image (.png, .jpg, .webp), a turntable (.mp4, .gif, ...) or a coloured mesh (.glb, .ply, .obj).

        Raises:
            UserError: the name has another ending. Empty: a mesh of a field without a surface.
            WorkError: the disk is full or the place cannot be written; what stood there is untouched.
        """
        save_object(self, lambda: self.mesh(max(self.camera.size)), path)


def straight(points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The direction of a ray from the front, for each point: densities do not depend on it."""
    return points.new_tensor([[0.0, 0.0, -1.0]]).expand(len(points), 3)


def turned(camera: Camera, angle: float) -> Camera:
    """The camera, moved around the y axis by an angle in radians."""
    sine, cosine = np.sin(angle), np.cos(angle)
    around = np.array([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1]])
    return replace(camera, pose=torch.from_numpy(around).to(camera.pose) @ camera.pose)


def _image(colour: Float[Tensor, "h w 3"]) -> Image.Image:
    from PIL import Image

    return Image.fromarray((255 * colour.clamp(0, 1)).round().to(torch.uint8).cpu().numpy())
