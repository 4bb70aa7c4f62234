"""Held-out shapes: what the encoder saw, the truth, and what became of it."""

from __future__ import annotations

from html import escape

from ddmi.metrics.volumes import iou
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.shape.cloud import dots
from ddmi.report.sections.shape.scene import CELLS, Scene, figure

SHOWN = 6
SIDE = 192
ASKED = 20_000


def section(scene: Scene) -> Section:
    """Cloud, truth where the data has a mesh of it, reconstruction, and the IoU of the two."""
    indices = scene.subjects[:SHOWN]
    fields = scene.evaluated.reconstruct(scene.held_out, indices)
    meshes = [scene.true(index) for index in indices]
    items = []
    for k, (index, field, true) in enumerate(zip(indices, fields, meshes, strict=True)):
        name = scene.name(scene.held_out, index)
        at = f"report/reconstructions/{k}"
        points, inside = scene.held_out.queries(index, ASKED, ASKED, index)  # as the mean over all has it
        filled = field(points).cpu()[:, 0] > scene.domain.level
        scene.numbers.put(f"{at}/shape", scene.held_out.names[index])
        scene.numbers.put(f"{at}/iou", float(iou(filled, inside[:, 0] > 0.5)))
        cloud = scene.held_out.inputs([index])[0]
        figures = [pictures.figure(dots(cloud.numpy(), SIDE), f"{name}, the input", "input", pixels=False)]
        if true is not None:
            figures.append(figure(true, SIDE, f"{name}, the true shape", "truth"))
        below = f"ours <b>IoU {scene.numbers.show(f'{at}/iou', '.3f')}</b>"
        figures.append(figure(field.render(CELLS), SIDE, f"{name}, reconstruction", below))
        told = f'<p class="soft"><small>{escape(name)}</small></p>'
        items.append(f"<div>{pictures.row(figures, len(figures))}{told}</div>")
    count = len(scene.held_out.inputs(indices[:1])[0])
    mean = ""
    if scene.numbers.get("reconstruction/iou") is not None:
        mean = f"; its mean over the held-out shapes is {scene.numbers.show('reconstruction/iou', '.3f')}"
    lead = (
        f"Shapes that training never saw. The encoder reads {count:,} noisy points of the surface, left; the function "
        f"that it gives is drawn on a grid of {CELLS}³. IoU is counted at {ASKED:,} points of the cube and as many "
        f"near the surface{mean}."
    )
    body = f'<div class="pairs">{"".join(items)}</div>'
    return Section("reconstructions", "Reconstructions of held-out shapes", lead, body, "Reconstructions")
