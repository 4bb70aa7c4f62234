"""Posteriors of the whole training set, encoded once, memory-mapped: stage 2 never runs the encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.randomness import derive
from ddmi.base.storage import aside, digest, read_json, write_json
from ddmi.domains.base import Dataset
from ddmi.model.autoencoder import D2CVAE
from ddmi.model.unet import Condition

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentBatch:
    """Posteriors (b, c, l), the condition of each, and one seed each for all noise of the step."""

    mean: Float[Tensor, "b c l"]
    log_variance: Float[Tensor, "b c l"]
    condition: Condition | None
    seeds: tuple[int, ...]

    def to(self, device: torch.device | str) -> LatentBatch:
        """The same on another device."""
        condition = None if self.condition is None else self.condition.to(device)
        return replace(self, mean=self.mean.to(device), log_variance=self.log_variance.to(device), condition=condition)


@torch.no_grad()
def encode(
    model: D2CVAE,
    dataset: Dataset,
    path: Path,
    key: str,
    device: torch.device,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Means and log-variances of every item, as a memory map (n, 2, c, l) of 16-bit floats.

    `key` names the weights and the data; a file that was made with the same key, and is whole, is used as it is.
    """
    about = path.with_suffix(".json")
    if (known := _made(path, about, key)) is not None:
        return known
    channels, cells = model.latent_shape
    with aside(path) as scratch, scratch.open("wb") as file:
        shape = (len(dataset), 2, channels, cells)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for start in range(0, len(dataset), batch):
            indices = range(start, min(start + batch, len(dataset)))
            posterior = model.encode(dataset.inputs(indices).to(device))
            both = torch.stack([posterior.mean, posterior.log_variance], dim=1)
            file.write(both.cpu().half().numpy().astype("<f2").tobytes())
            if progress:
                progress(start + len(indices), len(dataset))
    with aside(about) as scratch:
        write_json({"key": key, "sha256": digest(path)}, scratch)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _made(path: Path, about: Path, key: str) -> np.ndarray | None:
    """What was encoded before with this key; None, with a warning where it is damaged, if it has to be made again."""
    if not (path.exists() and about.exists()):
        return None
    try:
        made = read_json(about)
        if made["key"] != key:
            return None
        if made["sha256"] != digest(path):
            raise UserError("its SHA-256 is not the one that was written with it")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, LookupError, TypeError, AttributeError) as error:
        log.warning("%s is damaged and is made again: %s", path, error)
        return None


def statistics(latents: np.ndarray, lengths: Sequence[int]) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p c"]]:
    """Mean and standard deviation of z by plane and channel, over the posteriors: Var z = Var(mean) + E(variance).

    Args:
        latents: (n, 2, c, l). lengths: cells of each plane, in packed order.
    """
    edges = np.cumsum([0, *lengths])
    first = np.zeros((len(lengths), latents.shape[2]))
    second, variance = np.zeros_like(first), np.zeros_like(first)
    for start in range(0, len(latents), 256):
        part = np.asarray(latents[start : start + 256], dtype=np.float64)
        for p, (a, b) in enumerate(pairwise(edges)):
            first[p] += part[:, 0, :, a:b].sum(axis=(0, 2))
            second[p] += np.square(part[:, 0, :, a:b]).sum(axis=(0, 2))
            variance[p] += np.exp(part[:, 1, :, a:b]).sum(axis=(0, 2))
    count = len(latents) * np.asarray(lengths)[:, None]
    mean = first / count
    std = np.sqrt(second / count - mean**2 + variance / count)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float().clamp(min=1e-6)


@dataclass(frozen=True)
class TextTable:
    """Token states of every distinct caption, encoded once; an item with several is each time described by one."""

    tokens: Float[Tensor, "u m k"]
    mask: Tensor
    rows: list[list[int]]  # of the captions of each item

    @staticmethod
    def of(captions: list[list[str]], encode: Callable[[Sequence[str]], tuple[Tensor, Tensor]]) -> TextTable:
        """Encode the distinct captions, kept in 16 bits and as short as the longest one needs."""
        captions = [texts or [""] for texts in captions]
        distinct = sorted({text for texts in captions for text in texts})
        tokens, mask = encode(distinct)
        longest = int(mask.sum(1).max())
        place = {text: i for i, text in enumerate(distinct)}
        rows = [[place[text] for text in texts] for texts in captions]
        return TextTable(tokens[:, :longest].half(), mask[:, :longest], rows)

    def take(self, indices: Sequence[int], seeds: Sequence[int]) -> Condition:
        """The condition of these items; its seed chooses among the captions of each."""
        pairs = zip(indices, seeds, strict=True)
        rows = torch.tensor([self.rows[i][derive("caption", seed) % len(self.rows[i])] for i, seed in pairs])
        return Condition(self.tokens[rows].float(), self.mask[rows])


@dataclass(frozen=True)
class Conditions:
    """What the items of a dataset are conditioned on: their captions, their classes, or nothing."""

    texts: TextTable | None = None
    labels: Sequence[int] | None = None

    def take(self, indices: Sequence[int], seeds: Sequence[int]) -> Condition | None:
        """The condition of these items; its seed chooses among the captions of each."""
        if self.texts is not None:
            return self.texts.take(indices, seeds)
        return None if self.labels is None else Condition(labels=torch.tensor([self.labels[i] for i in indices]))


class LatentDataset:
    """Batches of cached posteriors, in the order of the dataset that they came from."""

    def __init__(self, latents: np.ndarray, dataset: Dataset, conditions: Conditions) -> None:
        self.latents, self.dataset, self.conditions = latents, dataset, conditions

    def epoch(self, generator: torch.Generator) -> list[int]:
        """As the dataset's own."""
        return self.dataset.epoch(generator)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> LatentBatch:
        """Posteriors and conditions of these items."""
        both = torch.from_numpy(np.asarray(self.latents[np.asarray(indices)], dtype=np.float32))
        return LatentBatch(both[:, 0], both[:, 1], self.conditions.take(indices, seeds), tuple(seeds))
