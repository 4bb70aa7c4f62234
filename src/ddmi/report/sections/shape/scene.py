"""What the shape sections share: the run, and meshes and pictures of its fields and of its data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ddmi.domains.shape import Shape, ShapeDataset
from ddmi.field import Field
from ddmi.report import pictures, scene
from ddmi.report.playing import playing
from ddmi.report.scene import Kept
from ddmi.report.viewer import CAMERA

if TYPE_CHECKING:
    from PIL import Image as Pictures
    from trimesh import Trimesh

    from ddmi.evaluation import Evaluated

CELLS = 64
"""Cells along each axis of a shape that is shown among many."""
TURNED, FRAMES = 144, 18
"""Pixels a side and pictures of a turntable."""
PACE = 1000 / 110
"""Of these a second."""


class Solids(Kept):
    """Meshes and turning pictures of the first samples."""

    def __init__(self, evaluated: Evaluated) -> None:
        super().__init__(evaluated)
        self._meshes: dict[int, Trimesh] = {}
        self._turning: dict[int, str] = {}

    def mesh(self, sample: int) -> Trimesh:
        """The surface of a sample."""
        if sample not in self._meshes:
            self._meshes[sample] = self.evaluated.samples[sample].render(CELLS)
        return self._meshes[sample]

    def turning(self, sample: int, alt: str) -> str:
        """A picture of it that turns, and stands where the reader wants no motion."""
        from ddmi.rendering.shader import turntable

        if sample not in self._turning:
            views = turntable(self.mesh(sample), TURNED, FRAMES, fps=PACE)
            self._turning[sample] = playing(views, alt, pixels=False, quality=80)
        return self._turning[sample]


@dataclass(frozen=True)
class Scene(scene.Scene[Shape, ShapeDataset]):
    """An evaluated run of the shape domain, and the numbers of its page."""

    solids: Solids

    def true(self, index: int) -> Trimesh | None:
        """The mesh of a held-out shape, where its source has one."""
        return self.held_out.source.mesh(self.held_out.kept[index])

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out shapes in an order drawn by the seed."""
        return self.shuffled(len(self.held_out))

    @cached_property
    def first(self) -> tuple[str, int, Field]:
        """The first sample that has a surface, else sample 0; before stage 2, the first reconstruction."""
        if not self.samples:
            return "reconstruction", 0, self.evaluated.reconstruct(self.held_out, self.subjects[:1])[0]
        count = min(len(self.samples), 16)
        found = next((k for k in range(count) if len(self.solids.mesh(k).faces)), 0)
        return "sample", found, self.samples[found]


def still(mesh: Trimesh, size: int, *, ground: bool = True) -> Pictures.Image:
    """A picture of a mesh from where all of this page's are taken, with or without its shadow on the ground."""
    from ddmi.rendering.materials import CLAY  # one colour, also where the data has more: shapes are compared
    from ddmi.rendering.shader import shaded

    return shaded(mesh, size, azimuth=CAMERA["azimuth"], elevation=CAMERA["elevation"], colour=CLAY, ground=ground)


def figure(mesh: Trimesh, size: int, alt: str, caption: str = "", *, ground: bool = True) -> str:
    """The same as a figure; `caption` is HTML."""
    return pictures.figure(still(mesh, size, ground=ground), alt, caption, pixels=False)
