"""Decoded images and frames that stay in memory, within a budget."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8


class Memory:
    """Images by numbers, as (index, size), in at most `budget` bytes; when it is full, nothing leaves for others.

    `compressed` keeps them deflated: of drawings, which are mostly flat, fifty times as many fit.
    """

    def __init__(self, budget: int, compressed: bool = False):
        self.budget, self.compressed = budget, compressed
        self.used = 0
        self._kept: dict[tuple[int, ...], tuple[tuple[int, ...], np.ndarray | bytes]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Memory], tuple[int, bool]]:
        return Memory, (self.budget, self.compressed)  # a copy in another process starts empty

    @property
    def full(self) -> bool:
        """Whether nearly nothing more fits."""
        return self.used >= 0.99 * self.budget

    def get(self, key: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"] | None:
        """What is kept under a key; it is not the caller's."""
        shape, kept = self._kept.get(key, ((), None))
        return np.frombuffer(zlib.decompress(kept), np.uint8).reshape(shape) if isinstance(kept, bytes) else kept

    def keep(self, key: tuple[int, ...], image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Keep an image if there is room for it."""
        kept = zlib.compress(image.tobytes(), 1) if self.compressed else image
        size = len(kept) if isinstance(kept, bytes) else kept.nbytes
        with self._lock:
            if key not in self._kept and self.used + size <= self.budget:
                self._kept[key] = image.shape, kept
                self.used += size

    def read(
        self, index: int, size: int, make: Callable[[int, int], UInt8[np.ndarray, "h w 3"]]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A copy of the kept image, or of what `make(index, size)` gives."""
        kept = self.get((index, size))
        if kept is None:
            kept = make(index, size)
            self.keep((index, size), kept)
        return kept.copy()
