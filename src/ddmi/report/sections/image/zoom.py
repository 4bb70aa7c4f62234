"""A zoom into one function: the windows are rendered, not enlarged."""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F

from ddmi.field import Field
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.sections.image.scene import Scene

SIZE = 320
SHARES = (1.0, 0.5, 0.25, 0.125)
AMONG = 16


def section(scene: Scene) -> Section:
    """Windows of 1, 1/2, 1/4 and 1/8 around the detail with the most variance, beside the enlarged 1x rendering."""
    fields = scene.samples[:AMONG]
    kind = "sample"
    if not fields:
        fields, kind = scene.evaluated.reconstruct(scene.held_out, scene.subjects[:AMONG]), "reconstruction"
    found = [busiest(field, 4 * scene.base if scene.base <= 64 else scene.base) for field in fields]
    chosen = max(range(len(fields)), key=lambda k: found[k][0])
    field, (_, x, y) = fields[chosen], found[chosen]
    windows = [around(x, y, share) for share in SHARES]
    small = field.render(scene.base)
    sharp, coarse = [], []
    for k, window in enumerate(windows):
        inner = windows[k + 1] if k + 1 < len(windows) else None
        where = f"window 1/{round(1 / SHARES[k])}" if k else "whole frame"
        picture = pictures.image(field.render(SIZE, window=window), f"{kind} {chosen}, {where}")
        sharp.append(f'<figure><span class="framed">{picture}{frame(window, inner)}</span></figure>')
        corners = [(value + 1) / 2 * scene.base for value in window]
        cut = small.resize((SIZE, SIZE), 0, box=tuple(corners))
        coarse.append(pictures.figure(cut, f"the same window of the 1x rendering, {where}", where, pixels=True))
    first = pictures.image(small, f"{kind} {chosen} at {scene.base} pixels", pixels=True)
    viewer = (
        f'<div class="zoom" hidden data-windows=\'{json.dumps(windows)}\' data-sources="#zoom .sharp img">'
        '<figure><div class="stage"></div><figcaption>the function, asked where you look</figcaption></figure>'
        f'<figure><div class="stage">{first}</div>'
        f"<figcaption>its {scene.base}×{scene.base} rendering, enlarged</figcaption></figure>"
        f'<label>zoom <input type="range" min="0" max="{len(SHARES) - 1}" step="0.01" value="0"><output></output>'
        "</label></div>"
    )
    body = f"{viewer}{pictures.row(sharp, 4, 'wide sharp')}{pictures.row(coarse, 4, 'wide')}"
    lead = (
        f"Of the first {len(fields)} {kind}s, the place with the highest variance in a window of 1/8: {kind} {chosen}. "
        f"Above, each window rendered at {SIZE}×{SIZE}, with the next one outlined; below, the same windows cut from "
        f"its {scene.base}×{scene.base} rendering."
    )
    return Section("zoom", "Zooming in", lead, body, "Zoom")


def busiest(field: Field, size: int) -> tuple[float, float, float]:
    """Highest variance in a window of 1/8 of a rendering of `size` pixels, and (x, y) in [-1, 1] of its centre."""
    x = pictures.to_tensor([field.render(size)])
    side = max(2, round(size * SHARES[-1]))
    mean, square = F.avg_pool2d(x, side, 1), F.avg_pool2d(x.square(), side, 1)
    variance = (square - mean.square()).sum(1)[0]  # (size - side + 1, the same)
    at = int(variance.argmax())
    row, column = divmod(at, variance.shape[1])
    centre = torch.tensor([column + side / 2, row + side / 2]) / size * 2 - 1
    return float(variance.flatten()[at]), float(centre[0]), float(centre[1])


def around(x: float, y: float, share: float) -> tuple[float, float, float, float]:
    """The window of this share of the frame's side around a point, moved inside [-1, 1]."""
    x, y = (min(max(v, share - 1), 1 - share) for v in (x, y))
    return tuple(min(max(v, -1.0), 1.0) for v in (x - share, y - share, x + share, y + share))  # type: ignore[return-value]


def frame(outer: tuple[float, ...], inner: tuple[float, ...] | None) -> str:
    """An outline of the inner window on a picture of the outer one."""
    if inner is None:
        return ""
    side = outer[2] - outer[0]
    left, top = (100 * (inner[k] - outer[k]) / side for k in (0, 1))
    width = 100 * (inner[2] - inner[0]) / side
    return f'<i style="left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{width:.2f}%"></i>'
