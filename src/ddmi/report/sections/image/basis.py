"""What each scale of basis fields carries: pictures of each alone, and their spectra (Fig. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.field import Field
from ddmi.metrics.spectra import log_spectrum, radial_spectrum, spectral_centroid
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.plots import Line, legend, plot
from ddmi.report.sections.image.scene import Scene

if TYPE_CHECKING:
    from PIL import Image as Pictures

SHOWN = 2
AVERAGED = 8


def section(scene: Scene) -> Section:
    """Samples (before stage 2: reconstructions) with all basis fields, and with each scale alone."""
    fields: list[Field] = [*scene.samples[:AVERAGED]]
    if not fields:
        fields = scene.evaluated.reconstruct(scene.held_out, scene.subjects[:AVERAGED])
    count = fields[0].scales
    variants = {"all": [*fields], **{f"scale {k + 1}": [f.isolated(k) for f in fields] for k in range(count)}}
    drawn = {name: [f.render(scene.shown) for f in group] for name, group in variants.items()}
    spectra, lines, captions = [], [], []
    for name, group in drawn.items():
        x = pictures.to_tensor(group)
        at = f"report/basis_fields/{name}"
        scene.numbers.put(f"{at}/spectral_centroid", float(spectral_centroid(x).mean()))
        scene.numbers.put(f"{at}/contrast", float(x.std(dim=(1, 2, 3)).mean()))
        captions.append(
            f"<b>{label(name)}</b><br>centroid {scene.numbers.show(f'{at}/spectral_centroid', '.2f')} cycles<br>"
            f"contrast {scene.numbers.show(f'{at}/contrast', '.3f')}"
        )
        spectra.append(log_spectrum(x).mean(0))
        radial = radial_spectrum(x)
        inside = radial.frequency <= scene.shown // 2  # beyond, rings are cut by the corners
        lines.append(Line(label(name), radial.frequency[inside].tolist(), radial.power.mean(0)[inside].tolist()))
    blocks = []
    for k in range(min(SHOWN, len(fields))):
        rendered = [pictures.figure(drawn[name][k], f"picture {k}, {label(name)}", label(name)) for name in drawn]
        blocks.append(f"<span>rendered</span>{pictures.row(rendered, count + 1)}")
        stretched = [
            pictures.figure(equalised(drawn[name][k]), f"picture {k}, {label(name)}, equalised") for name in drawn
        ]
        blocks.append(f"<span>the same, histogram equalised</span>{pictures.row(stretched, count + 1)}")
    ends = min(float(s.min()) for s in spectra), max(float(s.max()) for s in spectra)
    shown = [
        pictures.figure(heat(s, *ends), f"log spectrum, {name}", caption, pixels=True)
        for s, name, caption in zip(spectra, drawn, captions, strict=True)
    ]
    blocks.append(f"<span>log magnitude of the spectrum, mean of {len(fields)}</span>{pictures.row(shown, count + 1)}")
    curves = plot(lines, "cycles per picture", "power", log_x=True)
    names = legend([label(name) for name in drawn])
    lead = (
        "Each picture again with all basis fields zeroed except those of one scale, 1 the coarsest (Fig. 7 of the "
        f"paper), rendered at {scene.shown}×{scene.shown}. The spectral centroid is the mean frequency, weighted by "
        "power; the contrast is the standard deviation of the picture in [-1, 1]. The read-out is not linear, so the "
        "parts do not add up to the whole, and a scale may say little alone and much together."
    )
    body = f'<div class="labels">{"".join(blocks)}</div><div class="curves"><div>{curves}{names}</div></div>'
    return Section("basis", "What each scale of basis fields carries", lead, body, "Basis fields")


def label(name: str) -> str:
    """A heading of a column."""
    return "all scales" if name == "all" else f"{name} alone"


def equalised(picture: Pictures.Image) -> Pictures.Image:
    """Every colour channel spread over its whole range so that all values are about as frequent."""
    from PIL import ImageOps

    return ImageOps.equalize(picture)


def heat(x: Float[Tensor, "h w"], low: float, high: float) -> Pictures.Image:
    """Values from low to high as colours from dark violet to pale yellow."""
    from PIL import Image as Pictures

    stops = torch.tensor([[13, 8, 60], [94, 28, 130], [190, 55, 84], [246, 135, 45], [252, 245, 180]]).float()
    share = ((x - low) / max(high - low, 1e-9)).clamp(0, 1) * (len(stops) - 1)
    below = share.long().clamp(max=len(stops) - 2)
    colours = torch.lerp(stops[below], stops[below + 1], (share - below)[..., None])
    return Pictures.fromarray(colours.round().numpy().astype(np.uint8))
