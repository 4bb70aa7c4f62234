"""The arrays of npz files, and the numbers of JSON; an error names its file."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ddmi.base.errors import UserError

_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    KeyError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a broken npz file raises becomes a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"{path} is damaged or no npz file of numbers: {one_line(error)[:200]}") from error


def has(path: Path, key: str) -> bool:
    """Whether an npz file has an array of this name.

    Raises:
        UserError: the file is damaged.
    """
    with _reading(path), np.load(path, allow_pickle=False) as file:
        return key in file.files


def arrays(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name.

    Raises:
        UserError: the file is damaged, or has no such array.
    """
    with _reading(path), np.load(path, allow_pickle=False) as file:
        if missing := [key for key in keys if key not in file.files]:
            raise UserError(f"{path} has no array `{missing[0]}`, only {', '.join(file.files) or 'none'}")
        return {key: file[key] for key in keys}


def header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array of an npz file, without reading it.

    Raises:
        UserError: the file is damaged, or has no such array.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            raise UserError(f"{path} has no array `{key}`")
        with archive.open(f"{key}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
    return shape, kind
