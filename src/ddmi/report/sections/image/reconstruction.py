"""Held-out pictures beside their reconstructions, at the trained sizes and beyond."""

from __future__ import annotations

import torch.nn.functional as F

from ddmi.metrics.pixels import psnr
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.image.scene import Scene

SHOWN = 6
SCALES = (1, 2, 4)


def section(scene: Scene) -> Section:
    """Truth, reconstruction, and the enlarged truth of 1x, with PSNR under each."""
    indices = scene.subjects[:SHOWN]
    fields = scene.evaluated.reconstruct(scene.held_out, indices)
    small = scene.held_out.inputs(indices)
    sizes = scene.sizes(SCALES)
    items = []
    for k, (index, field) in enumerate(zip(indices, fields, strict=True)):
        name = scene.name(scene.held_out, index)
        at = f"report/reconstructions/{k}"
        scene.numbers.put(f"{at}/picture", name)
        groups = []
        for scale, size in sizes.items():
            true = scene.true(scene.held_out, index, size)
            drawn = field.render(size)
            enlarged = pictures.to_picture(
                F.interpolate(small[k : k + 1], (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)[0]
            )
            reference = pictures.to_tensor([true])
            scene.numbers.put(f"{at}/{scale}x/psnr", float(psnr(pictures.to_tensor([drawn]), reference)))
            hard = scale < 4
            figures = [
                pictures.figure(true, f"{name}, true picture at {size} pixels", "truth", pixels=hard),
                pictures.figure(
                    drawn,
                    f"{name}, reconstruction at {size} pixels",
                    f"ours <b>{scene.numbers.show(f'{at}/{scale}x/psnr', '.1f')}</b> dB",
                    pixels=hard,
                ),
            ]
            if scale > 1:
                scene.numbers.put(f"{at}/{scale}x/bicubic_psnr", float(psnr(pictures.to_tensor([enlarged]), reference)))
                figures.append(
                    pictures.figure(
                        enlarged,
                        f"{name}, 1x enlarged to {size} pixels",
                        f"bicubic {scene.numbers.show(f'{at}/{scale}x/bicubic_psnr', '.1f')} dB",
                        pixels=hard,
                    )
                )
            groups.append(
                f"<div><h4>{scale}x · {size}×{size}</h4>{pictures.row(figures, 2 if scale == 1 else 3)}</div>"
            )
        items.append(f'<div class="groups">{"".join(groups)}</div>')
    truth = (
        "drawn exactly at each size" if scene.exact else "resized from the file, at no size larger than the file has"
    )
    lead = (
        f"Pictures that training never saw, encoded at {scene.base}×{scene.base}, each rendered from one function at "
        f"every size. The truth is {truth}; “bicubic” enlarges the true {scene.base}-pixel picture, which is all that "
        "the encoder saw. PSNR is against the truth of that size; its mean over the held-out set stands under Metrics."
    )
    return Section("reconstructions", "Reconstructions of held-out pictures", lead, "".join(items), "Reconstructions")
