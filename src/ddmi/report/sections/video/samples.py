"""Samples, playing: many, on request, and on the way from one to another."""

from __future__ import annotations

from html import escape

from ddmi.report import pictures
from ddmi.report.asking import wanted
from ddmi.report.page import Section
from ddmi.report.playing import figure
from ddmi.report.sections.video.scene import Scene, drawn

HERO = 7
SHEET = 32
EACH = 4
BETWEEN = 6


def hero(scene: Scene) -> str:
    """The first samples; reconstructions have no place here."""
    count = min(HERO, len(scene.samples))
    shown = [f"<figure>{scene.reels.playing(k, scene.many, scene.told(k))}</figure>" for k in range(count)]
    return pictures.row(shown, HERO, "hero tight")


def sheet(scene: Scene) -> Section:
    """Samples in the order in which they were drawn."""
    count = min(SHEET, len(scene.samples))
    figures = []
    for k in range(count):
        asked = escape(scene.asked(k))
        below = f"<figcaption>{asked}</figcaption>" if asked else ""
        figures.append(f"<figure>{scene.reels.playing(k, scene.many, scene.told(k))}{below}</figure>")
    kind = scene.evaluated.pipe.config.diffusion.condition
    told = {"text": "the text", "class": "the class"}.get(kind, "")
    asked = f" Under each stands {told} that it was asked for, drawn at random from training." if told else ""
    model = "The model is asked for nothing: it is unconditional." if not told else ""
    (height, width), (high, wide) = scene.domain.size, scene.many
    lead = (
        f"Samples 0 to {count - 1} of seed {scene.numbers.show('sampling/seed')}, in their order, none left "
        f"out.{asked} {model} Each is a function of (x, y, t), asked for {scene.domain.frames} frames of "
        f"{wide}×{high}; the encoder reads {width}×{height}."
    )
    return Section("samples", "Samples, unchosen", lead, pictures.row(figures, 8, "sheet tight clamp"), "Samples")


def prompts(scene: Scene) -> Section | None:
    """A few samples for each of three prompts or classes; None for a model without."""
    asked = wanted(scene.evaluated)
    if not asked:
        return None
    kind, values = next(iter(asked.items()))
    options = {**scene.settings(), kind: [value for value in values for _ in range(EACH)]}
    fields = scene.evaluated.pipe(EACH * len(values), first=len(scene.samples), **options)
    blocks = []
    for k, value in enumerate(values):
        title = scene.train.classes[value] if isinstance(value, int) else value
        figures = [
            figure(drawn(field, scene.many), f"{title}, sample {i}")
            for i, field in enumerate(fields[k * EACH : (k + 1) * EACH])
        ]
        blocks.append(f"<div><h3>{escape(title)}</h3>{pictures.row(figures, 2, 'sheet')}</div>")
    scale = scene.numbers.show("sampling/guidance_scale", "g")
    lead = f"{EACH} samples for each {'prompt' if kind == 'text' else 'class'}, with guidance {scale}, none left out."
    title = "From words" if kind == "text" else "By class"
    return Section("prompts", title, lead, f'<div class="sheets">{"".join(blocks)}</div>')


def interpolation(scene: Scene) -> Section | None:
    """Between the latents of two samples; None where there is but one."""
    if len(scene.samples) < 2:
        return None
    pipe = scene.evaluated.pipe
    z = pipe.latents(2, **scene.sampled(2))
    fields = pipe.interpolate(z[:1], z[1:], BETWEEN)
    figures = [
        figure(drawn(field, scene.many), f"share {k / (BETWEEN - 1):.1f}", f"{k / (BETWEEN - 1):.1f}")
        for k, field in enumerate(fields)
    ]
    lead = "From sample 0, left, to sample 1, right, on the great circle between their normalised latents."
    body = pictures.row(figures, BETWEEN, "sheet")
    return Section("interpolation", "Between two samples", lead, body, "Interpolation")
