"""Clouds and queries out of a source of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ddmi.base.randomness import derive
from ddmi.data.captions import one_of_each
from ddmi.data.shapes import ShapeSource
from ddmi.data.splits import split
from ddmi.domains.base import PointBatch, Split

if TYPE_CHECKING:
    from ddmi.domains.shape import Shape


class ShapeDataset:
    """One part of a source of shapes, as a domain trains on it."""

    def __init__(self, domain: Shape, source: ShapeSource, part: Split) -> None:
        self.domain, self.source = domain, source
        self.kept = split(source, part, domain.held_out)
        self.straight = len(self.kept)  # items from here on are mirrored
        if domain.mirror and part == "train":
            self.kept = self.kept * 2
        self.names = [source.names[i] for i in self.kept]
        self.phrasings = None if source.captions is None else [source.captions[i] for i in self.kept]
        self.captions = None if self.phrasings is None else one_of_each(self.names, self.phrasings)
        self.labels = None if source.labels is None else [source.labels[i] for i in self.kept]
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self.kept)

    def epoch(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(len(self.kept), generator=generator).tolist()

    def cloud(self, index: int, *keys: int | str) -> Float[Tensor, "n f"]:
        """What the encoder reads of one item: noisy points of its surface, and their normals where it wants them.

        Other keys draw others.
        """
        rng = np.random.default_rng(derive("cloud", *keys))
        points, normals = self.source.surface(self.kept[index], self.domain.cloud, rng)
        noise = self.domain.noise * rng.standard_normal(points.shape, dtype=np.float32)
        noisy = self._turned(index, points + noise)
        return torch.cat([noisy, self._turned(index, normals)], dim=1) if self.domain.normals else noisy

    def inputs(self, indices: Sequence[int]) -> Float[Tensor, "b n f"]:
        return torch.stack([self.cloud(i, self.names[i]) for i in indices])

    def surface(self, index: int, count: int) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Points of the surface of one item, without noise, and the normals there; the same at each call."""
        rng = np.random.default_rng(derive("surface", self.names[index]))
        points, normals = self.source.surface(self.kept[index], count, rng)
        return self._turned(index, points), self._turned(index, normals)

    def queries(
        self, index: int, uniform: int, near: int, seed: int
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 1"]]:
        """Points of the cube, then points near the surface, and 1 for those inside the shape."""
        rng = np.random.default_rng(derive("queries", seed))
        points, inside = self.source.queries(self.kept[index], uniform, near, rng)
        return self._turned(index, points), torch.from_numpy(inside).float()[:, None]

    def voxels(self, indices: Sequence[int], size: int) -> Bool[Tensor, "b n n n"]:
        """Voxels of items, in array order (z, y, x)."""
        grids = [torch.from_numpy(self.source.voxels(self.kept[i], size)) for i in indices]
        return torch.stack(
            [grid.flip(2) if i >= self.straight else grid for i, grid in zip(indices, grids, strict=True)]
        )

    def _turned(self, index: int, vectors: np.ndarray) -> Float[Tensor, "n 3"]:
        """Points or normals of an item, mirrored where it is a mirrored one."""
        turned = torch.from_numpy(vectors).float()
        return turned if index < self.straight else turned * torch.tensor([-1.0, 1.0, 1.0])

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> PointBatch:
        """A fresh cloud and fresh queries of each shape."""
        near = round(self.domain.near * self.domain.points)
        pairs = list(zip(indices, seeds, strict=True))
        queries = [self.queries(i, self.domain.points - near, near, seed) for i, seed in pairs]
        return PointBatch(
            x=torch.stack([self.cloud(i, seed) for i, seed in pairs]),
            coordinates=torch.stack([points for points, _ in queries]),
            targets=torch.stack([inside for _, inside in queries]),
            seeds=tuple(seeds),
        )
