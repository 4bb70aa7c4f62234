"""The terminal: results on standard output; notes, progress and errors, a line each, on standard error."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from ddmi.base.errors import UserError, WorkError, unknown
from ddmi.base.interruption import STATUS

log = logging.getLogger("ddmi")


def rank() -> int:
    """Which of several processes this is: only the first one talks."""
    return int(os.environ.get("RANK", "0"))


def plain(text: str) -> str:
    """The text without what a terminal acts on: control characters, escape sequences and marks that turn the direction
    of writing, which file names and captions may hold, become visible; line breaks and tabs stay.
    """
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _ACTIVE else _escaped(c) for c in text)


_ACTIVE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _escaped(character: str) -> str:
    if character in "\u200c\u200d":  # joiners of letters and of emoji: they shape the text and hide nothing
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _line(text: str) -> str:
    """The text as one plain line."""
    return plain(" ".join(text.split()))


def say(text: str) -> None:
    """A result. Raises WorkError where the standard output is a file on a full disk."""
    if rank() != 0:
        return
    try:
        typer.echo(plain(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WorkError(f"cannot write to the standard output: {error.strerror}") from error


def complain(text: str) -> None:
    """An error, as one line."""
    typer.echo(f"ddmi: error: {_line(text)}", err=True)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    numeric = [all(re.match(r"[\d.,+-]+( [GM]B?)?$|$", c) for c in column[1:]) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def tree(plain: Any, indent: int = 0) -> str:
    """A configuration, one setting a line; lists of plain values stay on theirs."""
    lines = []
    for key, value in plain.items():
        lines.append(" " * indent + (f"{key}:" if isinstance(value, dict) else f"{key}: {json.dumps(value)}"))
        if isinstance(value, dict):
            lines.append(tree(value, indent + 2))
    return "\n".join(lines)


def times(shape: Sequence[int]) -> str:
    """(64, 8, 8) as 64x8x8."""
    return "x".join(str(n) for n in shape)


class Lines(logging.Handler):
    """Log records as one plain line each on standard error; what was said stays said, however often data is read."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it is one that was written."""
        line = _line(record.getMessage())
        if line not in self.said:
            self.said.add(line)
            typer.echo(f"ddmi: {line}", err=True)


@contextmanager
def talking() -> Iterator[None]:
    """Our own warnings on standard error, those of other packages silent (unless python is run with -W)."""
    handler = Lines(logging.WARNING if rank() == 0 else logging.CRITICAL)
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def failed(error: BaseException, interrupted: str = "interrupted") -> int:
    """The exit status of a program that ends with this error, after saying it in a line; `interrupted` is that of
    Ctrl-C.

    Of several processes, one says what is the same in all. With DDMI_TRACEBACK=1 the error is raised again.
    """
    if os.environ.get("DDMI_TRACEBACK"):
        raise error
    status, text = (STATUS, interrupted) if isinstance(error, KeyboardInterrupt) else verdict(error)
    if rank() == 0:
        complain(text)
    elif not isinstance(error, UserError | WorkError):  # these two are the same in every process
        complain(f"process {rank()}: {text}")
    return status


def verdict(error: BaseException) -> tuple[int, str]:
    """Exit status and line for an error."""
    if isinstance(error, typer.BadParameter.__mro__[1]):  # click's UsageError, wherever typer has it from
        context: Any = getattr(error, "ctx", None)
        if name := getattr(error, "option_name", None) if hasattr(error, "possibilities") else None:
            known = [o for p in context.command.params for o in p.opts if o.startswith("--")] + ["--help"]
            return 2, str(unknown("option", name, known))
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return 2, error.format_message() + hint  # type: ignore[attr-defined]
    if isinstance(error, FileNotFoundError):
        return 2, f"{error.filename} does not exist" if error.filename else str(error)
    if isinstance(error, ValueError):
        return 2, str(error)
    if isinstance(error, WorkError):
        return 1, str(error)
    if isinstance(error, MemoryError):
        return 1, f"not enough memory{': ' if str(error) else ''}{error}"
    if isinstance(error, OSError):
        return 1, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return 1, f"{type(error).__name__}: {error} (DDMI_TRACEBACK=1 shows where)"
