"""Motion at a glance: one line of a clip over time, and how much frames change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.coordinates import axis, mesh
from ddmi.field import Field
from ddmi.report import pictures
from ddmi.report.page import Section, table
from ddmi.report.sections.video.scene import SIDE, Scene, blocks, signal

if TYPE_CHECKING:
    from PIL import Image

WINDOWS, SAMPLES = 4, 8
TIMES = 128
"""Times at which a function is asked for its picture of x and t."""
MARK = (1.0, -0.6, -0.6)
"""Colour of the line in a frame."""


def section(scene: Scene) -> Section | None:
    """Pictures of x and t of held-out windows, of their reconstructions and of samples; the numbers of the metric."""
    if scene.domain.frames < 2:
        return None
    scale, rate = scene.scale(SIDE), scene.held_out.domain.stride
    indices = scene.subjects[:WINDOWS]
    rows = []
    for index, field in zip(indices, scene.evaluated.reconstruct(scene.held_out, indices), strict=True):
        name, true = scene.name(scene.held_out, index), scene.held_out.truth(index, scale, rate)
        row = liveliest(true)
        known = streaks(true, row, scene.held_out.times(rate))
        figures = [
            pictures.figure(marked(true, row), name, "a frame", pixels=False),
            pictures.figure(known, f"{name}, x and t", f"truth, {len(true)} frames", pixels=True),
            pictures.figure(
                asked(scene, field, row, scene.size(scale)), f"{name}, ours", f"ours, {TIMES} times", pixels=False
            ),
        ]
        rows.append(pictures.row(figures, len(figures)))
    body = blocks(rows)
    pairs = []
    for k in range(min(SAMPLES, len(scene.samples))):
        frames = signal(scene.reels.clip(k, scene.many))
        row = liveliest(frames)
        pictured = [marked(frames, row), asked(scene, scene.samples[k], row, scene.many)]
        pairs.append([pictures.figure(picture, scene.told(k), pixels=False) for picture in pictured])
    if pairs:
        figures = [*(still for still, _ in pairs), *(over for _, over in pairs)]
        body += f"<h3>Samples</h3>{pictures.row(figures, len(pairs), 'tight')}"
    lead = (
        "One line of pixels, marked in the middle frame of a clip, drawn over time, which runs downwards. What stands "
        "still leaves vertical stripes, what moves slanted ones, and what flickers horizontal ones. The line is the "
        f"one that changes most. The truth has as many rows as frames; a function is asked at {TIMES} times."
    )
    return Section("motion", "Motion", lead, body + measured(scene), "Motion")


def measured(scene: Scene) -> str:
    """The metric of the same name, where it was taken."""
    numbers = scene.numbers
    titles = {"samples": "samples", "training": "training windows", "held_out": "held-out windows"}
    columns = {"mean": "mean", "median": "median", "percentile_5": "5 % are below", "percentile_95": "5 % are above"}
    rows = [
        [title, *(numbers.show(f"motion/{name}/{column}", ".2f") for column in columns)]
        for name, title in titles.items()
        if numbers.get(f"motion/{name}") is not None
    ]
    if not rows:
        return ""
    told = "Mean absolute change from a frame to the next, in levels of 0 to 255, over clips."
    if numbers.get("motion/ratio") is not None:
        told += f" Samples change {numbers.show('motion/ratio', '.2f')} times as much as training windows"
        if numbers.get("motion/held_out_ratio") is not None:
            told += f", held-out windows {numbers.show('motion/held_out_ratio', '.2f')} times"
        told += "."
    if numbers.get("motion/still") is not None:
        told += (
            f" {numbers.show('motion/still', '.0%')} of the samples change less than 95 % of the training windows do; "
            "of real clips, 5 % would."
        )
    return f"<h3>How much frames change</h3><p>{told}</p>{table(['', *columns.values()], rows)}"


def liveliest(frames: Float[Tensor, "k 3 h w"]) -> int:
    """The row of pixels that changes most from frame to frame."""
    return int(frames.diff(dim=0).abs().mean(dim=(0, 1, 3)).argmax())


def marked(frames: Float[Tensor, "k 3 h w"], row: int) -> Image.Image:
    """The middle frame, with this row of pixels in a colour of its own."""
    frame = frames[len(frames) // 2].clone()
    frame[:, row] = torch.tensor(MARK)[:, None]
    return pictures.to_picture(frame)


def streaks(frames: Float[Tensor, "k 3 h w"], row: int, times: Float[Tensor, "k"]) -> Image.Image:
    """A row of pixels over TIMES times, time downwards: of the frame that is nearest in time."""
    nearest = (axis(TIMES)[:, None] - times).abs().argmin(dim=1)
    return pictures.to_picture(frames[nearest, :, row].transpose(0, 1))


def asked(scene: Scene, field: Field, row: int, size: tuple[int, int]) -> Image.Image:
    """The same row of pixels of a rendering of this size, asked at these times."""
    lines = [axis(size[1]), axis(size[0])[row : row + 1], axis(TIMES)]
    values = field(mesh(lines), scene.domain.told(size, (-1.0, -1.0, 1.0, 1.0), 2 / TIMES))
    return pictures.to_picture(values.unflatten(0, (TIMES, size[1])).permute(2, 0, 1))
