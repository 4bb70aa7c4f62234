"""What the report of shapes shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ddmi.base.coordinates import grid
from ddmi.domains.nerf.camera_images import of_cloud
from ddmi.field import Field
from ddmi.metrics.volumes import iou
from ddmi.rendering.cameras import Camera
from ddmi.report import viewer
from ddmi.report.content import Block, Figure, Inline, Pair, Row, Section, Table, figure
from ddmi.report.scene import Scene, makers
from ddmi.report.words import words

if TYPE_CHECKING:
    from trimesh import Trimesh

CELLS, SIDE = 64, 192
"""Cells along each axis of a shape among many, and pixels a side of its image."""
TURNED, FRAMES, PACE = 144, 18, 9.0
"""Pixels a side and frames of a turntable, and frames a second."""
GRIDS, CLOSE = (32, 64, 256), 320
"""Grids of the shape that is shown closely, and pixels a side of its image."""
RECONSTRUCTED, QUERIES = 6, 20_000
COMPARED = 32
"""Cells along each axis at which parts are compared with the whole."""
DARK = -0.45
"""Red, green and blue in [-1, 1] of the points of a cloud."""


class Report(Scene):
    """A run of the shape domain."""

    def show(self, field: Field, alt: str, caption: Inline = "") -> Figure:
        return still(field.render(CELLS), alt, caption)

    def moving(self, field: Field, alt: str, caption: Inline) -> Figure:
        from ddmi.rendering.shader import turntable

        mesh = field.render(CELLS)
        clip = turntable(mesh, TURNED, FRAMES, fps=PACE)
        return figure(clip, alt, caption, pixels=False, mesh=viewer.lighter(mesh))

    def sections(self) -> Iterator[Section | None]:
        if self.domain.source != "folder":
            self.own_prompts = (
                "a chair with four legs and arm rests",
                "a table with three legs",
                "a round table on one leg",
            )
        if self.samples:
            yield self.samples_section(threshold=self.domain.threshold, cells=CELLS)
        if self.anything:
            yield self.closely()
        if self.samples:
            yield self.prompts_section()
            yield self.attributes()
        if self.subjects:
            yield self.reconstructions()
        if self.anything:
            yield self.basis_section()

    def closely(self) -> Section:
        """The first field that has a surface, meshed on three grids, with what each mesh has cost."""
        fields = self.first(self.sheet if self.samples else 1)
        chosen = next((k for k, field in enumerate(fields) if len(field.render(CELLS).faces)), 0)
        which, field = f"Sample {chosen}" if self.samples else self.which, fields[chosen]
        meshes, table = viewer.meshed(self.numbers, field.render, GRIDS, "function")
        shown = [still(mesh, f"{which} on a grid of {n}³", f"{n}³", CLOSE, lighter) for n, mesh, lighter in meshes]
        blocks: list[Block] = [Row(shown, len(shown)), table] if shown else []
        empty = "" if shown else " Nothing is above the threshold."
        return self.section("closely", blocks, which=which, empty=empty)

    def attributes(self) -> Section | None:
        """The share of samples that have the attribute that their prompt names; None where it was not measured."""
        found = self.numbers.get("attributes") or {}
        measured = [name for name, part in found.items() if isinstance(part, dict) and "share" in part]
        if not measured:
            return None
        keys = ("share", "chance", "test")
        rows: list[list[Inline]] = [
            [words(n), *(self.numbers.show(f"attributes/{n}/{key}", ".0%") for key in keys)] for n in measured
        ]
        table = Table(["attribute", "share of samples", "chance", "the test itself"], rows)
        return self.section("attributes", [table])

    def reconstructions(self) -> Section:
        """Cloud, truth where the data has a mesh of it, reconstruction, and the IoU of the two."""
        indices = self.subjects[: min(RECONSTRUCTED, len(self.subjects) // 2 * 2 or 1)]
        rows = []
        for k, (index, field) in enumerate(
            zip(indices, self.evaluated.reconstruct(self.held_out, indices), strict=True)
        ):
            name, at = self.name(self.held_out, index), f"report/reconstructions/{k}"
            points, inside = self.held_out.queries(index, QUERIES, QUERIES, index)  # as the mean over all has it
            filled = field(points).cpu()[:, 0] > self.domain.level
            overlap = float(iou(filled, inside[:, 0] > 0.5))
            self.numbers.put(at, {"shape": self.held_out.names[index], "iou": overlap})
            shown = [cloud(self.held_out.inputs([index])[0], f"{name}, input points")]
            true = self.held_out.source.mesh(self.held_out.kept[index])
            if true is not None:
                shown.append(still(true, f"{name}, the true shape", "truth"))
            caption = ("ours, IoU ", self.numbers.show(f"{at}/iou", ".3f"))
            shown.append(still(field.render(CELLS), f"{name}, reconstruction", caption))
            rows.append(Row(shown, len(shown), name))
        counts = {"cloud": self.domain.cloud, "cells": CELLS, "queries": QUERIES}
        return self.section("reconstructions", [Pair(rows)], **counts)

    def part(self, field: Field, whole: Field, place: str, alt: str, name: str) -> Figure:
        at, level = grid((COMPARED,) * 3), self.domain.level
        self.numbers.put(f"{place}/iou", float(iou((field(at)[:, 0] > level).cpu(), (whole(at)[:, 0] > level).cpu())))
        return self.show(field, alt, (f"{name}: IoU ", self.numbers.show(f"{place}/iou", ".2f")))

    def credits(self) -> list[str]:
        root = self.held_out.source.root
        return [] if root is None else makers(root)


def still(mesh: Trimesh, alt: str, caption: Inline, side: int = SIDE, lighter: Trimesh | None = None) -> Figure:
    """A mesh, shaded in one colour: shapes are what is compared."""
    from ddmi.rendering.materials import CLAY
    from ddmi.rendering.shader import shaded

    image = shaded(mesh, side, azimuth=viewer.AZIMUTH, elevation=viewer.ELEVATION, colour=CLAY)
    return figure(image, alt, caption, pixels=False, mesh=viewer.lighter(mesh) if lighter is None else lighter)


def cloud(points: torch.Tensor, alt: str) -> Figure:
    """Points from where meshes are seen."""
    from PIL import Image

    camera = Camera.orbit(viewer.AZIMUTH, viewer.ELEVATION, size=SIDE)
    coloured = torch.cat([points[:, :3], torch.full((len(points), 3), DARK)], dim=1)
    return figure(Image.fromarray(of_cloud(coloured, camera, 1.0)), alt, "input", pixels=False)
