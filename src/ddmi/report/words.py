"""What a page says of numbers, from texts.toml: words for their keys, notes on metrics, the numbers that sum up."""

from __future__ import annotations

import functools
import math
import string
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddmi.report.content import Block, Inline, Section
from ddmi.report.numbers import Number, Numbers

FEW = 1000
"""Samples below which precision and recall are marked as those of few."""
SHARES = ("precision", "recall", "share", "chance", "cov", "nna", "ssim", "iou")
"""Keys, or the ends of keys, of numbers from 0 to 1."""


@functools.cache
def texts() -> dict[str, Any]:
    """The whole file."""
    return tomllib.loads(Path(__file__).with_name("texts.toml").read_text(encoding="utf-8"))


def words(key: str) -> str:
    """A key of metrics.json in words."""
    return texts()["words"].get(key, key.replace("_", " "))


def with_unit(key: str) -> str:
    """A key in words for the axis of a chart, which always has a unit."""
    found = words(key)
    if found.endswith(")"):
        return found
    return f"{found} ({'share' if key.endswith(SHARES) else 'no unit'})"


def form(value: Any) -> str:
    """The format of a number: digits after the point by its size, so that three or more say something."""
    if not isinstance(value, float) or not math.isfinite(value):
        return ","
    if 0 < abs(value) < 0.1:
        return f".{min(2 - math.floor(math.log10(abs(value))), 9)}f"
    return ".2f" if abs(value) >= 10 else ".3f"


def section(key: str, numbers: Numbers, blocks: Sequence[Block] = (), domain: str = "", **values: Any) -> Section:
    """A section with its texts: those of the domain, else those of all; `values` are put into them.

    {about} stands for what the domain has to add to a text of all.
    """
    about = texts().get(domain, {}).get("about", {}).get(key, "")
    values = {"about": about.format_map(values), **values}
    found = {**texts(), **texts().get(domain, {})}["sections"].get(key) or texts()["sections"][key]
    title = found["title"].format_map(values)
    return Section(key, found["short"], title, _filled(found["lead"], numbers, values), blocks)


def _filled(text: str, numbers: Numbers, values: dict[str, Any]) -> Inline:
    """{a/b:form|unit} becomes a number, {name:form} a value."""
    parts: list[Any] = []
    for literal, name, spec, _ in string.Formatter().parse(text):
        parts.append(literal)
        if name and "/" in name:
            form, _, unit = (spec or "").partition("|")
            parts.append(numbers.show(name, form, unit))
        elif name:
            parts.append(format(values[name], spec or ""))
    return tuple(parts)


def note(domain: str, metric: str) -> str:
    """How to read a metric of a domain, "" where nothing is to be said."""
    return texts().get(domain, {}).get("notes", {}).get(metric, "")


def headlines(domain: str, numbers: Numbers) -> list[tuple[str, tuple[str | Number, ...]]]:
    """The numbers that sum a run up, those that it has, each beside the one that it compares with."""
    found: list[tuple[str, tuple[str | Number, ...]]] = []
    for line in texts().get(domain, {}).get("headlines", ()):
        if numbers.get(line["path"]) is None:
            continue
        how = (line["form"], line.get("unit", ""))
        value: tuple[Any, ...] = (numbers.show(line["path"], *how),)
        if "beside" in line and numbers.get(line["beside"][1]) is not None:
            value = (*value, f" ({line['beside'][0]} ", numbers.show(line["beside"][1], *how), ")")
        if line["path"] == "distributions/precision":
            value = (*value, *few(numbers, "distributions"))
        found.append((line["label"], value))
    return found


def few(numbers: Numbers, metric: str) -> tuple[Any, ...]:
    """`; few samples: 64` where a metric looked at few."""
    count = numbers.get(f"{metric}/protocol/samples")
    return () if count is None or count >= FEW else ("; few samples: ", numbers.show(f"{metric}/protocol/samples"))
