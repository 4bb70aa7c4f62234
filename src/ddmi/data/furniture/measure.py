"""Counting legs, arm rests and boards on an occupancy grid, so that generated furniture can be held against its prompt.

Grids are in array order (z, y, x), as `ddmi.base.coordinates.grid` gives them: y up, the back of a chair at low z. The
heights and shares below were chosen on grids of 64^3 and scale with the grid.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from jaxtyping import Bool

from ddmi.base.errors import UserError, missing_extra, unknown
from ddmi.data.furniture import Furniture
from ddmi.data.furniture.pieces import Trait

LEG_HEIGHTS = (0.04, 0.28)
"""Between which shares of its own height a piece is sliced for legs: above the floor, below seats and lower boards."""
LEAST_LEG = 0.02
"""Least area of a leg, in square units of the signal: a square of 0.14. Smaller things are disconnected components."""
CELLS = 64
"""Side of the grid on which pieces of the data are measured."""


def legs(occupied: Bool[np.ndarray, "n n n"]) -> int:
    """How many legs a piece stands on: the most frequent number of separate areas in level slices above its floor.

    A pole on a base is one leg; nothing at all is 0.
    """
    body = cleaned(occupied)
    if not body.size:
        return 0
    height = body.shape[1]
    first, last = (round(share * height) for share in LEG_HEIGHTS)
    least = LEAST_LEG / 2 * (occupied.shape[0] / 2) ** 2  # cells; half, as edges fall between cells
    levels = range(min(first, height - 1), max(last, first + 1))
    counts = Counter(int((_labelled(body[:, level])[1][1:] >= least).sum()) for level in levels)
    return max(counts, key=lambda number: (counts[number], number))


def arm_rests(occupied: Bool[np.ndarray, "n n n"]) -> bool:
    """Whether a chair has arm rests: something above the seat along both of its sides, in front of the back."""
    body = cleaned(occupied)
    if not body.size:
        return False
    depth, height, width = body.shape
    start, stop = round(0.3 * height), max(round(0.65 * height), round(0.3 * height) + 1)
    filled = body.mean((0, 2))[start:stop]
    seat = start + int(np.flatnonzero(filled >= 0.75 * filled.max())[-1])  # the highest level that is nearly full
    gap = max(2, round(0.05 * height))
    front = slice(round(0.4 * depth), round(0.8 * depth))
    above = body[front, seat + gap : seat + round(0.4 * height)]
    side = max(1, round(0.2 * width))
    return all(bool(rail.any((1, 2)).mean() >= 0.6) for rail in (above[:, :, :side], above[:, :, -side:]))


def boards(occupied: Bool[np.ndarray, "n n n"]) -> int:
    """How many boards a shelf has: runs of levels whose front half is filled between the sides."""
    body = cleaned(occupied)
    if not body.size:
        return 0
    depth, _, width = body.shape
    middle = body[depth // 2 :, :, round(0.3 * width) : max(round(0.7 * width), round(0.3 * width) + 1)]
    filled = middle.mean((0, 2)) >= 0.5
    return int(filled[0]) + int((filled[1:] & ~filled[:-1]).sum())


TRAITS = {"legs": legs, "arm_rests": arm_rests, "boards": boards}
"""What can be measured."""
KINDS = {"legs": ("chair", "stool", "table"), "arm_rests": ("chair",), "boards": ("shelf",)}
"""The kinds of which each trait is measured."""


def measured(occupied: Bool[np.ndarray, "n n n"], trait: str) -> Trait:
    """The value of one of `TRAITS` as measured on a grid.

    Raises:
        UserError: the trait is none that can be measured.
    """
    if trait not in TRAITS:
        raise unknown("trait", trait, TRAITS)
    return TRAITS[trait](occupied)


def accuracy(source: Furniture, trait: str, count: int = 200) -> float:
    """The share of true pieces (the first `count` that can have the trait) of which it is measured right.

    Raises:
        UserError: the trait is none that can be measured, or no piece has it.
    """
    if trait not in TRAITS:
        raise unknown("trait", trait, TRAITS)
    pieces = list(islice((piece for piece in source.pieces if piece.kind in KINDS[trait]), count))
    if not pieces:
        raise UserError(f"furniture: none of {len(source.pieces)} pieces is a {' or '.join(KINDS[trait])}; take more")
    return sum(measured(piece.solid.grid(CELLS), trait) == piece.traits[trait] for piece in pieces) / len(pieces)


def cleaned(occupied: Bool[np.ndarray, "n n n"]) -> Bool[np.ndarray, "z y x"]:
    """The grid without small disconnected components (under 1 % of what is occupied), cut to the box of the rest.

    Empty when nothing is occupied.
    """
    found, sizes = _labelled(occupied)
    sizes[0] = 0
    kept = (sizes >= max(1, 0.01 * sizes.sum()))[found]
    spans = [np.flatnonzero(kept.any(tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    z, y, x = (slice(int(span[0]), int(span[-1]) + 1) if span.size else slice(0) for span in spans)
    return kept[z, y, x]


def _labelled(occupied: Bool[np.ndarray, "*size"]) -> tuple[np.ndarray, np.ndarray]:
    """The component of each cell, connected by faces and counted from 1, and the cells of each; 0 is what is empty.

    Raises:
        MissingPackage: scipy is not installed.
    """
    try:
        from scipy.ndimage import label
    except ImportError:
        raise missing_extra("scipy", "mesh") from None
    found, count = label(occupied)
    return found, np.bincount(found.ravel(), minlength=count + 1)
