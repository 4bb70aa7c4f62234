"""OFF files: vertices and polygons in text. Hand-written, as trimesh leaves out their colours."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmi.base.errors import UserError
from ddmi.data.polygons import triangulated

if TYPE_CHECKING:
    import trimesh

GREY = 170
"""Of polygons without a colour beside others that have one, as Geomview shows them."""

_HEADER = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF\b")


def mesh(content: bytes) -> trimesh.Trimesh:
    """The mesh of an OFF file; colours of vertices (COFF) or of polygons, as bytes or as numbers from 0 to 1.

    Raises:
        UserError: it is binary, or has more than three coordinates; any ValueError or IndexError: it is damaged.
    """
    import trimesh

    lines = [
        words for line in content.decode("utf-8-sig", "replace").splitlines() if (words := line.split("#")[0].split())
    ]
    header = _HEADER.fullmatch(lines[0].pop(0)) if lines else None
    if header is None:
        raise ValueError("it does not begin with OFF")
    textured, coloured, with_normals, *more = header.groups()
    if any(more) or lines[0] == ["BINARY"]:
        raise UserError("is a binary or four-dimensional OFF file: export it as text in three dimensions")
    counts, *lines = filter(None, lines)  # the counts may stand beside the header
    count, polygons = int(counts[0]), int(counts[1])
    if len(lines) < count + polygons:
        raise ValueError(f"it ends before its {count} vertices and {polygons} faces")
    rows, below = np.array(lines[:count], np.float64), lines[count : count + polygons]
    sizes = [int(line[0]) for line in below]
    if any(len(line) <= size for line, size in zip(below, sizes, strict=True)):
        raise ValueError("a face has fewer vertices than it says")
    faces = [list(map(int, line[1 : 1 + size])) for line, size in zip(below, sizes, strict=True)]
    owner, corners = triangulated(faces, rows[:, :3])
    flat = np.fromiter(chain.from_iterable(faces), np.int64)
    colours: dict[str, Any] = {}
    first = 6 if with_normals else 3
    last = min(first + 4, rows.shape[1] - (2 if textured else 0))
    if coloured and last >= first + 3:
        colours["vertex_colors"] = _bytes(rows[:, first:last])
    else:
        own = [line[1 + size : 4 + size] for line, size in zip(below, sizes, strict=True)]
        has = [len(colour) == 3 for colour in own]  # one number alone is a place in a table that is not in the file
        if any(has):
            painted = np.full((polygons, 3), GREY, np.uint8)
            painted[has] = _bytes(np.array([colour for colour in own if len(colour) == 3], np.float64))
            colours["face_colors"] = painted[owner]
    return trimesh.Trimesh(rows[:, :3], flat[corners], process=False, **colours)


def _bytes(colours: np.ndarray) -> np.ndarray:
    """Colours as bytes; where none is above 1 they are numbers from 0 to 1."""
    return np.clip(np.rint(colours * (255 if colours.max(initial=0) <= 1 else 1)), 0, 255).astype(np.uint8)
