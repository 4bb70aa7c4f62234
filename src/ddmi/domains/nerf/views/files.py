"""An object whose views are files of pictures, with coloured points beside them where there are some.

The points are `points.npz`: `points` (n, 3) in the units of the poses, `colours` (n, 3) uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddmi.base.errors import UserError
from ddmi.domains.nerf.views.contents import arrays, header
from ddmi.domains.nerf.views.pixels import Pixels, decoded
from ddmi.domains.nerf.views.scene import Raw, Scene, enough


@dataclass(frozen=True, kw_only=True, eq=False)
class Files(Scene):
    """A scene of which view k is the k-th file."""

    files: list[Path]

    def pixels(self, view: int) -> Pixels:
        pixels = decoded(self.files[view])
        if pixels.shape[:2] != self.views.size:
            raise UserError(f"{self.files[view]} has changed: its size is not that of the other pictures any more")
        return pixels

    def points(self, path: Path) -> Raw:
        found = arrays(path, "points", "colours")
        return enough(path, found["points"]), found["colours"]


def beside(folder: Path) -> Path | None:
    """The file of coloured points in a folder, its headers checked; None where there is none.

    Raises:
        UserError: the file is damaged, or its arrays do not go together.
    """
    path = folder / "points.npz"
    if not path.is_file():
        return None
    points, number = header(path, "points")
    colours, kind = header(path, "colours")
    if len(points) != 2 or points[1] != 3 or number.kind not in "fiu" or colours != points or kind != np.uint8:
        told = f"{number} {points} with {kind} {colours}"
        raise UserError(f"{path}: `points` (n, 3), numbers, go with as many `colours` of 8 bits, not {told}")
    return path
