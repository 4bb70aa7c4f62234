"""Procedural furniture: pieces of six kinds with exact occupancy, exact captions and coloured parts, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.randomness import derive
from ddmi.data.furniture.parts import COLOURS, Part
from ddmi.data.furniture.pieces import GENERATORS, Piece, make
from ddmi.data.furniture.words import captions, prompts
from ddmi.data.shapes import ShapeSource

if TYPE_CHECKING:
    import trimesh

__all__ = ["Furniture", "piece", "prompts"]

VERSION = 1
"""Part of every seed: goes up when the same seed gives other pieces."""

NEAR = (0.02, 0.08)
"""Standard deviations of the queries near the surface, half of them each."""


def piece(seed: int, index: int) -> Piece:
    """Piece `index` of the set with this seed, whatever the size of the set."""
    return make(np.random.default_rng(derive("furniture", VERSION, seed, index)))


class Furniture(ShapeSource):
    """Chairs, stools, tables, benches, shelves and lamps: y up, z towards the viewer, the box centred, its longest side
    2 / 1.1. Piece k depends on the seed and on k alone.

    Args:
        count: how many pieces.
        seed: another seed, other pieces.

    Raises:
        UserError: count is not positive.
    """

    def __init__(self, count: int = 6000, seed: int = 0):
        if count < 1:
            raise UserError(f"furniture: count must be 1 or more, not {count}")
        self.count, self.seed = count, seed
        self.pieces = [piece(seed, index) for index in range(count)]
        self.names = [f"{made.kind}-{index:06d}" for index, made in enumerate(self.pieces)]
        self.captions = [captions(made.kind, made.traits) for made in self.pieces]
        self.classes = sorted(GENERATORS)
        self.labels = [self.classes.index(made.kind) for made in self.pieces]

    def __reduce__(self) -> tuple[type[Furniture], tuple[int, int]]:
        return Furniture, (self.count, self.seed)  # a copy in another process makes the same pieces

    def surface(
        self, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points on the surface, uniform by area, and outward unit normals; float32, in [-1, 1]."""
        return self.pieces[index].solid.surface(count, rng)

    def occupancy(self, index: int, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points are inside: exact, the surface counts as inside."""
        return self.pieces[index].solid.inside(points)

    def queries(
        self, index: int, uniform: int, near: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
        """`uniform` points of the cube [-1, 1]^3, then `near` points close to the surface; and which are inside.

        Near points are surface points plus isotropic Gaussian noise of the `NEAR` deviations, clipped to the cube.
        """
        anywhere = rng.random((uniform, 3), np.float32) * 2 - 1
        close, _ = self.surface(index, near, rng)
        noise = rng.standard_normal((near, 3), np.float32)
        noise[: near // 2] *= NEAR[0]
        noise[near // 2 :] *= NEAR[1]
        points = np.concatenate([anywhere, np.clip(close + noise, -1, 1)])
        return points, self.occupancy(index, points)

    def voxels(self, index: int, size: int = 32) -> Bool[np.ndarray, "n n n"]:
        """Which cell centres are inside: exact."""
        return self.pieces[index].solid.grid(size)

    def colours(self, index: int, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """RGB in [0, 1] of points on the surface: the colour of the part that they lie on."""
        solid = self.pieces[index].solid
        palette = np.array([COLOURS[part.colour] for part in solid.parts], np.float32)
        return palette[solid.owner(points)]

    def mesh(self, index: int) -> trimesh.Trimesh:
        """The parts as closed meshes side by side (touching faces stay), with their colours; for images and files.

        Raises:
            MissingPackage: trimesh is not installed.
        """
        try:
            import trimesh
        except ImportError:
            raise missing_extra("trimesh", "mesh") from None
        found = trimesh.util.concatenate([_part_mesh(part) for part in self.pieces[index].parts])
        assert isinstance(found, trimesh.Trimesh)
        return found


def _part_mesh(part: Part) -> trimesh.Trimesh:
    import trimesh

    low, high = np.array(part.low), np.array(part.high)
    middle, half = (low + high) / 2, (high - low) / 2
    if part.round:
        line = [(0, -half[1]), (half[0], -half[1]), (half[0] * part.taper, half[1]), (0, half[1])]
        mesh = trimesh.creation.revolve(line, sections=48)  # about z
        mesh.vertices = mesh.vertices[:, [0, 2, 1]] * (1, 1, -1) + middle
    else:
        mesh = trimesh.creation.box(bounds=[low, high])
    colour = np.array([*(round(255 * value) for value in COLOURS[part.colour]), 255], np.uint8)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=np.tile(colour, (len(mesh.faces), 1)))
    return mesh
