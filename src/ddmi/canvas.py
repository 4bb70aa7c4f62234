"""Fields as files: sizes and windows as a command line says them, file names, and what is too large for memory."""

from __future__ import annotations

import inspect
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmi.base.coordinates import check_window
from ddmi.base.errors import UserError
from ddmi.domains.base import Domain
from ddmi.field import Field

log = logging.getLogger(__name__)

STREAMED = 200_000_000
"""Bytes of pixels beyond which a picture is written to disk while it is computed."""


def size_of(text: str) -> int | tuple[int, int] | None:
    """`512` or `500x300` (width, then height) as Python knows sizes: 512 or (300, 500)."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:[xX×](\d+))?", text.strip())
    if not match or 0 in (values := [int(v) for v in match.groups() if v is not None]):
        raise UserError(f"--size takes a positive number or WIDTHxHEIGHT, e.g. 512 or 500x300, not {text!r}")
    return values[0] if len(values) == 1 else (values[1], values[0])


def window_of(text: str) -> tuple[float, ...] | None:
    """`-0.5,-0.5,0,0` as numbers, checked; None for an empty text."""
    if not text:
        return None
    try:
        values = tuple(float(v) for v in text.split(","))
    except ValueError as error:
        raise UserError(f"--window takes numbers X0,Y0,X1,Y1 inside [-1, 1], not {text!r}") from error
    try:
        return check_window(values, max(2, len(values) // 2))
    except UserError as error:
        raise UserError(f"--window: {error}") from error


def pair_of(option: str, text: str) -> tuple[float, float] | None:
    """`-0.5,0.5` as two numbers; None for an empty text. The domain knows which are allowed."""
    if not text:
        return None
    try:
        first, second = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} takes two numbers A,B, not {text!r}") from error
    return first, second


def check_folder(folder: Path) -> None:
    """Make sure that this can become a folder, before any work. Raises UserError naming what is in the way."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"--out {folder} cannot be a folder: {place} is a file")
        if place.is_dir():
            if not os.access(place, os.W_OK | os.X_OK):
                raise UserError(f"--out {folder}: {place} is not writable")
            return


def check_file(path: Path) -> None:
    """Make sure that this can become a file, before any work. Raises UserError naming what is in the way."""
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: name a file")
    check_folder(path.parent)


def slug(text: str) -> str:
    """A text as part of a file name: letters and digits of any script, joined by hyphens, at most 40."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "text"


class Names:
    """File names of one command in one folder: none is given twice."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self.ending, self.given = folder, ending, set[str]()

    def free(self, stem: str) -> Path:
        """A path for this stem, with -2, -3 .. behind it when the stem was given before."""
        name, k = stem, 2
        while name in self.given:
            name, k = f"{stem}-{k}", k + 1
        self.given.add(name)
        return self.folder / f"{name}.{self.ending}"


@dataclass(frozen=True)
class Canvas:
    """How fields become files: the options of the domain's `render`, and the file ending."""

    domain: Domain
    size: int | tuple[int, int] | None
    options: dict[str, Any]
    ending: str
    streamed: bool

    @property
    def overview(self) -> str:
        """File ending of several samples in one file, with its point."""
        return self.domain.together(f".{self.ending}")

    def render(self, field: Field) -> Any:
        """What the domain draws."""
        return field.render(self.size, **self.options)

    def write(self, field: Field, path: Path, given: str | None = None) -> Any:
        """Draw into a file; what was drawn is returned (a path when it was streamed).

        Args:
            given: the file that the field was encoded from: what is drawn is placed as that file has it.
        """
        if self.streamed:
            return field.render(self.size, to=path, **self.options)
        drawn = self.render(field)
        if given is not None:
            drawn = self.domain.as_given(drawn, given, f".{self.ending}")
        self.domain.save(drawn, path)
        return drawn

    @staticmethod
    def of(domain: Domain, size: int | tuple[int, int] | None, ending: str, **options: Any) -> Canvas:
        """The canvas of a domain's fields. Raises UserError for what the domain cannot draw, before any is.

        Args:
            ending: of the files, "" for the domain's own.
            options: of the domain's `render`; those that are None do not count.
        """
        understood = inspect.signature(domain.render).parameters
        ending = (ending or domain.suffix).lower().lstrip(".")
        options = {name: value for name, value in options.items() if value is not None}
        for name in [name for name in options if name not in understood]:
            raise UserError(f"--{name} has no meaning for samples of this model")
        height, width = (size, size) if isinstance(size, int) else size or (0, 0)
        streamed = "to" in understood and (ending in ("tif", "tiff") or 3 * height * width > STREAMED)
        if streamed and ending not in ("tif", "tiff"):
            log.warning("%dx%d pixels are more than memory should hold: writing a tiled BigTIFF (.tif)", width, height)
            ending = "tif"
        if streamed and size is None:
            size = int(understood["size"].default)
        domain.check(size, f".{ending}", **options)
        return Canvas(domain, size, options, ending, streamed)
