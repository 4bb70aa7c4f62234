"""Points drawn as dots, seen from where the shaded pictures are taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ddmi.report.viewer import CAMERA

if TYPE_CHECKING:
    from PIL import Image

FINER = 2
NEAR, FAR, PAPER = (38, 70, 112), (190, 202, 216), (255, 255, 255)
"""Colours of the nearest and the farthest points, and between them."""


def seen(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """(x, y, towards the eye) of points of the signal: x and y are -1 and 1 at the sides of a square picture."""
    a, e = math.radians(CAMERA["azimuth"]), math.radians(CAMERA["elevation"])
    right = np.array([math.cos(a), 0.0, -math.sin(a)])
    up = np.array([-math.sin(e) * math.sin(a), math.cos(e), -math.sin(e) * math.cos(a)])
    back = np.cross(right, up)
    turned = points @ np.stack([right, up, back], axis=1)
    half = (CAMERA["distance"] - turned[:, 2:]) * math.tan(math.radians(CAMERA["opening"]) / 2)
    return np.concatenate([turned[:, :2] / half, turned[:, 2:]], axis=1)


def dots(points: Float[np.ndarray, "n 3"], size: int) -> Image.Image:
    """A picture of size x size pixels, the nearest points darkest and in front."""
    from PIL import Image, ImageDraw

    wide = FINER * size
    found = Image.new("RGB", (wide, wide), PAPER)
    draw = ImageDraw.Draw(found)
    at = seen(points)
    at = at[np.argsort(at[:, 2])]
    depth = (at[:, 2] - at[:, 2].min()) / max(float(np.ptp(at[:, 2])), 1e-9)
    colours = np.round(np.array(FAR) + depth[:, None] * (np.array(NEAR, float) - FAR)).astype(int)
    radius = 0.006 * wide
    for (x, y, _), colour in zip(at, colours.tolist(), strict=True):
        u, v = (x + 1) / 2 * wide, (1 - y) / 2 * wide
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=tuple(colour))
    return found.resize((size, size), Image.Resampling.LANCZOS)
