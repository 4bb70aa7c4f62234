"""The shapes that metrics look at, as voxels and as clouds of their surfaces: each made once, when first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ddmi.base.randomness import derive
from ddmi.domains.base import Evidence, FieldLike
from ddmi.domains.shape.dataset import ShapeDataset

if TYPE_CHECKING:
    from trimesh import Trimesh

    from ddmi.domains.shape import Shape

CELLS = 32
"""Voxels along each axis."""
CLOUD = 2048
"""Points of a surface (section 4.2)."""
MESH = 64
"""Cells along each axis of the meshes that surfaces are taken from."""


def occupied(field: FieldLike, size: int, level: float) -> Bool[np.ndarray, "n n n"]:
    """Which cell centres of a size^3 grid over the cube are inside; array order (z, y, x)."""
    from ddmi.rendering.mesh import inside

    return inside(lambda points: field(points)[:, 0], size, level=level)


def surface(mesh: Trimesh, count: int, seed: int) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
    """Points of a mesh, uniform by area, and its normals there; None for a mesh without faces."""
    import trimesh

    if not len(mesh.faces):
        return None
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    normals = mesh.face_normals[faces]
    return torch.from_numpy(np.asarray(points)).float(), torch.from_numpy(np.array(normals)).float()


class Solids:
    """What one piece of evidence shows."""

    def __init__(self, domain: Shape, evidence: Evidence) -> None:
        self.domain, self.evidence = domain, evidence
        self.train: ShapeDataset = evidence.train  # type: ignore[assignment]
        self.held_out: ShapeDataset = evidence.held_out  # type: ignore[assignment]

    @cached_property
    def sampled_voxels(self) -> Bool[np.ndarray, "s n n n"]:
        """Voxels of every sample."""
        found = [occupied(field, CELLS, self.domain.level) for field in self.evidence.samples]
        return np.stack(found) if found else np.zeros((0, CELLS, CELLS, CELLS), bool)

    def sampled_clouds(self, count: int) -> list[Float[Tensor, "n 3"]]:
        """Surface points of those of the first samples that have a surface."""
        found = []
        for k, field in enumerate(self.evidence.samples[:count]):
            points = surface(self.domain.render(field, MESH), CLOUD, derive(self.evidence.seed, "surface", k) % 2**32)
            if points is not None:
                found.append(points[0])
        return found

    def voxels(self, dataset: ShapeDataset, indices: Sequence[int]) -> Bool[np.ndarray, "s n n n"]:
        """Voxels of items of the data."""
        found = []
        for i in indices:
            solid = dataset.source.voxels(dataset.kept[i], CELLS)
            found.append(solid[:, :, ::-1] if i >= dataset.straight else solid)
        return np.stack(found)

    def clouds(self, dataset: ShapeDataset, indices: Sequence[int]) -> list[Float[Tensor, "n 3"]]:
        """Surface points of items of the data, without noise."""
        return [dataset.surface(i, CLOUD)[0] for i in indices]
