"""Presets: functions that return complete configurations. `find("emoji-32")` calls the function `emoji_32`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from ddmi.config import Config
from ddmi.errors import unknown


def functions() -> dict[str, Callable[[], Config]]:
    """Preset name -> function, over all domains."""
    found: dict[str, Callable[[], Config]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
            if own and inspect.signature(value).return_annotation in (Config, "Config"):
                found[name.replace("_", "-")] = value
    return found


def find(name: str) -> Config:
    """The configuration of that name. Raises UserError with the nearest name when there is none."""
    known = functions()
    if name not in known:
        raise unknown("preset", name, known)
    return known[name]()
