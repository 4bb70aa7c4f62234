"""Drawn latents and the fields they decode to: drawn once, by all processes, and decoded when they are asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError, WorkError
from ddmi.base.processes import Processes
from ddmi.base.progress import Bar
from ddmi.base.storage import aside, reserve, write_json
from ddmi.field import Field

log = logging.getLogger(__name__)

BATCHES = {"cpu": 16}
"""Samples that are drawn, and decoded, together on a kind of device, `BATCH` on others; the same ones whatever the
number of processes. Small where they are slow: an interruption loses one batch.
"""
BATCH = 64
ARRAYS = ("latents.npy", "done.npy")

Draw = Callable[[int, int], tuple[Float[Tensor, "b c l"], Sequence[int]]]
"""(first, number) -> their latents and the function evaluations of each."""


class Samples(Sequence[Field]):
    """Fields of latents (n, c, l), decoded a batch at a time; only the last batch is kept."""

    def __init__(self, z: np.ndarray, decode: Callable[[Float[Tensor, "b c l"]], list[Field]], batch: int) -> None:
        self.z, self._decode, self._size = z, decode, batch
        self._batch: tuple[int, list[Field]] = (-1, [])

    def __len__(self) -> int:
        return len(self.z)

    @overload
    def __getitem__(self, index: int) -> Field: ...
    @overload
    def __getitem__(self, index: slice) -> list[Field]: ...
    def __getitem__(self, index: int | slice) -> Field | list[Field]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number, place = divmod(index % len(self), self._size)
        if self._batch[0] != number:
            rows = np.array(self.z[number * self._size : (number + 1) * self._size])
            self._batch = (number, self._decode(torch.from_numpy(rows)))
        return self._batch[1][place]


@dataclass(frozen=True)
class Drawn:
    """Latents (n, c, l), the function evaluations of each, and the seconds that it took (summed over processes)."""

    z: np.ndarray
    evaluations: np.ndarray
    seconds: float


def draw(
    what: Draw,
    count: int,
    shape: Sequence[int],
    about: dict[str, Any],
    folder: Path | None,
    processes: Processes,
    batch: int = BATCH,
) -> Drawn:
    """Draw samples 0 .. count - 1, each process whole batches in turn.

    Args:
        shape: of one latent.
        about: everything that the samples depend on. Those that were drawn with the same before are not drawn again,
            also when only a part of them was.
        folder: where latents are kept, as memory-mapped .npy files; None holds them in memory.
        batch: samples that are drawn together.

    Raises:
        UserError: several processes without a folder to share.
    """
    if folder is None and processes.count > 1:
        raise UserError("several processes share their samples through the run folder: name one that can be written")
    z, done, place = _arrays(count, shape, about, folder, processes)
    mine = range(0, count, batch)[processes.rank :: processes.count]
    there = np.array([done[k, 0] != 0 and done[k, 2] == _checksum(z[k], done[k]) for k in range(count)], bool)
    if damaged := int((done[:, 0] != 0).sum() - there.sum()):
        log.warning("%d samples in %s are damaged and are drawn again", damaged, place)
    missing = [first for first in mine if not there[first : first + batch].all()]
    left = int((~there).sum())
    name = f"samples, {about['sampler']} {about.get('tolerance') or about.get('steps')}"
    with Bar(name, count, count - left, visible=processes.main) as bar:
        for first in missing:
            began = time.monotonic()
            number = min(batch, count - first)
            latents, evaluations = what(first, number)
            z[first : first + number] = latents.cpu().float().numpy()
            if isinstance(z, np.memmap):
                z.flush()  # before it is said to be done
            done[first : first + number, 1] = (time.monotonic() - began) / number
            done[first : first + number, 0] = evaluations
            for k in range(first, first + number):
                done[k, 2] = _checksum(z[k], done[k])
            left -= number * processes.count  # the others are about as far
            bar.advance(count - max(left, 0))
    if isinstance(done, np.memmap):
        done.flush()
    processes.wait()
    if place is not None:
        z, done = (np.load(place / name, mmap_mode="r", allow_pickle=False) for name in ARRAYS)
    return Drawn(z, np.array(done[:, 0]), float(done[:, 1].sum()))


def _arrays(
    count: int, shape: Sequence[int], about: dict[str, Any], folder: Path | None, processes: Processes
) -> tuple[np.ndarray, np.ndarray, Path | None]:
    """Latents, and for each sample (evaluations, seconds, checksum), 0 where it is still to be drawn; their folder."""
    whole = (count, *shape)
    if folder is None:
        return np.zeros(whole, np.float32), np.zeros((count, 3)), None
    told = json.dumps({**about, "samples": count}, sort_keys=True)
    place = folder / "samples" / hashlib.sha256(told.encode()).hexdigest()[:16]
    if processes.main and _opened(place, whole) is None:
        if place.is_dir():
            log.warning("%s is damaged or of an older version: its samples are drawn again", place)
        with aside(place, own=(*ARRAYS, "about.json")) as scratch:
            scratch.mkdir(parents=True)
            shapes = {"latents.npy": (np.float32, whole), "done.npy": (np.float64, (count, 3))}
            for name, (dtype, shape) in shapes.items():
                np.lib.format.open_memmap(scratch / name, mode="w+", dtype=dtype, shape=shape).flush()
                with (scratch / name).open("r+b") as file:
                    reserve(file, (scratch / name).stat().st_size, place / name)
            write_json({**about, "samples": count}, scratch / "about.json")
    processes.wait()
    found = _opened(place, whole)
    if found is None:
        raise WorkError(f"{place} cannot be read again: something else changes it")
    return (*found, place)


def _opened(place: Path, whole: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays of a folder, to be written on; None where there are none of these shapes."""
    try:
        z, done = (np.load(place / name, mmap_mode="r+", allow_pickle=False) for name in ARRAYS)
    except (OSError, ValueError, EOFError):
        return None
    fit = z.shape == whole and z.dtype == np.float32 and done.shape == (whole[0], 3) and done.dtype == np.float64
    return (z, done) if fit else None


def _checksum(latent: np.ndarray, done: np.ndarray) -> int:
    """CRC-32 of a sample with its evaluations and seconds: a cache on disk is not trusted."""
    return zlib.crc32(done[:2].tobytes(), zlib.crc32(latent.tobytes()))
