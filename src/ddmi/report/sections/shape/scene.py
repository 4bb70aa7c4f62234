"""What the shape sections share: the run, and meshes and pictures of its fields and of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ddmi.domains.shape import Shape, ShapeDataset
from ddmi.field import Field
from ddmi.randomness import generator
from ddmi.report import pictures
from ddmi.report.numbers import Numbers
from ddmi.report.sections.shape.turning import turning
from ddmi.report.viewer import CAMERA

if TYPE_CHECKING:
    from PIL import Image as Pictures
    from trimesh import Trimesh

    from ddmi.evaluation import Judged

CELLS = 64
"""Cells along each axis of a shape that is shown among many."""
TURNED, FRAMES = 144, 18
"""Pixels a side and pictures of a turntable."""


class Solids:
    """Meshes and turning pictures of the first samples: made once, though hero and sheet both show them."""

    _waiting: ClassVar[dict[int, Solids]] = {}

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        self._meshes: dict[int, Trimesh] = {}
        self._turning: dict[int, str] = {}

    @classmethod
    def of(cls, judged: Judged, *, last: bool = False) -> Solids:
        """Those of a run, kept from one part of the page to the next; `last` lets go of them."""
        found = cls._waiting.pop(id(judged), None) or cls(judged)  # it holds the run, so its id is no other's
        if not last:
            cls._waiting[id(judged)] = found
        return found

    def mesh(self, sample: int) -> Trimesh:
        """The surface of a sample."""
        if sample not in self._meshes:
            self._meshes[sample] = self.judged.samples[sample].render(CELLS)
        return self._meshes[sample]

    def turning(self, sample: int, alt: str) -> str:
        """A picture of it that turns, and stands where the reader wants no motion."""
        from ddmi.render.shading import turntable

        if sample not in self._turning:
            self._turning[sample] = turning(turntable(self.mesh(sample), TURNED, FRAMES), alt)
        return self._turning[sample]


@dataclass(frozen=True)
class Scene:
    """A judged run of the shape domain, and the numbers of its page."""

    judged: Judged
    numbers: Numbers
    solids: Solids

    @property
    def domain(self) -> Shape:
        """The run's domain."""
        return self.judged.pipe.config.domain  # type: ignore[return-value]

    @property
    def train(self) -> ShapeDataset:
        """The training shapes."""
        return self.judged.train  # type: ignore[return-value]

    @property
    def held_out(self) -> ShapeDataset:
        """The held-out shapes."""
        return self.judged.held_out  # type: ignore[return-value]

    @property
    def samples(self) -> Sequence[Field]:
        """The samples that were judged."""
        return self.judged.samples

    def name(self, index: int) -> str:
        """The caption of a held-out shape, else its name in its source."""
        caption = self.held_out.captions[index] if self.held_out.captions else ""
        return caption or self.held_out.names[index]

    def asked(self, sample: int) -> str:
        """What sample k was asked for, "" where nothing was."""
        if "label" in self.judged.asked:
            return self.train.classes[self.judged.asked["label"][sample]]
        return self.judged.asked["text"][sample] if "text" in self.judged.asked else ""

    def told(self, sample: int) -> str:
        """Which sample, and what it was asked for, in plain words."""
        return f"sample {sample}: {self.asked(sample)}".rstrip(": ")

    def settings(self) -> dict[str, Any]:
        """Arguments of the pipeline as the judged samples were drawn, but for what they were asked for."""
        protocol = self.judged.protocol
        kept = ("sampler", "steps", "guidance_scale", "tolerance")
        return {"seed": int(protocol["seed"]), **{name: protocol[name] for name in kept if name in protocol}}

    def true(self, index: int) -> Trimesh | None:
        """The mesh of a held-out shape, where its source has one."""
        make = getattr(self.held_out.source, "mesh", None)
        return None if make is None else make(self.held_out.kept[index])

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out shapes in an order drawn by the seed."""
        seed = int(self.judged.protocol["seed"])
        return torch.randperm(len(self.held_out), generator=generator(seed, "report")).tolist()

    @cached_property
    def first(self) -> tuple[str, int, Field]:
        """The first sample that has a surface, else sample 0; before stage 2, the first reconstruction."""
        if not self.samples:
            return "reconstruction", 0, self.judged.reconstruct(self.held_out, self.subjects[:1])[0]
        count = min(len(self.samples), 16)
        found = next((k for k in range(count) if len(self.solids.mesh(k).faces)), 0)
        return "sample", found, self.samples[found]


def still(mesh: Trimesh, size: int, *, ground: bool = True) -> Pictures.Image:
    """A picture of a mesh from where all of this page's are taken, with or without its shadow on the ground."""
    from ddmi.render.shading import (  # one colour, also where the data has more: shapes are what is compared
        CLAY,
        shaded,
    )

    return shaded(mesh, size, azimuth=CAMERA["azimuth"], elevation=CAMERA["elevation"], colour=CLAY, ground=ground)


def figure(mesh: Trimesh, size: int, alt: str, caption: str = "", *, ground: bool = True) -> str:
    """The same as a figure; `caption` is HTML."""
    return pictures.figure(still(mesh, size, ground=ground), alt, caption, pixels=False)
