"""What the command line says about renderings: sizes, windows, file endings, names and folders of files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddmi.base.coordinates import check_window
from ddmi.base.errors import UserError
from ddmi.domains.base import Domain
from ddmi.rendering.movie import check_ending

log = logging.getLogger(__name__)

STREAMED = 200_000_000
"""Bytes of pixels beyond which an image is written to disk while it is computed."""


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


def checked(
    domain: Domain[Any, Any], ending: str = "", *, size: int | tuple[int, int] | None = None, **options: Any
) -> tuple[str, dict[str, Any]]:
    """The ending of the files, with its point, and the arguments of `Field.render`.

    Args:
        ending: "" for the domain's own.
        options: of the domain's `render`; those that are None do not count.

    Raises:
        UserError: what the domain cannot render or write, before there is any field.
    """
    formats = domain.formats
    ending = f".{ending.lower().lstrip('.')}" if ending else formats.files[0]
    options = {name: value for name, value in options.items() if value is not None}
    for name in options.keys() - set(formats.options):
        raise UserError(f"--{name} has no meaning for samples of this model")
    if size is not None:
        options["size"] = size
    height, width = (size, size) if isinstance(size, int) else size or (0, 0)
    if formats.streamed and (ending in formats.streamed or 3 * height * width > STREAMED):
        options["streamed"] = True
        if ending not in formats.streamed:
            log.warning("%dx%d pixels are more than memory should hold: writing a tiled BigTIFF (.tif)", width, height)
            ending = formats.streamed[0]
    if ending not in formats.files:
        raise UserError(f"samples of this model are written as {', '.join(formats.files)}, not {ending}")
    check_ending(ending)

    class Evaluated(Exception):
        """All arguments are checked by then."""

    def field(*_: Any) -> Any:
        raise Evaluated

    with suppress(Evaluated):
        domain.render(field, **options)
    return ending, options


def check_folder(folder: Path) -> None:
    """Make sure that this can become a folder, before any work. Raises UserError naming what is in the way."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"--out {folder} cannot be a folder: {place} is a file")
        if place.is_dir():
            if not os.access(place, os.W_OK | os.X_OK):
                raise UserError(f"--out {folder}: {place} is not writable")
            return


def check_file(path: Path, read: Iterable[str | Path] = ()) -> None:
    """Make sure that this can become a file, before any work. Raises UserError naming what is in the way, also where it
    is one of the files to `read`.
    """
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: name a file")
    if path.resolve() in {Path(other).resolve() for other in read}:
        raise UserError(f"--out {path} is a file that is read: name another one")
    check_folder(path.parent)


def slug(text: str) -> str:
    """A text as part of a file name: letters and digits of any script, joined by hyphens, at most 40."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "text"


class Names:
    """File names of one command in one folder: none is given twice, and none is that of a file it reads."""

    def __init__(self, folder: Path, read: Iterable[str | Path] = ()) -> None:
        self.folder, self.given = folder, set[str]()
        self.read = {Path(path).resolve() for path in read}

    def free(self, stem: str, ending: str) -> Path:
        """A path for this stem, with -2, -3 .. behind it when the stem was given before or a file to read has it."""
        name, k = stem, 2
        while name in self.given or (self.folder / f"{name}{ending}").resolve() in self.read:
            name, k = f"{stem}-{k}", k + 1
        self.given.add(name)
        return self.folder / f"{name}{ending}"
