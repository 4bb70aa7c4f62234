"""Held-out objects from cameras that nobody gave: what the encoder read, the truth, and what became of it."""

from __future__ import annotations

from html import escape

from ddmi.field import Field
from ddmi.metrics.pixels import CEILING, psnr
from ddmi.rendering.clip import spread
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.cloud import dots
from ddmi.report.sections.nerf.scene import FAST, FINE, LARGEST, RECONSTRUCTED, Scene

VIEWS = 4
SIDE = 128
PLACE = "report/reconstructions"


def section(scene: Scene) -> Section:
    """For each object, its cloud above ours with more rays, and beside them some views, the truth above ours."""
    indices = scene.subjects[:RECONSTRUCTED]
    found = zip(indices, scene.reconstructions, strict=True)
    body = "".join(beside(scene, k, index, field) for k, (index, field) in enumerate(found))
    numbers = scene.numbers
    mean = ""
    if numbers.get("reconstruction/psnr") is not None:
        mean = f"; its mean over the held-out objects is {numbers.show('reconstruction/psnr', '.2f')} dB"
    if numbers.get("reconstruction/points/psnr") is not None:
        mean += f", that of the points drawn as squares {numbers.show('reconstruction/points/psnr', '.2f')} dB"
    most = max(max(scene.held_out.camera(index, 0).size) for index in indices)
    shrunk = f" Views are shrunk to {LARGEST} pixels." if most > LARGEST else ""
    lead = (
        f"Objects that training never saw. The encoder reads {scene.domain.cloud:,} coloured points, left, and no "
        "picture: every camera is new to the function that it gives. Above stand photographs, below them what the "
        f"function shows from the same places. PSNR is of the whole picture{mean}.{shrunk}"
    )
    title = "Held-out objects, from views that nobody gave"
    return Section("reconstructions", title, lead, f'<div class="pairs">{body}</div>', "Reconstructions")


def beside(scene: Scene, k: int, index: int, field: Field) -> str:
    """One object."""
    name, at = scene.name(scene.held_out, index), f"{PLACE}/{k}"
    views = spread(scene.held_out.views(index), VIEWS)
    taken = [scene.view(scene.held_out, index, view) for view in views]
    drawn = [field.render(camera.size, camera=camera, **FINE).image for camera, _ in taken]
    x, y = pictures.to_tensor(drawn), pictures.to_tensor([true for _, true in taken])
    quality = psnr(x, y).clamp_max(CEILING)
    about = {"object": scene.held_out.names[index], "views": views, "psnr": quality.tolist()}
    scene.numbers.put(at, {**about, "mean_psnr": float(quality.mean())})
    camera = taken[0][0].resized(SIDE)
    cloud = dots(scene.held_out.inputs([index])[0], camera, scene.domain.background)
    finer = field.render(SIDE, camera=camera, **FAST).image
    above = [pictures.figure(cloud, f"{name}, the input", "input", pixels=False)]
    below = [pictures.figure(finer, f"{name}, ours with more rays", f"ours, {SIDE}×{SIDE}", pixels=False)]
    for i, (view, (_, true), ours) in enumerate(zip(views, taken, drawn, strict=True)):
        told = f"ours <b>{scene.numbers.show(f'{at}/psnr/{i}', '.1f')}</b>"
        above.append(pictures.figure(true, f"{name}, view {view}", f"view {scene.numbers.show(f'{at}/views/{i}')}"))
        below.append(pictures.figure(ours, f"{name}, view {view}, ours", told))
    told = f"{escape(name)}: <b>{scene.numbers.show(f'{at}/mean_psnr', '.1f')}</b> dB"
    rows = pictures.row([*above, *below], len(above), "tight")
    return f'<div>{rows}<p class="soft"><small>{told}</small></p></div>'
