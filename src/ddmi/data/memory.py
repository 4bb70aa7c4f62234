"""Arrays that were slow to read or to make, kept in memory within a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    """An array, or several that say together how large they are."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Memory(Generic[T]):
    """Values by their keys, in at most `budget` bytes; when it is full, nothing leaves for others."""

    def __init__(self, budget: int):
        self.budget, self.used = budget, 0
        self._kept: dict[Hashable, T] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Memory[T]], tuple[int]]:
        return Memory, (self.budget,)  # a copy in another process starts empty

    @property
    def full(self) -> bool:
        """Whether nearly nothing more fits."""
        return self.used >= 0.99 * self.budget

    def get(self, key: Hashable) -> T | None:
        """What is kept under a key; it is not the caller's."""
        return self._kept.get(key)

    def keep(self, key: Hashable, value: T) -> None:
        """Keep a value if there is room for it."""
        with self._lock:
            if key not in self._kept and self.used + value.nbytes <= self.budget:
                self._kept[key] = value
                self.used += value.nbytes

    def read(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, else what `make()` gives; it is not the caller's."""
        kept = self.get(key)
        if kept is None:
            kept = make()
            self.keep(key, kept)
        return kept
