"""What stays in memory: as much as fits, the first of all, and never an array that somebody else holds."""

from __future__ import annotations

import pickle

import numpy as np

from ddmi.data.memory import Memory


def picture(value: int, size: int = 2) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_memory_keeps_within_its_budget_and_hands_out_copies():
    memory, made = Memory(2 * 12), []

    def make(index: int, size: int) -> np.ndarray:
        made.append(index)
        return picture(index, size)

    for _ in range(2):
        for index in range(3):
            memory.read(index, 2, make)[:] = 99
    assert made == [0, 1, 2, 2] and memory.used == 24
    assert (memory.read(0, 2, make) == 0).all()


def test_what_came_first_stays_and_what_is_smaller_may_still_fit():
    memory = Memory(12 + 3)
    for key, kept in (((0, 0, 2), picture(1)), ((0, 0, 2), picture(2)), ((0, 1, 2), picture(3))):
        memory.keep(key, kept)
    memory.keep((0, 1, 1), picture(4, size=1))
    assert (memory.get((0, 0, 2)) == 1).all() and memory.get((0, 1, 2)) is None
    assert (memory.get((0, 1, 1)) == 4).all() and memory.used == memory.budget == 15


def test_compressed_memory_gives_back_the_same_pixels_and_holds_more():
    memory = Memory(1000, compressed=True)
    drawing = picture(3, size=64)
    drawing[10:20, 5:9] = (1, 2, 255)
    assert (memory.read(0, 64, lambda index, size: drawing) == drawing).all()
    read = memory.read(0, 64, lambda index, size: picture(0, size))  # kept: not made again
    assert (read == drawing).all() and 0 < memory.used < 1000 < drawing.nbytes
    read[:] = 0
    assert (memory.get((0, 64)) == drawing).all()


def test_a_copy_in_another_process_starts_empty():
    memory = Memory(12)
    memory.keep((0,), picture(7))
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.budget == 12 and copy.used == 0 and copy.get((0,)) is None
