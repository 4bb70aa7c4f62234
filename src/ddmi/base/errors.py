"""The two kinds of failure, told apart by who can act on them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MANY = 40
"""Names beyond which an error lists the nearest ones only."""


class UserError(ValueError):
    """Something the user must change: one line that names the file or option and what is allowed. Exit status 2."""


class MissingPackage(UserError):
    """An optional package is not installed."""


class WorkError(RuntimeError):
    """The work itself failed (a full disk, a diverged loss): one line that says what is left. Exit status 1."""


class Empty(WorkError):
    """A sample holds nothing that could be written (a surface without a face); others may."""


def missing_extra(package: str, extra: str) -> MissingPackage:
    """The error for an optional package that is not installed, with the command that installs it."""
    return MissingPackage(f'this needs the package {package}: pip install "ddmi[{extra}]"')


def check_positive(name: str, value: float | None) -> None:
    """Raises UserError for an option that is given and not more than 0."""
    if value is not None and not value > 0:
        raise UserError(f"{name} must be more than 0, not {value:g}")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises UserError for a setting that is less than what it may be."""
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")


def check_share(name: str, value: float) -> None:
    """Raises UserError for a setting that is no share."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} must be from 0 to 1, not {value:g}")


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist: names the nearest one that does, and what is allowed."""
    names = sorted(allowed)
    nearest = difflib.get_close_matches(given, names, n=8, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    listed = names if len(names) <= MANY else [*(nearest or names[:8]), "..."]
    return UserError(f"unknown {kind} {given!r}: {hint}allowed are {', '.join(listed)}")
