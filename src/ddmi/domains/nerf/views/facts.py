"""What `scene.json` says of a box: {"radius": half its side, "up": "y" or "z", "centre": [x, y, z]}, y up by default.

It lies in an object's folder or above it, and counts for all objects below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ddmi.base.errors import UserError
from ddmi.base.storage import read_json
from ddmi.data.meshes import Up
from ddmi.domains.nerf.views.contents import is_number


@dataclass(frozen=True)
class Facts:
    """What is told of a box, in the units of the poses; None: nothing, it is as the layout says."""

    radius: float | None = None
    up: Up = "z"
    """Of the poses of every layout, where there is no `scene.json`."""
    centre: tuple[float, float, float] | None = None
    top: Path | None = None
    """The folder of data: no file outside of it is read."""


def told(path: Path, root: Path) -> Facts:
    """What the nearest `scene.json` at an object or above it says, up to the root of the set.

    Raises:
        UserError: it is damaged, or a value is not of those allowed.
    """
    folder = path if path.is_dir() else path.parent
    top = root if root.is_dir() else root.parent
    for place in [folder, *(above for above in folder.parents if above.is_relative_to(top))]:
        if (place / "scene.json").is_file():
            return replace(_read(place / "scene.json"), top=top)
    return Facts(top=top)


def _read(path: Path) -> Facts:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f'{path}: needs {{"radius": ...}}')
    radius, up, centre = content.get("radius"), content.get("up", "y"), content.get("centre")
    if radius is not None and not (is_number(radius) and radius > 0):
        raise UserError(f"{path}: `radius` must be a positive number, not {radius!r}")
    if up not in ("y", "z"):
        raise UserError(f"{path}: `up` must be y or z, not {up!r}")
    if centre is not None and not (isinstance(centre, list) and len(centre) == 3 and all(map(is_number, centre))):
        raise UserError(f"{path}: `centre` must be three numbers, not {centre!r}")
    return Facts(
        radius=None if radius is None else float(radius),
        up=up,
        centre=None if centre is None else (float(centre[0]), float(centre[1]), float(centre[2])),
    )
