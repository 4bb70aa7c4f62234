"""Pieces of furniture, each a union of convex parts, and the six generators that make them.

y is up and z points towards the viewer, so a chair has its back at -z. Every piece is centred and the longest side of
its box is `SIDE`. No part is thinner than 0.09, so that small networks can learn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from ddmi.data.furniture.parts import COLOURS, SIDE, Part, Solid, Span, around, block, disc, framed

Trait = int | bool | str
_T = TypeVar("_T")


@dataclass(frozen=True)
class Piece:
    """A piece of furniture: its kind, its traits, and its parts in the frame of the signal."""

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
    any_kind = dice.one({name: share for name, (_, share) in GENERATORS.items()})
    kind = any_kind if kind is None else kind
    traits, parts = GENERATORS[kind][0](dice)
    return Piece(kind, traits, framed(parts))
