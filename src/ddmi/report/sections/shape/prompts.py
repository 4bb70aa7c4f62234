"""Samples of a few prompts or classes, at several strengths of guidance."""

from __future__ import annotations

from ddmi.field import Field
from ddmi.report import guided
from ddmi.report.page import Section
from ddmi.report.sections.shape.scene import CELLS, Scene, figure

SIDE = 160
FURNITURE_PROMPTS = ("a chair with four legs and arm rests", "a table with three legs", "a round table on one leg")


def section(scene: Scene) -> Section | None:
    """Shaded meshes; None for a model without condition."""

    def drawn_as(field: Field, alt: str) -> str:
        return figure(field.render(CELLS), SIDE, alt)

    return guided.section(scene, FURNITURE_PROMPTS if scene.domain.source != "folder" else (), drawn_as)
