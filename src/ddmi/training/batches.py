"""The order of the data: step k of a run sees the same signals with the same random choices, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import Dataset as Indexed

from ddmi.base.errors import UserError
from ddmi.base.randomness import derive, generator

B = TypeVar("B", covariant=True)


@runtime_checkable
class Source(Protocol[B]):
    """What batches are taken from: a domain's dataset, or the cached latents."""

    def epoch(self, generator: torch.Generator) -> Sequence[int]: ...
    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> B: ...


class Batches(Indexed[Any], Generic[B]):
    """Item k: the micro-batches of optimiser step k that belong to this process.

    The data is an endless row of epochs, each in an order of its own; step k takes the next `batch_size` of them. All
    randomness derives from (seed, stage, step) or (seed, stage, position in that row), so that a resumed run goes on
    bit for bit and several processes together see what one would.
    """

    def __init__(
        self, source: Source[B], stage: str, seed: int, batch_size: int, accumulation: int, rank: int, processes: int
    ) -> None:
        if batch_size % (accumulation * processes):
            raise UserError(
                f"training.batch_size {batch_size} must be a multiple of "
                f"accumulation {accumulation} x processes {processes}"
            )
        self.source, self.stage, self.seed = source, stage, seed
        self.batch_size, self.accumulation = batch_size, accumulation
        self.share = batch_size // processes
        self.first = rank * self.share
        self.length = len(self._draw(0))
        self._epoch: tuple[int, Sequence[int]] = (0, self._draw(0))

    def _draw(self, epoch: int) -> Sequence[int]:
        return self.source.epoch(generator(self.seed, self.stage, "epoch", epoch))

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, self.length)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw(epoch))
        return self._epoch[1][offset]

    def __getitem__(self, step: int) -> list[B]:
        positions = range(step * self.batch_size + self.first, step * self.batch_size + self.first + self.share)
        indices = [self._index(p) for p in positions]
        seeds = [derive(self.seed, self.stage, "item", p) for p in positions]
        micro = self.share // self.accumulation
        return [
            self.source.batch(
                indices[i : i + micro], generator(self.seed, self.stage, "choice", step), seeds[i : i + micro]
            )
            for i in range(0, self.share, micro)
        ]


def load(batches: Batches[B], start: int, stop: int, workers: int) -> torch.utils.data.DataLoader[list[B]]:
    """Steps start .. stop - 1 in order, prepared ahead by worker processes when there are any."""
    return torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=_as_it_is,
    )


def _as_it_is(item: Any) -> Any:
    return item
