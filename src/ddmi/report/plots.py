"""Line plots as inline SVG, coloured by the page's style so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 30, 40
MOST = 400
"""Points of a line; a longer one is averaged in equal stretches."""


@dataclass(frozen=True)
class Line:
    """A named series of points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / ((high - low) or 1.0) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values inside the range: 1, 2 and 5 of a decade; decades alone where a logarithmic axis has enough."""
        if not self.logarithmic:
            rough = (self.high - self.low) / 5 or 1.0
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
            first = math.ceil(self.low / step - 1e-9)
            return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        inside = [10.0**k for k in range(first, last + 1) if self.low <= 10.0**k * 1.0001 and 10.0**k <= self.high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
        for multiples in ((1, 2, 5), range(1, 10)):
            fine = [m * 10.0**k for k in range(first, last + 1) for m in multiples]
            fine = [value for value in fine if self.low <= value * 1.0001 and value <= self.high * 1.0001]
            if len(fine) >= 3:
                break
        return fine


def plot(
    lines: Sequence[Line],
    x_name: str,
    y_name: str,
    *,
    log_x: bool = False,
    log_y: bool = True,
    dots: bool = False,
) -> str:
    """An SVG of the lines. Values that a logarithmic axis cannot show, zero and below, are left out.

    Args:
        dots: also mark every point, for lines of a few.
    """
    kept = []
    for line in lines:
        points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        points = [(x, y) for x, y in points if (x > 0 or not log_x) and (y > 0 or not log_y)]
        kept.append(_thinned(points))
    everything = [point for points in kept for point in points]
    if not everything:
        return '<p class="soft">Nothing was recorded.</p>'
    across = Axis(*_range([x for x, _ in everything], log_x, 0.06 if dots else 0.0), LEFT, WIDTH - RIGHT, log_x)
    up = Axis(*_range([y for _, y in everything], log_y, 0.06), HEIGHT - BOTTOM, TOP, log_y)
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    for value in across.ticks():
        x = across(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_tick(value)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(
        f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_name)}</text>'
        f'<text class="name" x="{LEFT}" y="{TOP - 14}">{escape(y_name)}</text>'
    )
    for k, (line, points) in enumerate(zip(lines, kept, strict=True)):
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
        if path:
            parts.append(f'<path class="line c{k % 6}" d="M{path}"><title>{escape(line.name)}</title></path>')
        for x, y in points if dots else ():
            parts.append(f'<circle class="line c{k % 6}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>')
    about = escape(f"{y_name}: {', '.join(line.name for line in lines)}")
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">'
    return f"{head}{''.join(parts)}</svg>"


def legend(entries: Sequence[str]) -> str:
    """Colours of the lines, in their order; entries are HTML."""
    return (
        '<ul class="legend">'
        + "".join(f'<li><i class="c{k % 6}"></i>{e}</li>' for k, e in enumerate(entries))
        + "</ul>"
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stretch = math.ceil(len(points) / MOST) or 1
    groups = [points[i : i + stretch] for i in range(0, len(points), stretch)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _range(values: list[float], logarithmic: bool, margin: float) -> tuple[float, float]:
    """Lowest and highest value, widened by a share of their distance."""
    low, high = min(values), max(values)
    if logarithmic:
        ratio = max(high / low, 1.05) ** margin
        return low / ratio, high * ratio
    spread = (high - low) or abs(high) or 1.0
    return low - margin * spread, high + margin * spread


def _tick(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.0e}".split("e")
        power = f'10<tspan dy="-4" font-size="9">{int(exponent)}</tspan>'
        return power if mantissa == "1" else f"{mantissa}×{power}"
    return f"{value:g}"
