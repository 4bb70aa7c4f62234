"""Samples of a few prompts or classes, at several strengths of guidance."""

from __future__ import annotations

from ddmi.field import Field
from ddmi.report import guided, pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.scene import Scene, coloured, once

SIDE = 96
FURNITURE_PROMPTS = ("a red chair with arm rests", "a black table with three legs", "a blue lamp with a white base")


def section(scene: Scene) -> Section | None:
    """Pictures of the colours; None for a model without condition."""

    def drawn_as(field: Field, alt: str) -> str:
        return pictures.figure(coloured(once(field, SIDE)), alt, pixels=False)

    return guided.section(scene, FURNITURE_PROMPTS if scene.domain.source == "furniture" else (), drawn_as)
