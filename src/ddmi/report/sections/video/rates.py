"""One function at several sizes and frame rates, and what each rendering costs."""

from __future__ import annotations

import math
import time
from typing import Any

from ddmi.field import Field
from ddmi.rendering.clip import Clip
from ddmi.report import pictures
from ddmi.report.page import Section, table
from ddmi.report.playing import figure
from ddmi.report.sections.video.scene import Scene

SCALES = (1, 2, 4)
DENSER = 4
LARGEST = 512
"""Pixels of the shorter side of a rendering, at most."""
SMOOTH = 128
"""Pixels of the shorter side, or more, of the one that is asked for more frames."""
PLAYED = 90
"""Frames a second that browsers play, at most."""
PLACE = "report/renderings"


def section(scene: Scene) -> Section:
    """The first sample (before stage 2: reconstruction), larger and larger, then with more and more frames."""
    numbers, short = scene.numbers, min(scene.domain.size)
    field = scene.first(1)[0]
    which = "Sample 0" if scene.samples else f"The reconstruction of “{scene.name(scene.held_out, scene.subjects[0])}”"
    field.render(short, frames=1)[0]  # what is prepared at the first call is no time of rendering
    scales = [scale for scale in SCALES if scale == 1 or scale * short <= LARGEST]
    clips = {scale: timed(scene, f"{scale}x", field, scene.size(scale)) for scale in scales}
    sizes = []
    for scale, clip in clips.items():
        hard = scale < 4 and max(clip.size) < 256
        below = f"<b>{scale}x</b> · {clip.size[1]}×{clip.size[0]}"
        sizes.append(figure(clip, f"{which} at {scale}x", below, pixels=hard))
    chosen = next((scale for scale in scales if scale * short >= SMOOTH), scales[-1])
    name = f"{chosen}x, {DENSER} times the frames"
    dense = timed(scene, name, field, scene.size(chosen), frames=DENSER * scene.domain.frames)
    slow = Clip.of(dense.array(), clips[chosen].fps)
    labels = ("as trained", f"{DENSER} times the frame rate", f"{DENSER} times slower")
    played = [
        figure(
            clip, f"{which}, {label}", f"<b>{label}</b> · {len(clip)} frames at {clip.fps:.3g} a second", pixels=False
        )
        for label, clip in zip(labels, (clips[chosen], dense, slow), strict=True)
    ]
    head = [
        "rendering",
        "pixels",
        "frames",
        "frames a second",
        "queries of the function",
        "seconds",
        "queries a second",
    ]
    rows = [cost(scene, key) for key in numbers.get(PLACE)]
    lead = (
        f"{which}, asked at the pixel centres of larger and larger frames, and at more and more times. In the second "
        f"row the first two last equally long; the third plays the frames of the second {DENSER} times slower. Nothing "
        f"is enlarged or blended afterwards; training asked for up to {max(scene.domain.scales):g}x the pixels a side "
        f"and {max(scene.domain.rates)}x the frames."
    )
    if dense.fps > PLAYED:
        lead += f" Of its {dense.fps:.3g} frames a second, a browser plays {PLAYED}."
    body = pictures.row(sizes, len(sizes), "wide") + pictures.row(played, len(played), "wide") + table(head, rows)
    return Section("sizes", "One function at every size and frame rate", lead, body, "Sizes and rates")


def timed(scene: Scene, name: str, field: Field, size: tuple[int, int], **options: Any) -> Clip:
    """A rendering; its numbers stand under its name."""
    clip = field.render(size, **options)
    began = time.monotonic()
    frames = clip.array()
    seconds = time.monotonic() - began
    queries = math.prod(frames.shape[:3])
    about = {"height": clip.size[0], "width": clip.size[1], "frames": len(clip), "fps": round(clip.fps, 3)}
    spent = {
        "queries": queries,
        "seconds": round(seconds, 3),
        "queries_per_second": round(queries / max(seconds, 1e-6)),
    }
    scene.numbers.put(f"{PLACE}/{name}", {**about, **spent})
    return Clip.of(frames, clip.fps)


def cost(scene: Scene, name: str) -> list[str]:
    """A line of the table."""

    def show(key: str, form: str = ",") -> str:
        return scene.numbers.show(f"{PLACE}/{name}/{key}", form)

    asked = [f"{show('width')}×{show('height')}", show("frames"), show("fps", "g"), show("queries")]
    return [name, *asked, show("seconds", ".2f"), show("queries_per_second")]
