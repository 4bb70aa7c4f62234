"""Domains, found by the name of their folder: `find("image")` imports `ddmi.domains.image` and nothing else.

An installed package brings a domain of its own by an entry point of the group `ddmi.domains`: its name, and the module.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib import metadata

from ddmi.base.errors import unknown
from ddmi.domains.base import Domain


def names() -> list[str]:
    """The domains that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def installed() -> dict[str, str]:
    """The domains of other installed packages: name -> module."""
    return {point.name: point.value for point in metadata.entry_points(group=__name__)}


def find(name: str) -> type[Domain]:
    """The domain class of that name.

    A domain of your own is named by its module (`package.module`), which must have been imported before, or be that of
    an entry point: a settings file alone never makes the program import code.

    Raises:
        UserError: no such domain, with the nearest name.
    """
    if name in names():
        module = importlib.import_module(f"{__name__}.{name}")
    elif name in (others := installed()) or name in others.values():
        module = importlib.import_module(others.get(name, name))
    elif name in sys.modules:
        module = sys.modules[name]
    else:
        raise unknown("domain", name, [*names(), *others])
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Domain) and value.__module__ == module.__name__:
            return value
    raise unknown("domain", name, names())


def name_of(domain: Domain) -> str:
    """The inverse of `find`."""
    module = type(domain).__module__
    return module.removeprefix(f"{__name__}.") if module.startswith(f"{__name__}.") else module
