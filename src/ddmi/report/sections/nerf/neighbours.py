"""Samples beside the training objects that are nearest to them (Fig. 13)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import torch

from ddmi.domains.nerf.shot import CAMERA
from ddmi.rendering.cameras import Camera
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.nerf.scene import FINE, Scene

if TYPE_CHECKING:
    from ddmi.domains.nerf import ViewDataset

SHOWN = 8


def section(scene: Scene) -> Section | None:
    """The first samples, each with what the metric of memorisation found; None where it was not of these samples."""
    numbers = scene.numbers
    found, taken = numbers.get("memorisation/neighbours"), numbers.get("memorisation/protocol/sampling") or {}
    if not found or any(taken.get(key) != value for key, value in scene.settings().items()):
        return None
    pairs = []
    for k, index in list(enumerate(found))[: min(SHOWN, len(scene.samples))]:
        name = scene.name(scene.train, index)
        numbers.put(f"report/neighbours/{k}/object", scene.train.names[index])
        camera, true = scene.view(scene.train, index, usual(scene.train, index))
        ours = scene.samples[k].render(camera.size, camera=camera, **FINE).image
        both = [pictures.figure(ours, scene.told(k), "sample"), pictures.figure(true, name, "training")]
        told = f'<p class="soft"><small>{escape(name)}</small></p>'
        pairs.append(f"<div>{pictures.row(both, 2, 'tight')}{told}</div>")
    lead = (
        "The first samples, left, each beside the nearest of "
        f"{numbers.show('memorisation/protocol/training_objects', ',')} training objects, from the camera of a "
        f"photograph of that. Nearest is by Euclidean distance of {numbers.show('memorisation/protocol/feature')}."
    )
    if numbers.get("memorisation/ratio") is not None:
        lead += (
            f" Median distance to the nearest: {numbers.show('memorisation/sample_median', '.2f')} for samples, "
            f"{numbers.show('memorisation/held_out_median', '.2f')} for held-out objects; their ratio, "
            f"{numbers.show('memorisation/ratio', '.2f')}, is near 1 for samples as new as unseen objects, and well "
            "below 1 for copies."
        )
    body = f'<div class="twos">{"".join(pairs)}</div>'
    return Section("neighbours", "Nearest training objects", lead, body, "Neighbours")


def usual(dataset: ViewDataset, index: int) -> int:
    """The view of an item that is taken from nearest to where the usual camera stands."""
    eyes = torch.stack([dataset.camera(index, view).pose[:3, 3].double() for view in range(dataset.views(index))])
    towards = Camera.orbit(*CAMERA).pose[:3, 3].double()
    return int((torch.nn.functional.normalize(eyes, dim=1) @ towards).argmax())
