"""What each scale of basis fields carries: pictures of each alone, and of the coarse ones together (Fig. 7)."""

from __future__ import annotations

from ddmi.metrics.pixels import CEILING, psnr
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.scene import SOLID, Scene, coloured, once

SHOWN = 2
SIDE = 96


def section(scene: Scene) -> Section | None:
    """The first samples (before stage 2: reconstructions); None where there is but one scale."""
    fields = [*scene.samples[:SHOWN]] or scene.reconstructions[:SHOWN]
    count = fields[0].scales
    if count < 2:
        return None
    kept = {"all scales": tuple(range(count))}
    kept |= {f"scales 1 to {k}": tuple(range(k)) for k in range(count - 1, 1, -1)}
    kept |= {f"scale {k + 1} alone": (k,) for k in range(count)}
    numbers, rows = scene.numbers, []
    for k, field in enumerate(fields):
        whole, figures = once(field, SIDE), []
        for name, scales in kept.items():
            at = f"report/basis_fields/{k}/{name}"
            view = whole if len(scales) == count else once(field.isolated(*scales), SIDE)
            numbers.put(f"{at}/covered", float((view.opacity > SOLID).float().mean()))
            told = f"<b>{name}</b><br>covers {numbers.show(f'{at}/covered', '.0%')}"
            if view is not whole:
                near = psnr(*(pictures.to_tensor([coloured(seen)]) for seen in (view, whole)))
                numbers.put(f"{at}/psnr", min(float(near), CEILING))
                told += f", {numbers.show(f'{at}/psnr', '.1f')} dB"
            figures.append(pictures.figure(coloured(view), f"object {k}, {name}", told, pixels=False))
        rows.append(pictures.row(figures, len(kept), "wide"))
    lead = (
        "Each object again with all basis fields zeroed except those of some scales, 1 the coarsest (Fig. 7 of the "
        "paper), with the share of the picture that is solid, and the PSNR that the picture has with the whole one. "
        "The read-out is not linear, so the parts do not add up, and a part alone may fill the cube or leave it empty."
    )
    return Section("basis", "What each scale of basis fields carries", lead, "".join(rows), "Basis fields")
