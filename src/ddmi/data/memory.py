"""Decoded pictures and frames that stay in memory, within a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8


class Memory:
    """Pictures by numbers, as (index, size), in at most `budget` bytes; when it is full, nothing leaves for others."""

    def __init__(self, budget: int):
        self.budget = budget
        self.used = 0
        self._kept: dict[tuple[int, ...], UInt8[np.ndarray, "h w 3"]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Memory], tuple[int]]:
        return Memory, (self.budget,)  # a copy in another process starts empty

    def get(self, key: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"] | None:
        """What is kept under a key; it is not the caller's."""
        return self._kept.get(key)

    def keep(self, key: tuple[int, ...], picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Keep a picture if there is room for it."""
        with self._lock:
            if key not in self._kept and self.used + picture.nbytes <= self.budget:
                self._kept[key] = picture
                self.used += picture.nbytes

    def read(
        self, index: int, size: int, make: Callable[[int, int], UInt8[np.ndarray, "h w 3"]]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A copy of the kept picture, or of what `make(index, size)` gives."""
        kept = self.get((index, size))
        if kept is None:
            kept = make(index, size)
            self.keep((index, size), kept)
        return kept.copy()
