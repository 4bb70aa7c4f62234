"""Presets: functions that return complete configurations. `find("emoji-32")` calls the function `emoji_32`.

Each file holds the presets of one domain, whose name it has, and its demonstration: the function `demo`. A domain of
another package has the latter in its own module.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddmi.base.errors import UserError, unknown

if TYPE_CHECKING:
    from ddmi.config import Config


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A configuration to demonstrate a domain with, whose data comes with the installed packages.

    Args:
        config: complete, with the fewest steps of stage 2.
        minutes: time that stage 2 is given: it always gets better with more steps, so a faster machine does more.
        samples: that metrics look at.
    """

    config: Config
    minutes: float
    samples: int


def demos() -> list[str]:
    """The domains that may have a demonstration: all that come with the package, and those of other packages."""
    from ddmi import domains  # torch

    return [*dict.fromkeys(name for name, node in _parsed() if node.name == "demo"), *domains.installed()]


def demo(domain: str) -> Demo:
    """The demonstration of a domain. Raises UserError with the nearest name when there is none."""
    from ddmi import domains

    if domain not in demos():
        raise unknown("demo", domain, demos())
    own = domain in domains.names()
    module = importlib.import_module(f"{__name__}.{domain}") if own else sys.modules[domains.find(domain).__module__]
    if "demo" not in vars(module):
        raise UserError(f"the domain {domain} has no demonstration: {module.__name__} defines no function demo")
    return module.demo()


def listed() -> list[tuple[str, str, str]]:
    """(preset, domain, what it is in one line) of every preset, read from the files without importing torch."""
    found = []
    for domain, node in _parsed():
        if isinstance(node.returns, ast.Name) and node.returns.id == "Config":
            title = (ast.get_docstring(node) or "").partition("\n")[0]
            found.append((node.name.replace("_", "-"), domain, title))
    return sorted(found)


def _parsed() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every public function of the files of presets, with the name of its domain."""
    for info in pkgutil.iter_modules(__path__):
        file = Path(__path__[0]) / f"{info.name}.py"
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield info.name, node


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
