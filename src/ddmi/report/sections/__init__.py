"""What a domain adds to the page: the class `Report` of the module that has the domain's name, else nothing."""

from __future__ import annotations

import importlib
import pkgutil

from ddmi.report.content import Block
from ddmi.report.scene import Scene


class Plain(Scene):
    """The report of a domain without sections of its own: curves and metrics alone."""

    def hero(self) -> list[Block]:
        return []


def find(name: str) -> type[Scene]:
    """The report of the domain of that name."""
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"{__name__}.{name}").Report
    return Plain
