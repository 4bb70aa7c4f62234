"""Pieces of furniture as unions of convex parts: their geometry, exact and fast, and the six generators.

y is up and z points towards the viewer, so a chair has its back at -z. Lengths are those of the signal: every piece is
centred and the longest side of its box is `SIDE`. No part is thinner than 0.09, so that small networks can learn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

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

Trait = int | bool | str
Span = tuple[float, float]
_T = TypeVar("_T")
_SKIN = 1e-5  # how far in front of a point its surroundings are asked; far above float32 rounding, far below any part


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


@dataclass(frozen=True)
class _Faces:
    """The faces of all parts, flat ones first; `bound` is the cumulated share of the area, `part` whose face it is.

    A flat face is a corner, two edges and the normal. A turned one is a straight line of (radius, height) that goes
    round the vertical through x, z: r0, r1, y0, y1, x, z, and its normal's lengths outward and upward.
    """

    flat: Float[np.ndarray, "f 12"]
    turned: Float[np.ndarray, "t 8"]
    part: Int[np.ndarray, "faces"]
    bound: Float[np.ndarray, "faces"]
    area: float


class Solid:
    """The union of convex parts as arrays: where it is, and points on its surface. The order of parts is kept."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        low, high = (np.array([getattr(p, end) for p in parts], np.float64) for end in ("low", "high"))
        self.low, self.high = low.min(0), high.max(0)
        self._boxes = np.flatnonzero([not p.round for p in parts])
        self._rounds = np.flatnonzero([p.round for p in parts])
        self._centre, self._half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
        taper = np.array([p.taper for p in parts], np.float32)[self._rounds]
        bottom, rise = self._half[self._rounds, 0], 2 * self._half[self._rounds, 1]
        self._slope = (taper - 1) * bottom / rise  # of the radius along y
        self._middle = (taper + 1) * bottom / 2  # radius at half height

    def levels(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "p n"]:
        """For each part a value that is negative inside, zero on its surface and positive outside."""
        x, y, z = np.ascontiguousarray(points.T, np.float32)
        out = np.empty((len(self.parts), len(points)), np.float32)
        centre, half = self._centre[:, :, None], self._half[:, :, None]
        b, r = self._boxes, self._rounds
        dy = y - centre[:, 1]
        high = np.abs(dy) - half[:, 1]
        if b.size:
            wide = np.maximum(np.abs(x - centre[b, 0]) - half[b, 0], np.abs(z - centre[b, 2]) - half[b, 2])
            out[b] = np.maximum(wide, high[b])
        if r.size:
            radius = self._middle[:, None] + self._slope[:, None] * dy[r]
            out[r] = np.maximum(np.sqrt((x - centre[r, 0]) ** 2 + (z - centre[r, 2]) ** 2) - radius, high[r])
        return out

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points lie in the union, its surface included."""
        return np.any(self.levels(points) <= 0, axis=0)

    def grid(self, size: int) -> Bool[np.ndarray, "n n n"]:
        """Which cell centres of a grid over [-1, 1] are in the union, in array order (z, y, x): `inside`, but faster.

        A part is asked in its own box only.
        """
        line = (np.arange(1, 2 * size, 2) / size - 1).astype(np.float32)
        found = np.zeros((size, size, size), bool)
        for index, part in enumerate(self.parts):
            centre, half = self._centre[index], self._half[index]
            x, y, z = (np.flatnonzero(np.abs(line - c) <= h) for c, h in zip(centre, half, strict=True))
            if not (x.size and y.size and z.size):
                continue
            block = found[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1]
            if not part.round:
                block[:] = True
                continue
            radius = half[0] * (1 - (1 - part.taper) * (line[y] - centre[1] + half[1]) / (2 * half[1]))
            away = np.sqrt((line[x] - centre[0]) ** 2 + (line[z, None] - centre[2]) ** 2)
            block |= away[:, None] <= radius[:, None]
        return found

    def owner(self, points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n"]:
        """The part on whose surface each point of the union's surface lies; the first where several share it."""
        levels = self.levels(points)
        return (levels <= levels.min(0) + _SKIN).argmax(0)

    @cached_property
    def _faces(self) -> _Faces:
        flat, turned, flat_part, turned_part, areas = [], [], [], [], []
        turned_areas = []
        for index, part in enumerate(self.parts):
            low, high = np.array(part.low), np.array(part.high)
            if part.round:
                radius, x, z = (high[0] - low[0]) / 2, (low[0] + high[0]) / 2, (low[2] + high[2]) / 2
                profile = [(0.0, low[1]), (radius, low[1]), (radius * part.taper, high[1]), (0.0, high[1])]
                for (r0, y0), (r1, y1) in pairwise(profile):
                    length = math.hypot(r1 - r0, y1 - y0)
                    turned.append([r0, r1, y0, y1, x, z, (y1 - y0) / length, (r0 - r1) / length])
                    turned_areas.append(math.pi * (r0 + r1) * length)
                    turned_part.append(index)
                continue
            edges = np.diag(high - low)
            for axis in range(3):
                first, second = edges[(axis + 1) % 3], edges[(axis + 2) % 3]
                for end, sign in ((low, -1.0), (high, 1.0)):
                    corner = np.where(np.arange(3) == axis, end, low)
                    flat.append(np.concatenate([corner, first, second, np.eye(3)[axis] * sign]))
                    areas.append(first.sum() * second.sum())
                    flat_part.append(index)
        areas += turned_areas
        bound = np.cumsum(areas) / np.sum(areas)
        bound[-1] = 1.0
        rows, lines = np.array(flat, np.float32).reshape(-1, 12), np.array(turned, np.float32).reshape(-1, 8)
        return _Faces(rows, lines, np.array(flat_part + turned_part), bound, float(np.sum(areas)))

    def _draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"], Int[np.ndarray, "n"]]:
        """Points uniform by area on the faces of all parts, hidden ones too; their normals; their parts."""
        faces = self._faces
        face = faces.bound.searchsorted(rng.random(count), side="right")
        u, v = 1 - rng.random((2, count), np.float32)  # above 0
        points, normals = np.empty((2, count, 3), np.float32)
        flat, turned = np.flatnonzero(face < len(faces.flat)), np.flatnonzero(face >= len(faces.flat))
        if flat.size:
            row = faces.flat.take(face[flat], axis=0)
            points[flat] = row[:, :3] + u[flat, None] * row[:, 3:6] + v[flat, None] * row[:, 6:9]
            normals[flat] = row[:, 9:]
        if turned.size:
            r0, r1, y0, y1, x, z, out, up = faces.turned.take(face[turned] - len(faces.flat), axis=0).T
            area, angle = u[turned], np.float32(2 * math.pi) * v[turned]
            along = area * (r0 + r1) / (r0 + np.sqrt(r0**2 + area * (r1**2 - r0**2)))  # density as the radius
            radius, cos, sin = r0 + along * (r1 - r0), np.cos(angle), np.sin(angle)
            points[turned] = np.stack([x + radius * cos, y0 + along * (y1 - y0), z + radius * sin], 1)
            normals[turned] = np.stack([out * cos, up, out * sin], 1)
        return points, normals, faces.part[face]

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
        """What `_draw` gave and is on the union's surface, and the share that it is."""
        points, normals, part = self._draw(count, rng)
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

    def area(self, count: int, rng: np.random.Generator) -> float:
        """Area of the union's surface, estimated from `count` points on the parts."""
        return self._faces.area * self._visible(count, rng)[2]

    @cached_property
    def _shown(self) -> float:
        """The share of the parts' surface that is on the union's, about."""
        return self._visible(1000, np.random.default_rng(0))[2]


@dataclass(frozen=True)
class Piece:
    """A piece of furniture: its kind, what can be said about it, and its parts in the frame of the signal."""

    kind: str
    traits: dict[str, Trait]
    parts: tuple[Part, ...]

    @cached_property
    def solid(self) -> Solid:
        """The geometry."""
        return Solid(self.parts)


class Dice:
    """The choices that a generator makes."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        """A length."""
        return low + (high - low) * float(self.rng.random())

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return float(self.rng.random()) < share

    def one(self, options: dict[_T, float]) -> _T:
        """One option, by weight."""
        at = float(self.rng.random()) * sum(options.values())
        for option, weight in options.items():
            at -= weight
            if at < 0:
                return option
        return next(reversed(options))


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


Made = tuple[dict[str, Trait], list[Part]]


def stand(dice: Dice, count: int, height: float, half: Span, on_round: bool, colour: str) -> Made:
    """Legs from the floor to `height` under a top of these half sides (x, z).

    One is a pole on a round base, two are wide ones across, three and four stand near the corners.
    """
    a, b = half
    if count == 1:
        foot = dice.between(0.1, 0.13)
        base = disc("base", (0, 0), max(0.32, dice.between(0.6, 0.85) * min(a, b)), (0, foot), colour)
        return {}, [base, disc("pole", (0, 0), dice.between(0.08, 0.13), (foot, height), colour)]
    if count == 2:
        wide, inset = dice.between(0.13, 0.2), dice.between(0.0, 0.25)
        spans = [around(side * (a - inset - wide / 2), wide) for side in (-1, 1)]
        return {}, [block("leg", x, (0, height), (-0.85 * b, 0.85 * b), colour) for x in spans]
    wide, is_round = dice.between(0.13, 0.2), dice.chance(0.5)
    inset = dice.between(0.0, 0.06)
    if on_round:
        ring = a - inset - wide * (0.5 if is_round else math.sqrt(0.5))
        turn = math.pi / 4 if count == 4 else math.pi / 2
        angles = [turn + 2 * math.pi * k / count for k in range(count)]
        spots = [(ring * math.cos(angle), ring * math.sin(angle)) for angle in angles]
    else:
        x, z = (max(end - inset - wide / 2, wide / 2 + 0.06) for end in half)  # the gap stays wider than 0.12
        spots = [(-x, z), (x, z), (-x, -z), (x, -z)] if count == 4 else [(-x, z), (x, z), (0.0, -z)]
    traits: dict[str, Trait] = {"leg_shape": "round" if is_round else "square"}
    if is_round:
        return traits, [disc("leg", spot, wide / 2, (0, height), colour) for spot in spots]
    return traits, [block("leg", around(x, wide), (0, height), around(z, wide), colour) for x, z in spots]


def slab(name: str, is_round: bool, half: Span, y: Span, colour: str) -> Part:
    """A round or rectangular plate about the middle: a seat, a top."""
    a, b = half
    return disc(name, (0, 0), a, y, colour) if is_round else block(name, (-a, a), y, (-b, b), colour)


def backrest(dice: Dice, style: str, width: float, y: Span, z: Span, colour: str) -> list[Part]:
    """A back over this width: one plate ("solid"), upright slats under a rail ("slatted"), or an open "frame"."""
    if style == "solid":
        return [block("back", around(0, width), y, z, colour)]
    rail, wide = dice.between(0.14, 0.2), dice.between(0.11, 0.14)
    count = 2 if style == "frame" else max(3, round(width / 0.29))
    middles = np.linspace(-(width - wide) / 2, (width - wide) / 2, count)
    uprights = [block("back", around(float(x), wide), (y[0], y[1] - rail), z, colour) for x in middles]
    return [block("back", around(0, width), (y[1] - rail, y[1]), z, colour), *uprights]


def colours(dice: Dice) -> tuple[dict[str, Trait], str, str]:
    """The main colour, and that of what carries it: most often the same."""
    weights = dict.fromkeys(COLOURS, 1.0) | {"brown": 2.0}
    main = dice.one(weights)
    carrier = main if dice.chance(0.5) else dice.one({"black": 1.0, "brown": 1.0, "grey": 1.0, "white": 1.0})
    return {"colour": main, "leg_colour": carrier}, main, carrier


def chair(dice: Dice) -> Made:
    """A seat with a back, on one, three or four legs, with or without arm rests."""
    tint, main, carrier = colours(dice)
    arms, style = dice.chance(0.5), dice.one({"solid": 0.4, "slatted": 0.3, "frame": 0.3})
    on_round = not arms and dice.chance(0.3)
    legs = dice.one({4: 0.5, 3: 0.25, 1: 0.25})
    width, depth = dice.between(0.88, 1.15), dice.between(0.85, 1.1)
    half = (width / 2, width / 2 if on_round else depth / 2)
    top, thick = dice.between(0.4, 0.5) * SIDE, dice.between(0.11, 0.17)
    more, parts = stand(dice, legs, top - thick, half, on_round, carrier)
    parts.append(slab("seat", on_round, half, (top - thick, top), main))
    deep = dice.between(0.1, 0.14)
    rear = -half[1] * (0.88 if on_round else 1.0)
    across = width * (0.82 if on_round else dice.between(0.9, 1.0))
    parts += backrest(dice, style, across, (top - thick if on_round else top, SIDE), (rear, rear + deep), main)
    if arms:
        rise, wide, flat = dice.between(0.3, 0.42), dice.between(0.11, 0.16), dice.between(0.1, 0.13)
        front, panel = half[1] - dice.between(0.0, 0.15), dice.chance(0.3)
        for side in (-1, 1):
            x = around(side * (half[0] - wide / 2), wide)
            if panel:
                parts.append(block("arm rest", x, (top, top + rise), (rear + deep, front), main))
            else:
                parts.append(block("arm rest", x, (top + rise - flat, top + rise), (rear + deep, front), main))
                parts.append(block("arm rest", x, (top, top + rise - flat), (front - wide, front), main))
    seat = "round" if on_round else "square"
    return {"legs": legs, **more, "back": style, "arm_rests": arms, "seat": seat, **tint}, parts


def stool(dice: Dice) -> Made:
    """A seat without a back, higher than wide."""
    tint, main, carrier = colours(dice)
    legs, on_round = dice.one({4: 0.4, 3: 0.3, 1: 0.3}), dice.chance(0.5)
    width = SIDE / dice.between(1.2, 1.8)
    half, thick = (width / 2, width / 2), dice.between(0.12, 0.25)
    more, parts = stand(dice, legs, SIDE - thick, half, on_round, carrier)
    parts.append(slab("seat", on_round, half, (SIDE - thick, SIDE), main))
    return {"legs": legs, **more, "seat": "round" if on_round else "square", **tint}, parts


def table(dice: Dice) -> Made:
    """A top wider than high, on one, three or four legs; with four, sometimes a second layer below."""
    tint, main, carrier = colours(dice)
    top, legs = dice.one({"round": 0.35, "square": 0.3, "long": 0.35}), dice.one({4: 0.5, 3: 0.25, 1: 0.25})
    depth = SIDE * (dice.between(0.45, 0.65) if top == "long" else 1.0)
    height, thick = dice.between(0.4, 0.8) * SIDE, dice.between(0.1, 0.15)
    half, on_round = (SIDE / 2, depth / 2), top == "round"
    more, parts = stand(dice, legs, height - thick, half, on_round, carrier)
    parts.append(slab("top", on_round, half, (height - thick, height), main))
    layered = legs == 4 and height > 0.5 * SIDE and dice.chance(0.4)
    if layered:
        x, z = (max((part.low[k] + part.high[k]) / 2 for part in parts if part.name == "leg") for k in (0, 2))
        low = dice.between(0.38, 0.45) * height
        parts.append(slab("board", on_round, (math.hypot(x, z) if on_round else x, z), (low, low + 0.11), main))
    low_or_not = "low" if height < 0.5 * SIDE else "high" if height > 0.68 * SIDE else "middling"
    traits = {"legs": legs, **more, "top": top, "layers": 2 if layered else 1, "height": low_or_not, **tint}
    return traits, parts


def bench(dice: Dice) -> Made:
    """A long seat, with or without a back, on four legs or two wide ones."""
    tint, main, carrier = colours(dice)
    legs, back = dice.one({4: 0.5, 2: 0.5}), dice.one({"none": 0.45, "solid": 0.2, "slatted": 0.2, "frame": 0.15})
    half = (SIDE / 2, dice.between(0.54, 0.72) / 2)
    top, thick = dice.between(0.5, 0.68), dice.between(0.11, 0.16)
    more, parts = stand(dice, legs, top - thick, half, False, carrier)
    parts.append(slab("seat", False, half, (top - thick, top), main))
    if back != "none":
        high, deep = top + dice.between(0.45, 0.7), dice.between(0.1, 0.14)
        parts += backrest(dice, back, SIDE, (top, high), (-half[1], -half[1] + deep), main)
    return {"legs": legs, **more, "back": back, **tint}, parts


def shelf(dice: Dice) -> Made:
    """Boards between two sides, open or with a panel behind."""
    tint, main, carrier = colours(dice)
    boards, panel = dice.one({2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}), dice.chance(0.5)
    high = SIDE if boards > 2 else dice.between(0.55, 0.9) * SIDE
    wide = SIDE if boards == 2 else dice.between(0.5, 0.95) * SIDE
    deep, side, thick = dice.between(0.45, 0.7), dice.between(0.1, 0.14), dice.between(0.1, 0.13)
    lift = dice.between(0.1, 0.2) if dice.chance(0.4) else 0.0
    inner = wide / 2 - side
    parts = [block("side", around(s * (wide - side) / 2, side), (0, high), around(0, deep), carrier) for s in (-1, 1)]
    for low in np.linspace(lift, high - thick, boards):
        parts.append(block("board", (-inner, inner), (float(low), float(low) + thick), around(0, deep), main))
    if panel:
        parts.append(block("back", (-inner, inner), (lift, high), (-deep / 2, -deep / 2 + 0.1), carrier))
    return {"boards": boards, "panel": panel, **tint}, parts


def lamp(dice: Dice) -> Made:
    """A shade on a thin pole (a floor lamp) or on a stout body (a table lamp)."""
    tint, main, carrier = colours(dice)
    place, shade = dice.one({"floor": 1.0, "table": 1.0}), dice.one({"wide": 1.0, "narrow": 1.0})
    taper = dice.between(0.45, 1.0)
    if place == "floor":
        radius = dice.between(0.5, 0.62) if shade == "wide" else dice.between(0.26, 0.36)
        low, foot = SIDE - dice.between(0.4, 0.6), dice.between(0.1, 0.12)
        parts = [disc("base", (0, 0), dice.between(0.3, 0.42), (0, foot), carrier)]
        parts.append(disc("pole", (0, 0), dice.between(0.06, 0.085), (foot, low), carrier))
    else:
        radius = dice.between(0.72, 0.9) if shade == "wide" else dice.between(0.4, 0.52)
        low = SIDE - dice.between(0.65, 0.85)
        body = dice.between(0.2, 0.32)
        parts = [disc("base", (0, 0), body, (0, low - 0.15), carrier, taper=dice.between(0.55, 1.0))]
        parts.append(disc("pole", (0, 0), dice.between(0.08, 0.1), (low - 0.15, low), carrier))
    parts.append(disc("shade", (0, 0), radius, (low, SIDE), main, taper=taper))
    return {"place": place, "shade": shade, **tint}, parts


GENERATORS: dict[str, tuple[Callable[[Dice], Made], float]] = {
    "bench": (bench, 0.12),
    "chair": (chair, 0.32),
    "lamp": (lamp, 0.12),
    "shelf": (shelf, 0.12),
    "stool": (stool, 0.12),
    "table": (table, 0.20),
}
"""Every kind: what makes a piece of it, and its share of all pieces."""


def make(rng: np.random.Generator, kind: str | None = None) -> Piece:
    """A piece of any kind, or of this one, in the frame of the signal: centred, its longest side `SIDE`."""
    dice = Dice(rng)
    drawn = dice.one({name: share for name, (_, share) in GENERATORS.items()})
    kind = drawn if kind is None else kind
    traits, parts = GENERATORS[kind][0](dice)
    return Piece(kind, traits, framed(parts))


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
