"""What each scale of basis fields carries: pictures of each alone, and of the coarse ones together (Fig. 7)."""

from __future__ import annotations

from ddmi.metrics.pixels import psnr
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.scene import FAST, SOLID, Scene

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
        whole, figures = field.render(SIDE, **FAST), []
        for name, scales in kept.items():
            at = f"report/basis_fields/{k}/{name}"
            shot = whole if len(scales) == count else field.isolated(*scales).render(SIDE, **FAST)
            numbers.put(f"{at}/covered", float((shot.view.opacity > SOLID).float().mean()))
            told = f"<b>{name}</b><br>covers {numbers.show(f'{at}/covered', '.0%')}"
            if shot is not whole:
                near = psnr(pictures.to_tensor([shot.picture]), pictures.to_tensor([whole.picture]))
                numbers.put(f"{at}/psnr", float(near))
                told += f", {numbers.show(f'{at}/psnr', '.1f')} dB"
            figures.append(pictures.figure(shot.picture, f"object {k}, {name}", told, pixels=False))
        rows.append(pictures.row(figures, len(kept), "wide"))
    lead = (
        "Each object again with all basis fields zeroed except those of some scales, 1 the coarsest (Fig. 7 of the "
        "paper), with the share of the picture that is solid, and the PSNR that the picture has with the whole one. "
        "The read-out is not linear, so the parts do not add up, and a part alone may fill the cube or leave it empty."
    )
    return Section("basis", "What each scale of basis fields carries", lead, "".join(rows), "Basis fields")
