"""Which part of a source of data is trained on, and which is held out."""

from __future__ import annotations

import hashlib
from typing import Literal, Protocol, runtime_checkable

from ddmi.base.errors import UserError


@runtime_checkable
class Splittable(Protocol):
    """What every source has, whatever it holds."""

    names: list[str]  # stable, unique
    parts: list[str] | None  # "train", "val" or "test" of each where the set is split already, else None

    @property
    def groups(self) -> list[list[int]]:
        """Indices that are variants of one subject; [[0], [1], ...] when there are none."""
        ...


def split(source: Splittable, part: Literal["train", "test", "all"], held_out: float = 0.05) -> list[int]:
    """Indices of one part of a source, in order; variants of one subject are always on one side.

    A source that comes already split keeps its own parts; "test" is then its test part, or its val part when it has no
    test part. Otherwise a group goes to the test part when the SHA-256 of its first name, read as a fraction of 2^256,
    is below `held_out`: adding items moves no others. With two groups or more neither part is empty; one group alone is
    all "train".
    """
    if part not in ("train", "test", "all"):
        raise UserError(f"unknown part {part!r}: allowed are train, test, all")
    if not 0 < held_out < 1:
        raise UserError(f"held_out must lie between 0 and 1, not {held_out}")
    if part == "all":
        return list(range(len(source.names)))
    if source.parts is not None:
        wanted = part if part in source.parts else "val"
        return [index for index, given in enumerate(source.parts) if given == wanted]

    digests = [hashlib.sha256(source.names[group[0]].encode()).digest() for group in source.groups]
    fractions = [int.from_bytes(digest[:8], "big") / 2**64 for digest in digests]
    order = sorted(range(len(fractions)), key=fractions.__getitem__)
    count = sum(fraction < held_out for fraction in fractions)
    count = max(1, min(count, len(order) - 1)) if len(order) > 1 else 0
    chosen = order[:count] if part == "test" else order[count:]
    return sorted(index for group in chosen for index in source.groups[group])
