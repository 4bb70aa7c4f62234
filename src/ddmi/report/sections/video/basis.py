"""What each scale of basis fields carries: clips of each alone (Fig. 7)."""

from __future__ import annotations

from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.playing import figure
from ddmi.report.sections.video.scene import Scene, blocks, change, drawn, signal

SHOWN = 2


def section(scene: Scene) -> Section | None:
    """The first samples (before stage 2: reconstructions); None where there is but one scale."""
    fields = scene.first(SHOWN)
    count = fields[0].scales
    if count < 2:
        return None
    numbers, rows = scene.numbers, []
    for k, field in enumerate(fields):
        parts = {"all scales": field, **{f"scale {i + 1} alone": field.isolated(i) for i in range(count)}}
        figures = []
        for name, part in parts.items():
            at = f"report/basis_fields/{k}/{name}"
            whole = part is field and len(scene.samples) > 0
            clip = scene.reels.clip(k, scene.many) if whole else drawn(part, scene.many)
            numbers.put(f"{at}/contrast", float(signal(clip).std()))
            numbers.put(f"{at}/change", change(signal(clip)))
            below = (
                f"<b>{name}</b><br>contrast {numbers.show(f'{at}/contrast', '.2f')}, "
                f"change {numbers.show(f'{at}/change', '.1f')}"
            )
            figures.append(figure(clip, f"clip {k}, {name}", below))
        rows.append(pictures.row(figures, len(figures), "wide"))
    lead = (
        "Each clip again with all basis fields zeroed except those of one scale, 1 the coarsest (Fig. 7 of the paper). "
        "The contrast is the standard deviation of all values in [-1, 1], the change the mean absolute difference of "
        "successive frames, in levels of 0 to 255. Every scale has the same cells along time. The read-out is not "
        "linear, so the parts do not add up to the whole."
    )
    body = blocks(rows) if count < 4 else "".join(rows)
    return Section("basis", "What each scale of basis fields carries", lead, body, "Basis fields")
