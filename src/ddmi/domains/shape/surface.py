"""The rendering of a shape: its surface, as a mesh that can be saved."""

from __future__ import annotations

from pathlib import Path

from ddmi.base.errors import missing_extra
from ddmi.rendering import files
from ddmi.rendering.clip import Clip

try:
    from PIL import Image
    from trimesh import Trimesh
except ImportError as error:
    raise missing_extra("trimesh", "mesh") from error


class Surface(Trimesh):
    """A mesh of trimesh with outward normals; without faces where nothing is inside."""

    @classmethod
    def of(cls, mesh: Trimesh) -> Surface:
        """A mesh as a surface."""
        return cls(mesh.vertices, mesh.faces, process=False, metadata=mesh.metadata)

    @property
    def image(self) -> Image.Image:
        """The surface seen from the usual camera."""
        from ddmi.rendering.shader import shaded

        return shaded(self)

    def turntable(self) -> Clip:
        """The surface turning once. Its frames are computed when asked for."""
        from ddmi.rendering.shader import turntable

        return turntable(self)

    def save(self, path: str | Path) -> None:
        """Write the mesh (.glb, .ply, .obj, .stl), an image of it (.png, .jpg, .webp) or a turntable (.gif, .mp4, ...).

        Raises:
            UserError: the name has another ending. Empty: a mesh file of a surface without faces.
            WorkError: the disk is full or the place cannot be written; what stood there is untouched.
        """
        files.save_object(self, lambda: self, path)
