"""What each scale of basis fields carries: shapes of each alone, and of the coarse ones together (Fig. 7)."""

from __future__ import annotations

from ddmi.base.coordinates import grid
from ddmi.field import Field
from ddmi.metrics.volumes import iou
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.shape.scene import CELLS, Scene, figure

SHOWN = 2
SIDE = 192
COMPARED = 32


def section(scene: Scene) -> Section | None:
    """The first samples (before stage 2: reconstructions); None where the parts alone have no surface."""
    fields: list[Field] = [*scene.samples[:SHOWN]]
    if not fields:
        fields = scene.evaluated.reconstruct(scene.held_out, scene.subjects[:SHOWN])
    count = fields[0].scales
    if count < 2:
        return None
    kept = {"all scales": tuple(range(count))}
    kept |= {f"scales 1 to {k}": tuple(range(k)) for k in range(count - 1, 1, -1)}
    kept |= {f"scale {k + 1} alone": (k,) for k in range(count)}
    at = grid((COMPARED,) * 3)
    blocks, anything = [], False
    for k, field in enumerate(fields):
        whole = field(at)[:, 0] > scene.domain.level
        figures = []
        for name, scales in kept.items():
            part = field if len(scales) == count else field.isolated(*scales)
            mesh = scene.solids.mesh(k) if part is field and scene.samples else part.render(CELLS)
            place = f"report/basis_fields/{k}/{name}"
            scene.numbers.put(f"{place}/iou", float(iou((part(at)[:, 0] > scene.domain.level).cpu(), whole.cpu())))
            anything |= len(scales) < count and len(mesh.faces) > 0
            shared = f"<br>IoU {scene.numbers.show(f'{place}/iou', '.2f')}" if len(scales) < count else ""
            figures.append(figure(mesh, SIDE, f"shape {k}, {name}", f"<b>{name}</b>{shared}"))
        blocks.append(pictures.row(figures, len(kept), "wide"))
    if not anything:
        return None
    lead = (
        "Each shape again with all basis fields zeroed except those of some scales, 1 the coarsest (Fig. 7 of the "
        "paper), with the IoU that the rest has with the whole. The read-out is not linear, so the parts do not add "
        "up, and a part alone may have no surface."
    )
    return Section("basis", "What each scale of basis fields carries", lead, "".join(blocks), "Basis fields")
