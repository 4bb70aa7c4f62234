"""Line charts by matplotlib, in colours that are readable on light and on dark pages."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ddmi.report.content import Figure, Inline

COLOURS = ("#3f7fd0", "#cf7a1f", "#2f9660", "#9a63c6", "#d04f58", "#7d858f")
GREY = "#868d96"
WIDTH, HEIGHT = 4.6, 3.0
"""Inches: narrow, so that the text is still large on a phone."""
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "ddmi",
    "font.size": 9.0,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "path",
}

Line = tuple[Sequence[float], Sequence[float]]


def chart(
    lines: Mapping[str, Line],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    dots: bool = False,
    caption: Inline = "",
) -> Figure:
    """Lines by their names, as an SVG image. A value that a logarithmic axis cannot show is left out.

    Args:
        x, y: names of the axes with their units. log_x, log_y: logarithmic where the values span a decade or more.
    """
    import matplotlib
    from matplotlib.figure import Figure as Plot

    kept = {name: [(a, b) for a, b in zip(*line, strict=True) if _shown(a, log_x) and _shown(b, log_y)]
            for name, line in lines.items()}  # fmt: skip
    with matplotlib.rc_context(STYLE):
        plot = Plot(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = plot.subplots()
        for k, (name, points) in enumerate(kept.items()):
            colour = COLOURS[k % len(COLOURS)]
            axes.plot(*zip(*points, strict=True) if points else ((), ()), color=colour, label=name,
                      marker="o" if dots else "", markersize=4, linewidth=1.5)  # fmt: skip
        for axis, wanted, values in (
            (axes.xaxis, log_x, [a for points in kept.values() for a, _ in points]),
            (axes.yaxis, log_y, [b for points in kept.values() for _, b in points]),
        ):
            if wanted and values and max(values) >= 10 * min(values):
                _logarithmic(axis, max(values) / min(values))
        axes.set_xlabel(x)
        axes.set_title(y, loc="left", fontsize=9, color=GREY)
        axes.tick_params(which="both", colors=GREY)
        axes.grid(axis="y", color=GREY, alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.xaxis.label.set_color(GREY)
        plot.legend(loc="outside lower left", ncols=2, frameon=False, labelcolor=GREY)
        stream = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        plot.savefig(stream, format="svg", transparent=True, metadata=nothing)
    source = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
    alt = f"{y} against {x}: {', '.join(lines)}"
    return Figure(source, alt, (round(72 * WIDTH), round(72 * HEIGHT)), caption)


def _shown(value: float, logarithmic: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not logarithmic)


def _logarithmic(axis: object, ratio: float) -> None:
    """Decades, and 2 and 5 of each where there are less than three of them, all with plain numbers."""
    from matplotlib.axis import Axis
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    assert isinstance(axis, Axis)
    axis._set_axes_scale("log")  # type: ignore[attr-defined]
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,)))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())
