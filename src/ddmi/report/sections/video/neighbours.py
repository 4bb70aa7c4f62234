"""Samples beside the training windows that are nearest to them (Fig. 13)."""

from __future__ import annotations

from html import escape

from ddmi.rendering.clip import tiled
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.playing import figure
from ddmi.report.sections.video.scene import SIDE, Scene, signal

SHOWN = 8


def section(scene: Scene) -> Section | None:
    """The first samples, each with what the metric of memorisation found; None where it was not of these samples."""
    numbers = scene.numbers
    found, taken = numbers.get("memorisation/neighbours"), numbers.get("memorisation/protocol/sampling") or {}
    if not found or any(taken.get(key) != value for key, value in scene.settings().items()):
        return None
    scale = min(SIDE / min(scene.domain.size), max(scene.train.domain.scales))
    figures = []
    for k, index in list(enumerate(found))[: min(SHOWN, len(scene.samples))]:
        at, name = f"report/neighbours/{k}", scene.name(scene.train, index)
        mine, true = scene.reels.clip(k, scene.size(scale)), scene.train.truth(index, scale)
        numbers.put(f"{at}/window", scene.train.names[index])
        numbers.put(f"{at}/difference", float((signal(mine) - true).abs().mean()) * 127.5)
        both = tiled([mine, scene.clip(true)], 2, 4)
        below = f"<b>{numbers.show(f'{at}/difference', '.0f')}</b> {escape(name)}"
        figures.append(figure(both, f"{scene.told(k)}; {name}", below))
    among = numbers.show("memorisation/protocol/training_windows", ",")
    lead = (
        f"The first samples, left, each beside the nearest of {among} training windows, right, in step. Nearest is "
        f"by Euclidean distance of {numbers.show('memorisation/protocol/feature')}; under each pair stands the mean "
        "difference of the clips as shown, in levels of 0 to 255. Median distance to the nearest: "
        f"{numbers.show('memorisation/sample_median', '.2f')} for samples, "
        f"{numbers.show('memorisation/held_out_median', '.2f')} for held-out windows; their ratio, "
        f"{numbers.show('memorisation/ratio', '.2f')}, is near 1 for samples as new as unseen clips, and well below 1 "
        "for copies."
    )
    body = pictures.row(figures, 4, "wide clamp")
    return Section("neighbours", "Nearest training windows", lead, body, "Neighbours")
