"""Who made the data of a page, where a prepared folder tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

CREDITS = "credits.jsonl"
"""Beside prepared meshes: {"model", "creator", "license", ...} a line."""


def credits(evaluated: Evaluated) -> list[str]:
    """Who made the models of the data, a line for each licence, where the prepared folder tells it."""
    root = getattr(evaluated.held_out.source, "root", None)  # type: ignore[attr-defined]
    return [] if root is None else named(Path(root))


def named(root: Path) -> list[str]:
    """Who made the models of a prepared folder, a line for each licence; [] where the folder does not tell."""
    path = root / CREDITS
    if not path.is_file():
        return []
    makers: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            continue
        maker = row.get("creator") or row.get("source") or row.get("model", "")
        makers.setdefault(row.get("license", ""), set()).add(maker)
    data = {name: f"Models in the data, {name}" if name else "Models in the data" for name in sorted(makers)}
    return [f"{told}: {', '.join(sorted(makers[name]))}." for name, told in data.items()]
