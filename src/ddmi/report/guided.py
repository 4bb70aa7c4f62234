"""Samples of a few prompts or classes, at several strengths of guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ddmi.field import Field
from ddmi.report import pictures
from ddmi.report.asking import wanted
from ddmi.report.page import Section
from ddmi.report.scene import Scene

EACH = 2
SCALES = (1.0, 3.0, 6.0)


def section(scene: Scene[Any, Any], prompts: Sequence[str], drawn_as: Callable[[Field, str], str]) -> Section | None:
    """Prompts below one another, guidance side by side; None for a model without condition.

    Args:
        prompts: those of data that is known beforehand.
        drawn_as: a field and plain words for it -> its figure, HTML.
    """
    asked = wanted(scene.evaluated, prompts)
    if not asked:
        return None
    kind, values = next(iter(asked.items()))
    options = {**scene.settings(), kind: [value for value in values for _ in range(EACH)]}
    drawn = {
        scale: scene.evaluated.pipe(
            EACH * len(values), first=len(scene.samples), **{**options, "guidance_scale": scale}
        )
        for scale in SCALES
    }
    known = {"seen in training": phrases(scene.train), "held out": phrases(scene.held_out)}
    cells = ["<span></span>", *(f"<h4>guidance {scale:g}</h4>" for scale in SCALES)]
    for k, value in enumerate(values):
        title = scene.train.classes[value] if isinstance(value, int) else value
        where = [part for part, captions in known.items() if value in captions]
        note = f"a caption of the data, {' and '.join(where)}" if where else "no caption of the data"
        small = f"<small>{note}</small>" if kind == "text" else ""
        cells.append(f"<h3>{escape(title)}{small}</h3>")
        for scale, fields in drawn.items():
            shown = [drawn_as(fields[k * EACH + i], f"{title}, guidance {scale:g}, sample {i}") for i in range(EACH)]
            cells.append(pictures.row(shown, EACH, "tight"))
    lead = (
        f"{EACH} samples for each {'prompt' if kind == 'text' else 'class'}, none left out. Along a row the noise is "
        "the same, and only the guidance grows: 1 follows the condition as it was learnt, more exaggerates it at the "
        "cost of variety."
    )
    title = "From words" if kind == "text" else "By class"
    body = f'<div class="guided" style="--n:{len(SCALES)}">{"".join(cells)}</div>'
    return Section("prompts", title, lead, body)


def phrases(dataset: Any) -> set[str]:
    """All that a part of the data says of its items."""
    return {text for texts in dataset.phrasings or [] for text in texts}
