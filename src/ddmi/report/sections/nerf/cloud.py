"""Coloured points drawn as dots, as a camera sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ddmi.rendering.cameras import Camera

if TYPE_CHECKING:
    from PIL import Image

FINER = 2
RADIUS = 0.008
"""Of a dot, as a share of the picture's shorter side."""


def dots(cloud: Float[Tensor, "n 6"], camera: Camera, background: float = 1.0) -> Image.Image:
    """A picture of the camera's size, the nearest points in front.

    Args:
        cloud: x, y, z, then red, green, blue in [-1, 1].
        background: 1 white, 0 black.
    """
    from PIL import Image, ImageDraw

    height, width = camera.size
    found = Image.new("RGB", (FINER * width, FINER * height), (round(255 * background),) * 3)
    draw = ImageDraw.Draw(found)
    at = FINER * seen(cloud[:, :3], camera)
    colours = np.round(127.5 * (cloud[:, 3:].numpy().clip(-1, 1) + 1)).astype(int)
    radius = RADIUS * FINER * min(height, width)
    for point in np.argsort(-at[:, 2]):
        x, y, ahead = at[point]
        if ahead > 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colours[point].tolist()))
    return found.resize((width, height), Image.Resampling.LANCZOS)


def seen(points: Float[Tensor, "n 3"], camera: Camera) -> Float[np.ndarray, "n 3"]:
    """(x, y, depth) of points: pixels from the upper left corner, and how far they are ahead along the axis of view."""
    pose = camera.pose.double().cpu().numpy()
    local = (points.double().numpy() - pose[:3, 3]) @ pose[:3, :3]
    ahead = -local[:, 2]
    across = camera.focal * local[:, :2] / np.where(ahead > 0, ahead, np.inf)[:, None]
    x, y = camera.middle
    return np.stack([x + across[:, 0], y - across[:, 1], ahead], axis=1)
