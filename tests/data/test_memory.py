"""What stays in memory: as much as fits, the first of all."""

from __future__ import annotations

import pickle

import numpy as np

from ddmi.data.memory import Memory


def image(value: int, size: int = 2) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_memory_keeps_within_its_budget():
    memory, made = Memory[np.ndarray](2 * 12), []

    def make(index: int) -> np.ndarray:
        made.append(index)
        return image(index)

    for _ in range(2):
        for index in range(3):
            assert (memory.read(index, lambda index=index: make(index)) == index).all()
    assert made == [0, 1, 2, 2] and memory.used == 24


def test_what_came_first_stays_and_what_is_smaller_may_still_fit():
    memory = Memory[np.ndarray](12 + 3)
    for key, value in (("a", image(1)), ("a", image(2)), ("b", image(3)), ("c", image(4, size=1))):
        memory.keep(key, value)
    assert (memory.get("a") == 1).all() and memory.get("b") is None
    assert (memory.get("c") == 4).all() and memory.used == memory.budget == 15


def test_a_copy_in_another_process_starts_empty():
    memory = Memory[np.ndarray](12)
    memory.keep("a", image(7))
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.budget == 12 and copy.used == 0 and copy.get("a") is None
