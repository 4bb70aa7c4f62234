"""OBJ and MTL files put into the plain form that trimesh reads: what it would misread is changed or refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from ddmi.base.errors import UserError
from ddmi.data.polygons import triangulated

log = logging.getLogger(__name__)

_LIBRARY, _PLACED = "all.mtl", "map_kd_placed"
_NOT_PLAIN = re.compile(r"^f (?:.*[ /]-|\S+ \S+ \S+ \S)", re.MULTILINE)  # counted from the end, or no triangle
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ZERO = re.compile(r"^f (?:.* )?[+-]?0+(?:[/ ]|$)", re.MULTILINE)
_OPTIONS = dict.fromkeys(("blendu", "blendv", "boost", "bm", "cc", "clamp", "imfchan", "texres", "type"), 1)
_OPTIONS |= {"mm": 2}
"""Options of map_Kd beside offset, scale and turbulence, and the number of words behind each."""


def plain(content: bytes, beside: Callable[[str], bytes] | None = None) -> tuple[bytes, _Library | None]:
    """An OBJ file of triangles, all indices positive, and the files that its materials are in.

    Args:
        beside: gives the bytes of another file by its name; None leaves the materials out.

    Raises:
        UserError: a face names vertex 0.
    """
    text = _text(content)
    if found := _ZERO.search(text):
        raise UserError(f"counts its vertices from 0 ({found[0].strip()!r}), OBJ counts from 1: export it again")
    library = None
    if beside is not None:
        library = _Library(re.findall(r"^mtllib (.*)$", text, re.MULTILINE), beside)
    text = re.sub(r"^mtllib .*\n", "", text, flags=re.MULTILINE)
    if _NOT_PLAIN.search(text):
        text = _triangles(text)
    head = f"mtllib {_LIBRARY}\n" if library is not None else ""
    return (head + text).encode(), library


def coloured(mesh: Any) -> None:
    """Lay a mesh's texture as its material says; without a texture, colours of vertices count, not their material's."""
    material = getattr(mesh.visual, "material", None)
    if material is None:
        return
    if getattr(material, "image", None) is None and "color" in mesh.vertex_attributes:
        from trimesh.visual import ColorVisuals

        mesh.visual = ColorVisuals(mesh, vertex_colors=mesh.vertex_attributes["color"])
    elif mesh.visual.uv is not None and _PLACED in getattr(material, "kwargs", {}):
        values = np.array(material.kwargs[_PLACED], np.float64)
        mesh.visual.uv = np.asarray(mesh.visual.uv) * values[:2] + values[2:]


def _text(content: bytes) -> str:
    """Decoded, with plain ends of lines and single blanks, without comments, indents and continued lines."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\\\n", " ").replace("\t", " ")
    text = re.sub(r"^ +", "", text + "\n", flags=re.MULTILINE)
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^((?:v[tn]?|f) [^#\n]*)#.*$", r"\1", text, flags=re.MULTILINE)  # "#" is common in names
    return re.sub(r" +(?= |$)", "", text, flags=re.MULTILINE)


def _triangles(text: str) -> str:
    """The same file with its polygons cut into triangles, and indices that count from the end counted from 1."""
    seen = {"v": 0, "vt": 0, "vn": 0}
    vertices: list[list[str]] = []
    polygons: dict[int, list[str]] = {}  # the corners of each line that has them
    lines = text.split("\n")
    for number, line in enumerate(lines):
        kind, _, rest = line.partition(" ")
        if kind in seen:
            seen[kind] += 1
            if kind == "v":
                vertices.append(rest.split(" ", 3)[:3])
        elif kind == "f":
            corners = rest.split()
            if "-" in rest:
                corners = ["/".join(map(_absolute, corner.split("/"), seen.values())) for corner in corners]
            polygons[number] = corners
    indices = [[int(corner.partition("/")[0]) - 1 for corner in polygon] for polygon in polygons.values()]
    owner, corners_of = triangulated(indices, np.array(vertices, np.float64).reshape(-1, 3))
    names = list(chain.from_iterable(polygons.values()))
    places, cut = list(polygons), dict.fromkeys(polygons, "")
    for k, (a, b, c) in zip(owner.tolist(), corners_of.tolist(), strict=True):
        cut[places[k]] += f"f {names[a]} {names[b]} {names[c]}\n"
    return "\n".join(cut[number].rstrip() if number in cut else line for number, line in enumerate(lines))


def _absolute(index: str, seen: int) -> str:
    return str(seen + 1 + int(index)) if index.startswith("-") else index


class _Library:
    """The materials of all libraries of an OBJ file as one, and their textures: what trimesh calls a resolver."""

    def __init__(self, named: list[str], beside: Callable[[str], bytes]) -> None:
        self._beside = beside
        self._text = "\n".join(_materials(content) for line in named for content in self._contents(line))

    def _contents(self, line: str) -> list[bytes]:
        """The libraries of one line, which is one name with blanks in it, or several names."""
        for names in ([line], line.split()):
            with suppress(OSError):
                return [self._beside(name) for name in names]
        log.warning("the materials %s are not there: their colours are left out", line)
        return []

    def get(self, name: str) -> bytes:
        """The library, or a texture by its name."""
        return self._text.encode() if name == _LIBRARY else self._beside(name)

    __getitem__ = get


def _materials(content: bytes) -> str:
    """An MTL file whose textures are names without options; their scale and offset are a line of their own."""
    lines = []
    for line in _text(content).split("\n"):
        key, _, words = line.partition(" ")
        if key.lower() == "map_kd":
            name, placed = _texture(words.split(" "))
            line = f"map_Kd {name}\n{_PLACED} {' '.join(map(str, placed))}"
        lines.append(line)
    return "\n".join(lines)


def _texture(words: list[str]) -> tuple[str, list[float]]:
    """The name of a texture, and its scale and offset, from the words behind map_Kd."""
    placed = {"s": [1.0, 1.0], "o": [0.0, 0.0], "t": [0.0, 0.0]}
    while len(words) > 1 and words[0][:1] == "-" and (option := words[0][1:].lower()) in (*_OPTIONS, *placed):
        del words[: 1 + _OPTIONS.get(option, 0)]
        for axis in range(3 if option in placed else 0):  # up to three numbers
            if len(words) < 2 or not _NUMBER.fullmatch(words[0]):
                break
            value = float(words.pop(0))
            if axis < 2:
                placed[option][axis] = value
    return " ".join(words), [*placed["s"], *placed["o"]]
