"""Convex parts, boxes and upright cylinders and cones, and their union: where it is, and points on its surface.

Exact and fast. y is up, lengths are those of the signal, and a piece that is `framed` is centred with `SIDE` as the
longest side of its box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

SIDE = 2 / 1.1
"""Longest side of the box of every piece."""

COLOURS = {
    "black": (0.16, 0.16, 0.18),
    "blue": (0.20, 0.38, 0.72),
    "brown": (0.50, 0.31, 0.18),
    "green": (0.25, 0.53, 0.31),
    "grey": (0.55, 0.56, 0.58),
    "orange": (0.92, 0.52, 0.16),
    "red": (0.76, 0.18, 0.17),
    "white": (0.93, 0.92, 0.89),
    "yellow": (0.94, 0.79, 0.25),
}
"""RGB in [0, 1] of each colour word."""

Span = tuple[float, float]
_SKIN = 1e-5
"""Distance of a point from its surroundings: far above the rounding of float32, far below any part."""


@dataclass(frozen=True)
class Part:
    """One convex part, given by its box: the box itself, or the upright cylinder or cone section that it holds.

    Args:
        name: what it is, e.g. "leg" or "arm rest".
        low, high: corners of its box, x y z; a round part's box has equal sides along x and z.
        colour: a word of `COLOURS`.
        round: whether it is a cylinder or cone section about its vertical middle line.
        taper: radius at the top over radius at the bottom, in (0, 1]; round parts only.
    """

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: str
    round: bool = False
    taper: float = 1.0


def block(name: str, x: Span, y: Span, z: Span, colour: str) -> Part:
    """A box."""
    return Part(name, (x[0], y[0], z[0]), (x[1], y[1], z[1]), colour)


def disc(name: str, at: Span, radius: float, y: Span, colour: str, taper: float = 1.0) -> Part:
    """A cylinder or cone section that stands at (x, z)."""
    x, z = at
    low, high = (x - radius, y[0], z - radius), (x + radius, y[1], z + radius)
    return Part(name, low, high, colour, round=True, taper=taper)


def around(middle: float, width: float) -> Span:
    """The span of this width about its middle."""
    return middle - width / 2, middle + width / 2


def framed(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts moved and scaled together so that their box is centred and its longest side is `SIDE`."""
    low = [min(part.low[axis] for part in parts) for axis in range(3)]
    high = [max(part.high[axis] for part in parts) for axis in range(3)]
    scale = SIDE / max(h - b for b, h in zip(low, high, strict=True))
    middle = [(b + h) / 2 for b, h in zip(low, high, strict=True)]

    def moved(corner: tuple[float, float, float]) -> tuple[float, float, float]:
        x, y, z = (scale * (c - m) for c, m in zip(corner, middle, strict=True))
        return x, y, z

    return tuple(replace(part, low=moved(part.low), high=moved(part.high)) for part in parts)


class Solid:
    """The union of convex parts: where it is, and points on its surface. The order of parts is kept."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        low, high = (np.array([getattr(p, end) for p in parts], np.float64) for end in ("low", "high"))
        self.low, self.high = low.min(0), high.max(0)
        self._centre, self._half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)

    def levels(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "p n"]:
        """For each part a value that is negative inside, zero on its surface and positive outside."""
        return self._levels(*np.ascontiguousarray(points.T, np.float32))

    def _levels(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Float[np.ndarray, "p *n"]:
        out = np.empty((len(self.parts), *np.broadcast_shapes(x.shape, y.shape, z.shape)), np.float32)
        for level, part, centre, half in zip(out, self.parts, self._centre, self._half, strict=True):
            dy = y - centre[1]
            if part.round:
                taper = np.float32(part.taper)
                slope, middle = (
                    (taper - 1) * half[0] / (2 * half[1]),
                    (taper + 1) * half[0] / 2,
                )  # of the radius along y
                wide = np.sqrt((x - centre[0]) ** 2 + (z - centre[2]) ** 2) - (middle + slope * dy)
            else:
                wide = np.maximum(np.abs(x - centre[0]) - half[0], np.abs(z - centre[2]) - half[2])
            np.maximum(wide, np.abs(dy) - half[1], out=level)
        return out

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points lie in the union, its surface included."""
        return np.any(self.levels(points) <= 0, axis=0)

    def grid(self, size: int) -> Bool[np.ndarray, "n n n"]:
        """`inside` at the cell centres of a grid over [-1, 1], in array order (z, y, x), several times as fast."""
        line = (np.arange(1, 2 * size, 2) / size - 1).astype(np.float32)
        return np.any(self._levels(line, line[:, None], line[:, None, None]) <= 0, axis=0)

    def owner(self, points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n"]:
        """The part on whose surface each point of the union's surface lies; the first where several share it."""
        levels = self.levels(points)
        return (levels <= levels.min(0) + _SKIN).argmax(0)

    @cached_property
    def _faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The faces of all parts, flat ones first: rows of flat and of turned ones, the part of each, and its area.

        A flat face is a corner, two edges and the normal. A turned one is a straight line of (radius, height) that goes
        round the vertical through x, z: r0, r1, y0, y1, x, z, and its normal's lengths outward and upward.
        """
        flat, turned = [], []  # (row, part, area)
        for index, part in enumerate(self.parts):
            low, high = np.array(part.low), np.array(part.high)
            if part.round:
                radius, x, z = (high[0] - low[0]) / 2, (low[0] + high[0]) / 2, (low[2] + high[2]) / 2
                profile = [(0.0, low[1]), (radius, low[1]), (radius * part.taper, high[1]), (0.0, high[1])]
                for (r0, y0), (r1, y1) in pairwise(profile):
                    length = math.hypot(r1 - r0, y1 - y0)
                    row = [r0, r1, y0, y1, x, z, (y1 - y0) / length, (r0 - r1) / length]
                    turned.append((row, index, math.pi * (r0 + r1) * length))
                continue
            edges = np.diag(high - low)
            for axis in range(3):
                first, second = edges[(axis + 1) % 3], edges[(axis + 2) % 3]
                for end, sign in ((low, -1.0), (high, 1.0)):
                    corner = np.where(np.arange(3) == axis, end, low)
                    flat.append(
                        ([*corner, *first, *second, *np.eye(3)[axis] * sign], index, first.sum() * second.sum())
                    )
        rows, lines = (np.array([row for row, *_ in faces], np.float32) for faces in (flat, turned))
        _, parts, areas = zip(*flat, *turned, strict=True)
        return rows.reshape(-1, 12), lines.reshape(-1, 8), np.array(parts), np.array(areas)

    def _sampled(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"], Int[np.ndarray, "n"]]:
        """Points uniform by area on the faces of all parts, hidden ones too; their normals; their parts."""
        rows, lines, parts, areas = self._faces
        bound = np.cumsum(areas) / np.sum(areas)
        bound[-1] = 1.0
        face = bound.searchsorted(rng.random(count), side="right")
        u, v = 1 - rng.random((2, count), np.float32)  # above 0
        points, normals = np.empty((2, count, 3), np.float32)
        flat, turned = np.flatnonzero(face < len(rows)), np.flatnonzero(face >= len(rows))
        if flat.size:
            row = rows.take(face[flat], axis=0)
            points[flat] = row[:, :3] + u[flat, None] * row[:, 3:6] + v[flat, None] * row[:, 6:9]
            normals[flat] = row[:, 9:]
        if turned.size:
            r0, r1, y0, y1, x, z, out, up = lines.take(face[turned] - len(rows), axis=0).T
            area, angle = u[turned], np.float32(2 * math.pi) * v[turned]
            along = area * (r0 + r1) / (r0 + np.sqrt(r0**2 + area * (r1**2 - r0**2)))  # density as the radius
            radius, cos, sin = r0 + along * (r1 - r0), np.cos(angle), np.sin(angle)
            points[turned] = np.stack([x + radius * cos, y0 + along * (y1 - y0), z + radius * sin], 1)
            normals[turned] = np.stack([out * cos, up, out * sin], 1)
        return points, normals, parts[face]

    def surface(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points on the surface of the union, uniform by area, and outward unit normals; float32.

        A point of one part is dropped when its other side (a hair along the normal) is in another part, so faces that
        touch are both gone; where faces of two parts coincide and look the same way, the first part's points stay.
        """
        points, normals, _ = self._visible(round(1.04 * count / self._shown) + 16, rng)
        while len(points) < count:
            more = self._visible(count + 16, rng)
            points, normals = np.concatenate([points, more[0]]), np.concatenate([normals, more[1]])
        return points[:count], normals[:count]

    def _visible(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"], float]:
        """Those of `_sampled` that are on the union's surface, and their share."""
        points, normals, part = self._sampled(count, rng)
        if len(self.parts) == 1:
            return points, normals, 1.0
        levels = self.levels(points)
        levels[part, np.arange(count)] = np.inf  # of the others alone
        keep = np.all(levels > -4 * _SKIN, axis=0)
        touching = np.flatnonzero(keep & np.any(levels < 4 * _SKIN, axis=0))
        at, step, own = points[touching], _SKIN * normals[touching], part[touching]
        before, behind = self.levels(at + step) <= 0, self.levels(at - step) <= 0
        behind &= np.arange(len(self.parts))[:, None] < own
        keep[touching] = ~np.any(before | behind, axis=0)
        return points[keep], normals[keep], float(keep.mean())

    @cached_property
    def _shown(self) -> float:
        """The share of the parts' surface that is on the union's, about."""
        return self._visible(1000, np.random.default_rng(0))[2]
