"""Arrays that are slow to make, kept on disk between commands, by digests of all that they are made of."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ddmi.base.errors import UserError, WorkError
from ddmi.base.storage import aside, locked

log = logging.getLogger(__name__)

BUDGET = 2 << 30
"""Bytes that one folder may take."""


def home() -> Path:
    """The user's cache folder of this program: `$XDG_CACHE_HOME/ddmi`, or `~/.cache/ddmi`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddmi"


def key(*parts: Any) -> str:
    """The name of what is made of these: arrays by their content and shape, everything else by its repr."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(repr(part).encode())
        found.update(b"\0")
    return found.hexdigest()[:32]


class Kept:
    """A folder of npz files, each with the arrays of one key; what was not used for the longest time leaves first.

    A damaged file is removed with a warning, and what cannot be written is not kept: neither ends the work.

    Args:
        folder: None: nothing is kept.
        budget: bytes that all files together may take.
    """

    def __init__(self, folder: Path | None, budget: int = BUDGET):
        self.folder, self.budget = folder, budget
        self._used: int | None = None  # None: not looked at yet

    def read(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a key; None where there are none."""
        if self.folder is None or not (path := self.folder / f"{key}.npz").is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:  # which checks the CRC of every array
                found = {name: file[name] for name in file.files}
        except Exception as error:  # a broken file raises nearly every kind of error
            log.warning("%s is damaged and is made again: %s", path, type(error).__name__)
            with suppress(OSError):  # of another user, or on a disk that is only read
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def write(self, key: str, **arrays: np.ndarray) -> None:
        """Keep arrays under a key."""
        if self.folder is None:
            return
        path = self.folder / f"{key}.npz"
        try:
            with locked(self.folder, wait=True):  # commands that run at once make the same files at the same time
                with aside(path) as scratch, scratch.open("wb") as file:
                    np.savez_compressed(file, allow_pickle=False, **arrays)
                self._make_room(path)
        except (OSError, UserError, WorkError) as error:
            log.warning("nothing is kept for the next command: %s", error)
            self.folder = None

    def _make_room(self, newest: Path) -> None:
        if self._used is not None:
            self._used += newest.stat().st_size
        if self._used is None or self._used > self.budget:
            about = sorted((file.stat().st_mtime_ns, file.stat().st_size, file) for file in newest.parent.glob("*.npz"))
            self._used = sum(size for _, size, _ in about)
            for _, size, file in about:
                if self._used <= self.budget or file == newest:
                    break
                file.unlink(missing_ok=True)
                self._used -= size
