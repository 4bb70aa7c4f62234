"""Samples beside the training pictures that are nearest to them (Fig. 13)."""

from __future__ import annotations

from html import escape

from ddmi.metrics.neighbours import nearest
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.image.scene import Scene

SHOWN = 8
NEAREST = 7


def section(scene: Scene) -> Section:
    """The first samples, each with its nearest training pictures and their distances."""
    count = min(SHOWN, len(scene.samples))
    known = scene.train.inputs(range(len(scene.train)))
    drawn = pictures.to_tensor([field.render(scene.base) for field in scene.samples[:count]])
    found = nearest(drawn, known, min(NEAREST, len(known)))
    asked = [scene.told(k) for k in range(count)]
    blocks = []
    size = scene.sizes((1, 4))[max(scene.sizes((1, 4)))] if scene.base <= 64 else scene.base
    for k in range(count):
        at = f"report/neighbours/{k}"
        indices = found.indices[k].tolist()
        scene.numbers.put(f"{at}/distances", found.distances[k].tolist())
        scene.numbers.put(f"{at}/pictures", [scene.name(scene.train, i) for i in indices])
        figures = [pictures.figure(scene.samples[k].render(size), asked[k], escape(asked[k]), kind="first")]
        for i, index in enumerate(indices):
            name = scene.name(scene.train, index)
            distance = scene.numbers.show(f"{at}/distances/{i}", ".2f")
            true = scene.true(scene.train, index, size)
            figures.append(pictures.figure(true, name, f"<b>{distance}</b> {escape(name)}"))
        blocks.append(pictures.row(figures, NEAREST + 1, "clamp"))
    numbers = scene.numbers
    ratio = numbers.show("memorisation/ratio", ".2f")
    among = numbers.show("model/data/train", ",")
    lead = (
        f"The first samples, outlined, beside the nearest of all {among} training pictures by Euclidean distance of "
        f"{scene.base}×{scene.base} pixels in [-1, 1]. Median distance to the nearest: "
        f"{numbers.show('memorisation/sample_median', '.2f')} for samples, "
        f"{numbers.show('memorisation/held_out_median', '.2f')} for held-out pictures; their ratio, {ratio}, is near 1 "
        "for samples as new as unseen pictures, and well below 1 for copies."
    )
    body = f'<div class="pairs">{"".join(blocks)}</div>'
    return Section("neighbours", "Nearest training pictures", lead, body, "Neighbours")
