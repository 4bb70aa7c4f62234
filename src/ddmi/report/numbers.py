"""The numbers of a page: kept as metrics.json holds them, and shown from there alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

MISSING = "–"


@dataclass(frozen=True)
class Headline:
    """A number that sums a run up: where it stands in metrics.json, and how it is written."""

    label: str
    path: str
    form: str = ".2f"
    unit: str = ""
    beside: str = ""
    """Label and path, split by "=", of a number to compare it with; "" for none."""


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

    def text(self, path: str, form: str = "", unit: str = "") -> str:
        """The value as plain text; a dash where there is none."""
        value = self.get(path)
        if value is None:
            return MISSING
        return (format(value, form) if form and isinstance(value, int | float) else str(value)) + unit

    def show(self, path: str, form: str = "", unit: str = "") -> str:
        """The value as HTML: an element that names its place, so that every number can be traced."""
        value = self.get(path)
        if value is None:
            return MISSING
        shown = escape(self.text(path, form))
        return f'<data value="{escape(str(value))}" data-from="{escape(path)}">{shown}</data>{escape(unit)}'

    def headline(self, found: Headline) -> str:
        """A headline as plain text."""
        text = f"{found.label}: {self.text(found.path, found.form, found.unit)}"
        label, _, path = found.beside.partition("=")
        return f"{text} ({label} {self.text(path, found.form, found.unit)})" if self.get(path) is not None else text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
