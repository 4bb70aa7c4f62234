"""The numbers of a page: kept as metrics.json holds them, and shown from there alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MISSING = "–"


@dataclass(frozen=True)
class Number:
    """A number as a page shows it; `place` is where it stands in metrics.json."""

    place: str
    value: Any
    text: str

    def __str__(self) -> str:
        return self.text


class Numbers:
    """A tree of plain values; places in it are written "reconstruction/scales/2x/psnr", list indices as numbers."""

    def __init__(self, plain: dict[str, Any]) -> None:
        self.plain: dict[str, Any] = _plain(plain)

    def put(self, path: str, value: Any) -> None:
        """Store a plain value, which may be a list or a dict; numbers that JSON cannot write become null."""
        *parents, last = path.split("/")
        place = self.plain
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = _plain(value)

    def get(self, path: str) -> Any:
        """The value at a place, or None where there is none."""
        place: Any = self.plain
        for key in path.split("/"):
            if isinstance(place, list):
                place = place[int(key)] if key.isdigit() and int(key) < len(place) else None
            else:
                place = place.get(key) if isinstance(place, dict) else None
        return place

    def show(self, path: str, form: str = "", unit: str = "") -> Number:
        """The value at a place, formatted, with its unit; a dash where there is none."""
        value = self.get(path)
        if value is None:
            return Number(path, None, MISSING)
        shown = format(value, form) if form and isinstance(value, int | float) else str(value)
        return Number(path, value, shown + unit)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
