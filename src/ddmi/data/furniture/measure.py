"""Counting legs, arm rests and boards on an occupancy grid, so that generated furniture can be held against its prompt.

Grids are in array order (z, y, x), as `ddmi.base.coordinates.grid` gives them: y up, the back of a chair at low z. The
heights and shares below were chosen on grids of 64^3 and scale with the grid.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import UserError, missing_extra, unknown
from ddmi.data.furniture import Furniture
from ddmi.data.furniture.pieces import Trait

LEG_HEIGHTS = (0.04, 0.28)
"""Between which shares of its own height a piece is sliced for legs: above the floor, below seats and lower boards."""

LEAST_LEG = 0.02
"""Least area of a leg, in square units of the signal: a square of 0.14. Smaller things are crumbs."""


CELLS = 64
"""Side of the grid on which pieces of the data are measured."""

ASKED = {"legs": ("chair", "stool", "table"), "arm_rests": ("chair",), "boards": ("shelf",)}
"""What can be measured, and on which kinds it is asked for."""


def judge(occupied: Bool[np.ndarray, "n n n"], trait: str) -> Trait:
    """The value of one trait of `ASKED` as measured on a grid.

    Raises:
        UserError: the trait is none that can be measured.
    """
    if trait not in ASKED:
        raise unknown("trait", trait, ASKED)
    return {"legs": legs, "arm_rests": arm_rests, "boards": boards}[trait](occupied)


def accuracy(source: Furniture, trait: str, count: int = 200) -> float:
    """The share of true pieces (the first `count` that can have the trait) of which `judge` tells it rightly.

    Raises:
        UserError: the trait is none that can be measured, or no piece has it.
    """
    if trait not in ASKED:
        raise unknown("trait", trait, ASKED)
    asked = list(islice((piece for piece in source.pieces if piece.kind in ASKED[trait]), count))
    if not asked:
        raise UserError(f"furniture: none of {len(source.pieces)} pieces is a {' or '.join(ASKED[trait])}; take more")
    return sum(judge(piece.solid.grid(CELLS), trait) == piece.traits[trait] for piece in asked) / len(asked)


def cleaned(occupied: Bool[np.ndarray, "n n n"]) -> Bool[np.ndarray, "z y x"]:
    """The grid without loose crumbs (under 1 % of what is occupied), cut to the box of the rest; empty when none is.

    Raises:
        MissingPackage: scipy is not installed.
    """
    found, count = _components(occupied)
    sizes = np.bincount(found.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = (sizes >= max(1, 0.01 * sizes.sum()))[found]
    if not kept.any():
        return kept[:0, :0, :0]
    spans = [np.flatnonzero(kept.any(tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    z, y, x = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return kept[z, y, x]


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
    counts = Counter(_areas(body[:, level], least) for level in range(min(first, height - 1), max(last, first + 1)))
    return max(counts, key=lambda number: (counts[number], number))


def arm_rests(occupied: Bool[np.ndarray, "n n n"]) -> bool:
    """Whether a chair has arm rests: something above the seat along both of its sides, in front of the back."""
    body = cleaned(occupied)
    if not body.size:
        return False
    depth, height, width = body.shape
    seat = _seat(body)
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
    filled = _coverage(middle) >= 0.5
    return int(filled[0]) + int((filled[1:] & ~filled[:-1]).sum())


def _seat(body: Bool[np.ndarray, "z y x"]) -> int:
    """The level of the top of a chair's seat: the highest between 0.3 and 0.65 of its height that is nearly full."""
    height = body.shape[1]
    start, stop = round(0.3 * height), max(round(0.65 * height), round(0.3 * height) + 1)
    filled = _coverage(body)[start:stop]
    return start + int(np.flatnonzero(filled >= 0.75 * filled.max())[-1])


def _coverage(body: Bool[np.ndarray, "z y x"]) -> Float[np.ndarray, "y"]:
    """The share of each level that is occupied."""
    return body.mean((0, 2))


def _areas(level: Bool[np.ndarray, "z x"], least: float) -> int:
    """Separate areas of a level slice that have at least so many cells."""
    found, _ = _components(level)
    return int((np.bincount(found.ravel())[1:] >= least).sum())


def _components(occupied: Bool[np.ndarray, "*size"]) -> tuple[np.ndarray, int]:
    """Connected components that share faces, numbered from 1; and how many."""
    try:
        from scipy.ndimage import label
    except ImportError:
        raise missing_extra("scipy", "mesh") from None
    found, count = label(occupied)
    return found, int(count)
