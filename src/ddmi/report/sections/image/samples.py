"""Samples: many, one at every size, on request, and on the way from one to another."""

from __future__ import annotations

from html import escape

from ddmi.report import pictures
from ddmi.report.asking import wanted
from ddmi.report.page import Section
from ddmi.report.sections.image.scene import Scene

HERO = 7
SHEET = 48
FRAMES = 8
EACH = 4
LARGEST = 1024
EMOJI_PROMPTS = ("red apple", "smiling face with sunglasses", "cat face")


def hero(scene: Scene) -> str:
    """The first samples, larger; reconstructions have no place here."""
    shown = [
        pictures.figure(field.render(2 * scene.shown), scene.told(k)) for k, field in enumerate(scene.samples[:HERO])
    ]
    return pictures.row(shown, HERO, "hero tight") if shown else ""


def sheet(scene: Scene) -> Section:
    """Samples in the order in which they were drawn."""
    count = min(SHEET, len(scene.samples))
    figures = [
        pictures.figure(field.render(scene.shown), f"sample {k}", escape(scene.asked(k)))
        for k, field in enumerate(scene.samples[:count])
    ]
    asked = " Under each stands what it was asked for, drawn at random from training." if scene.evaluated.asked else ""
    lead = (
        f"Samples 0 to {count - 1} of seed {scene.numbers.show('sampling/seed')}, in their order, none left out.{asked}"
    )
    return Section("samples", "Samples, unchosen", lead, pictures.row(figures, 8, "sheet tight clamp"), "Samples")


def sizes(scene: Scene) -> Section:
    """One sample rendered at several sizes."""
    field, figures = scene.samples[0], []
    for size in [s for s in (scene.base, 2 * scene.base, 4 * scene.base, 16 * scene.base) if s <= LARGEST]:
        hard = size < 4 * scene.base and size < 256
        figures.append(pictures.figure(field.render(size), f"sample 0 at {size} pixels", f"{size}×{size}", pixels=hard))
    lead = (
        f"Sample 0, asked at the pixel centres of larger and larger grids. It was trained at up to "
        f"{max(scene.domain.scales):g}x of {scene.base}×{scene.base}; nothing is enlarged afterwards."
    )
    return Section("sizes", "One function at every size", lead, pictures.row(figures, len(figures), "wide"), "Sizes")


def prompts(scene: Scene) -> Section | None:
    """A few samples for each of three prompts or classes; None for a model without."""
    asked = wanted(scene.evaluated, EMOJI_PROMPTS if scene.domain.source == "emoji" else ())
    if not asked:
        return None
    kind, values = next(iter(asked.items()))
    options = {**scene.settings(), kind: [value for value in values for _ in range(EACH)]}
    fields = scene.evaluated.pipe(EACH * len(values), first=len(scene.samples), **options)
    known = {"seen in training": scene.train.captions or [], "held out": scene.held_out.captions or []}
    blocks = []
    for k, value in enumerate(values):
        title = scene.train.classes[value] if isinstance(value, int) else value
        where = [part for part, captions in known.items() if value in captions]
        note = f"<small>a caption of the data, {' and '.join(where)}</small>" if where else ""
        if kind == "text" and not where:
            note = "<small>no caption of the data</small>"
        figures = [
            pictures.figure(field.render(scene.shown), f"{title}, sample {i}")
            for i, field in enumerate(fields[k * EACH : (k + 1) * EACH])
        ]
        blocks.append(f"<div><h3>{escape(title)}{note}</h3>{pictures.row(figures, 2, 'sheet')}</div>")
    scale = scene.numbers.show("sampling/guidance_scale", "g")
    lead = f"Four samples for each {'prompt' if kind == 'text' else 'class'}, with guidance {scale}, none left out."
    title = "From words" if kind == "text" else "By class"
    return Section("prompts", title, lead, f'<div class="sheets">{"".join(blocks)}</div>')


def interpolation(scene: Scene) -> Section:
    """Between the latents of two samples."""
    pipe = scene.evaluated.pipe
    z = pipe.latents(2, **scene.sampled(2))
    fields = pipe.interpolate(z[:1], z[1:], FRAMES)
    figures = [
        pictures.figure(field.render(scene.shown), f"share {k / (FRAMES - 1):.2f}") for k, field in enumerate(fields)
    ]
    lead = "From sample 0, left, to sample 1, right, on the great circle between their normalised latents."
    return Section(
        "interpolation", "Between two samples", lead, pictures.row(figures, FRAMES, "sheet tight"), "Interpolation"
    )
