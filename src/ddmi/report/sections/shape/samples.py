"""Samples, turning."""

from __future__ import annotations

from html import escape

from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.shape.scene import CELLS, Scene

HERO = 7
SHEET = 16


def hero(scene: Scene) -> str:
    """The first samples; reconstructions have no place here."""
    shown = [f"<figure>{scene.solids.turning(k, scene.told(k))}</figure>" for k in range(min(HERO, len(scene.samples)))]
    return pictures.row(shown, HERO, "hero tight")


def sheet(scene: Scene) -> Section:
    """Samples in the order in which they were drawn."""
    count = min(SHEET, len(scene.samples))
    figures = []
    for k in range(count):
        asked = escape(scene.asked(k))
        below = f"<figcaption>{asked}</figcaption>" if asked else ""
        figures.append(f"<figure>{scene.solids.turning(k, scene.told(k))}{below}</figure>")
    asked = " Under each stands what it was asked for, drawn at random from training." if scene.evaluated.asked else ""
    lead = (
        f"Samples 0 to {count - 1} of seed {scene.numbers.show('sampling/seed')}, in their order, none left out. Each "
        f"is a function of (x, y, z); its surface is drawn where the probability of being inside is "
        f"{scene.domain.threshold:g}, from a grid of {CELLS}³.{asked}"
    )
    return Section("samples", "Samples, unchosen", lead, pictures.row(figures, 8, "sheet tight clamp"), "Samples")
