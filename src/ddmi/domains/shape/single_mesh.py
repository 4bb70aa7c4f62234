"""One mesh as a source of shapes."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import UserError
from ddmi.base.randomness import derive
from ddmi.data import solids
from ddmi.data.meshes import Rejected, normalised, placement, read
from ddmi.data.preparation import MOST_AMBIGUOUS
from ddmi.data.shapes import ShapeSource
from ddmi.data.stored import some

if TYPE_CHECKING:
    import trimesh

log = logging.getLogger(__name__)


class SingleMesh(ShapeSource):
    """A source of one shape: a mesh file, put into our frame; its points are sampled on demand.

    Of a mesh that is not closed all faces count as surface, with a warning: what is inside it is then a guess.

    `placement` is the matrix that took the file's coordinates into our frame.

    Raises:
        UserError: the file does not exist or no shape can be made of it; it is named, with the reason.
    """

    POOL = 30_000
    """Points of the surface that are sampled, once."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path} does not exist")
        raw = read(path)
        try:
            self._mesh, self.placement = normalised(raw), placement(raw)
        except Rejected as error:
            raise UserError(f"{path} cannot be used: {error}") from error
        self.names = [path.name]

    def surface(
        self, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """`count` of `POOL` points of the boundary, and their normals."""
        points, normals = self._pool
        chosen = some(len(points), count, rng)
        return points[chosen], normals[chosen]

    def queries(
        self, index: int, uniform: int, near: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
        """Fresh points; their winding numbers decide which are inside."""
        points = rng.uniform(-1, 1, (uniform, 3))
        if near:
            points = np.concatenate([points, solids.near(self._pool[0], near, rng)])
        points = points.astype(np.float32)
        return points, solids.enclosed(solids.winding(self._mesh, points))

    def mesh(self, index: int) -> trimesh.Trimesh:
        """The mesh in our frame."""
        return self._mesh

    @cached_property
    def _pool(self) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        from trimesh.sample import sample_surface

        rng = np.random.default_rng(derive("surface", self.names[0]))
        try:
            share = solids.ambiguous(solids.winding(self._mesh, rng.uniform(-1, 1, (5000, 3)))).mean()
            if share > MOST_AMBIGUOUS:
                raise Rejected(f"of {share:.1%} of the cube it is open whether they are inside")
            return solids.boundary(self._mesh, self.POOL, rng)
        except Rejected as error:
            log.warning("%s is not closed (%s): all its faces count as surface", self.names[0], error)
            points, face = sample_surface(self._mesh, self.POOL, seed=rng)
            normals = np.asarray(self._mesh.face_normals)[face]
            return np.asarray(points, np.float32), np.asarray(normals, np.float32)
