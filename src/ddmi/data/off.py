"""OFF files: vertices and polygons in text, with the colours that they may have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmi.base.errors import UserError
from ddmi.data.polygons import triangulated

if TYPE_CHECKING:
    import trimesh

GREY = np.uint8(170)
"""Of polygons without a colour beside others that have one, as Geomview shows them."""

_HEADER = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF\b")


def mesh(content: bytes) -> trimesh.Trimesh:
    """The mesh of an OFF file; colours of vertices (COFF) or of polygons, as bytes or as numbers from 0 to 1.

    Raises:
        UserError: it is binary, or has more than three coordinates; any ValueError or IndexError: it is damaged.
    """
    import trimesh

    lines = [line.partition("#")[0].split() for line in content.decode("utf-8-sig", "replace").splitlines()]
    lines = [line for line in lines if line]
    header = _HEADER.fullmatch(lines[0][0]) if lines else None
    if header is None:
        raise ValueError("it does not begin with OFF")
    textured, coloured, with_normals, *more = header.groups()
    if any(more) or lines[0][1:2] == ["BINARY"]:
        raise UserError("is a binary or four-dimensional OFF file: export it as text in three dimensions")
    lines[0] = lines[0][1:]  # the counts may stand beside the header
    if not lines[0]:
        del lines[0]
    count, polygons = int(lines[0][0]), int(lines[0][1])
    if len(lines) < 1 + count + polygons:
        raise ValueError(f"it ends before its {count} vertices and {polygons} faces")
    rows = np.array(lines[1 : 1 + count], np.float64)
    below = lines[1 + count : 1 + count + polygons]
    faces = [[int(index) for index in line[1 : 1 + int(line[0])]] for line in below]
    if any(len(face) != int(line[0]) for face, line in zip(faces, below, strict=True)):
        raise ValueError("a face has fewer vertices than it says")
    if faces and not 0 <= min(map(min, faces)) <= max(map(max, faces)) < count:
        raise ValueError("a face names a vertex that does not exist")
    owner, corner = triangulated(faces, rows[:, :3])
    pairs = zip(owner.tolist(), corner.tolist(), strict=True)
    triangles = np.array([[faces[k][a], faces[k][b], faces[k][c]] for k, (a, b, c) in pairs], np.int64)
    colours: dict[str, Any] = {}
    first = 6 if with_normals else 3
    if coloured and rows.shape[1] >= first + 3:
        width = rows.shape[1] - first - (2 if textured else 0)
        colours["vertex_colors"] = _bytes(rows[:, first : first + min(width, 4)])
    else:
        own = [line[1 + int(line[0]) :][:3] for line in below]
        told = [len(colour) == 3 for colour in own]  # one number alone is a place in a table that is not in the file
        if any(told):
            painted = np.full((len(own), 3), GREY)
            painted[told] = _bytes(np.array([colour for colour in own if len(colour) == 3], np.float64))
            colours["face_colors"] = painted[owner]
    return trimesh.Trimesh(rows[:, :3], triangles.reshape(-1, 3), process=False, **colours)


def _bytes(colours: np.ndarray) -> np.ndarray:
    """Colours as bytes; where none is above 1 they are numbers from 0 to 1."""
    return np.clip(np.rint(colours * (255 if colours.max(initial=0) <= 1 else 1)), 0, 255).astype(np.uint8)
