"""How far away held-out objects are: the true depth, where the data can tell it, beside ours."""

from __future__ import annotations

from html import escape

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ddmi.domains.nerf.camera_images import SOLID, CameraImage, depth_error, of_mesh
from ddmi.domains.nerf.photography import FurnitureViews
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.scene import FINE, Scene, grey

SHOWN = 4
SIDE = 96
AMPLIFIED = 4
PLACE = "report/depth"


def section(scene: Scene) -> Section | None:
    """One view of each object; None where the data has no shapes that could be measured."""
    source = scene.held_out.source
    if not isinstance(source, FurnitureViews):
        return None
    from ddmi.rendering.shader import TracedMesh

    items = []
    for k, (index, field) in enumerate(zip(scene.subjects, scene.reconstructions[:SHOWN], strict=False)):
        camera = scene.held_out.camera(index, 0).resized(SIDE)
        true = of_mesh(TracedMesh(source.furniture.mesh(scene.held_out.kept[index])), camera)
        shot = field.render(camera.size, camera=camera, **FINE)
        colour, opacity, depth = np.asarray(shot.image), shot.view.opacity.cpu(), shot.view.depth.cpu()
        items.append(beside(scene, k, index, true, CameraImage(camera, colour, opacity, depth)))
    lead = (
        "Nobody told the model how far away anything is: it was scored by colours alone. Beside the truth stand its "
        "depth and ours, the nearest dark and the farthest light in the same greys, white where nothing solid is; then "
        f"their difference where both are solid, black from {1 / AMPLIFIED:.0%} of the cube's side on. The error is "
        "its mean, as a share of that side; missed is the share of the truth where ours is not solid."
    )
    body = f'<div class="pairs">{"".join(items)}</div>'
    return Section("depth", "How far away it is", lead, body, "Depth")


def beside(scene: Scene, k: int, index: int, true: CameraImage, ours: CameraImage) -> str:
    """The truth, its depth, ours, and how they differ."""
    from PIL import Image

    name, at = scene.name(scene.held_out, index), f"{PLACE}/{k}"
    scene.numbers.put(at, {"object": scene.held_out.names[index], **depth_error(ours, true)})
    there = [look.opacity > SOLID for look in (true, ours)]
    low, high = ends([true.depth, ours.depth], there)
    shown = [shades(look.depth, solid, low, high) for look, solid in zip((true, ours), there, strict=True)]
    apart = torch.where(there[0] & there[1], AMPLIFIED * (true.depth - ours.depth).abs() / 2, 0.0)
    figures = [pictures.figure(Image.fromarray(true.colour), f"{name}, truth", "truth", pixels=False)]
    for told, values in (("its depth", shown[0]), ("ours", shown[1]), ("difference", 1 - apart.clamp(max=1))):
        figures.append(pictures.figure(grey(values), f"{name}, {told}", told, pixels=False))
    error, missed = (scene.numbers.show(f"{at}/{key}", ".1%") for key in ("depth_error", "depth_missed"))
    below = f'<p class="soft"><small>{escape(name)}: error <b>{error}</b>, missed {missed}</small></p>'
    return f"<div>{pictures.row(figures, len(figures), 'tight')}{below}</div>"


def ends(depths: list[Float[Tensor, "h w"]], there: list[Bool[Tensor, "h w"]]) -> tuple[float, float]:
    """The nearest and the farthest of what is there in any of the pictures; 0 and 1 where that is nothing."""
    seen = torch.cat([depth[solid] for depth, solid in zip(depths, there, strict=True)])
    return (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)


def shades(depth: Float[Tensor, "h w"], there: Bool[Tensor, "h w"], low: float, high: float) -> Float[Tensor, "h w"]:
    """Greys from 0.1, for the nearest, to 0.85; 1 where nothing is."""
    return torch.where(there, 0.1 + 0.75 * (depth - low) / max(high - low, 1e-6), 1.0)
