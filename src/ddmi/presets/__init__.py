"""Presets: functions that return complete configurations. `find("emoji-32")` calls the function `emoji_32`.

Each file holds the presets of one domain, whose name it has.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddmi.base.errors import unknown

if TYPE_CHECKING:
    from ddmi.config import Config


def listed() -> list[tuple[str, str, str]]:
    """(preset, domain, what it is in one line) of every preset, read from the files without importing torch."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        file = Path(__path__[0]) / f"{info.name}.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _gives_config(node):
                title = (ast.get_docstring(node) or "").partition("\n")[0]
                found.append((node.name.replace("_", "-"), info.name, title))
    return sorted(found)


def _gives_config(node: ast.FunctionDef) -> bool:
    return isinstance(node.returns, ast.Name) and node.returns.id == "Config"


def functions() -> dict[str, Callable[[], Config]]:
    """Preset name -> function, over all domains."""
    found: dict[str, Callable[[], Config]] = {}
    for name, module, _ in listed():
        found[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name.replace("-", "_"))
    return found


def find(name: str) -> Config:
    """The configuration of that name. Raises UserError with the nearest name when there is none."""
    known = {preset: module for preset, module, _ in listed()}
    if name not in known:
        raise unknown("preset", name, known)
    return functions()[name]()
