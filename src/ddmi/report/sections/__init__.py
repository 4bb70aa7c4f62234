"""What a domain adds to the page, found by its name as the domain itself is: `sections/<name>`.

Such a module has
- `hero(evaluated) -> str`: HTML under the title, "" for nothing;
- `sections(evaluated, numbers) -> list[Section]`: it puts its numbers into `numbers` and shows them from there;
- `credits(evaluated) -> list[str]`: plain lines for the foot of the page;
- `NOTES`: metric name -> how to read it, one or two sentences of plain text;
- `HEADLINES`: the numbers that sum a run up.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ddmi.report.numbers import Headline, Numbers
from ddmi.report.page import Section

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated


@runtime_checkable
class Part(Protocol):
    """The module of a domain."""

    NOTES: Mapping[str, str]
    HEADLINES: Sequence[Headline]

    def hero(self, evaluated: Evaluated) -> str:
        """HTML under the title."""
        ...

    def sections(self, evaluated: Evaluated, numbers: Numbers) -> list[Section]:
        """Sections in their order."""
        ...

    def credits(self, evaluated: Evaluated) -> list[str]:
        """Whose data this is."""
        ...


class Plain:
    """The part of a domain that has none: the page then has curves and metrics alone."""

    NOTES: Mapping[str, str] = {}
    HEADLINES: Sequence[Headline] = ()

    def hero(self, evaluated: Evaluated) -> str:
        """Nothing."""
        return ""

    def sections(self, evaluated: Evaluated, numbers: Numbers) -> list[Section]:
        """None."""
        return []

    def credits(self, evaluated: Evaluated) -> list[str]:
        """None."""
        return []


def find(name: str) -> Part:
    """The part of the domain of that name."""
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"{__name__}.{name}")
    return Plain()
