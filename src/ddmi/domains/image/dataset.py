"""Multi-scale batches out of a source of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.randomness import generator
from ddmi.data.images import ImageSource
from ddmi.data.splits import split
from ddmi.domains.base import PixelBatch, Split, shrinkage
from ddmi.rendering.grid import to_signal

if TYPE_CHECKING:
    from ddmi.domains.image import Image


class ImageDataset:
    """One part of a source of images, as a domain trains on it."""

    def __init__(self, domain: Image, source: ImageSource, part: Split) -> None:
        self.source = source
        self.kept = split(source, part, domain.held_out)
        kept = set(self.kept)
        position = {index: i for i, index in enumerate(self.kept)}
        self.groups = [[position[i] for i in group if i in kept] for group in source.groups]
        self.groups = [group for group in self.groups if group]
        shown = self.kept * (2 if domain.flip else 1)  # the second half is mirrored
        self.names = [source.names[i] for i in shown]
        self.captions = None if source.captions is None else [source.captions[i] for i in shown]
        self.phrasings: list[list[str]] | None = None
        self.labels = None if source.labels is None else [source.labels[i] for i in shown]
        self.classes = source.classes
        self.domain = domain

    def __len__(self) -> int:
        return len(self.kept) * (2 if self.domain.flip else 1)

    def epoch(self, generator: torch.Generator) -> list[int]:
        """Every subject once, each as one of its variants, so that no subject outweighs the others by its variants."""
        order = torch.randperm(len(self.groups), generator=generator).tolist()
        draws = torch.rand(len(order), 2, generator=generator).tolist()
        chosen = [self.groups[g][int(u * len(self.groups[g]))] for g, (u, _) in zip(order, draws, strict=True)]
        if self.domain.flip:
            chosen = [i + len(self.kept) * (v < 0.5) for i, (_, v) in zip(chosen, draws, strict=True)]
        return chosen

    def pixels(self, index: int, size: int) -> np.ndarray:
        """Item `index` at size x size, uint8 (size, size, 3); the second half of the items are mirrored."""
        n = len(self.kept)
        image = self.source.read(self.kept[index % n], size)
        return image[:, ::-1] if index >= n else image

    def images(self, indices: Sequence[int], size: int) -> Float[Tensor, "b 3 h w"]:
        """Items at size x size in [-1, 1]."""
        stacked = np.stack([self.pixels(i, size) for i in indices])
        return to_signal(stacked).permute(0, 3, 1, 2).contiguous()

    def inputs(self, indices: Sequence[int]) -> Float[Tensor, "b 3 r r"]:
        return self.images(indices, self.domain.resolution)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> PixelBatch:
        """One target resolution for the batch; in it, for each image, a random crop, patch or set of pixels."""
        domain = self.domain
        size = domain.sizes[int(torch.randint(len(domain.sizes), (), generator=choice))]
        shrink = shrinkage(domain.equivariance, choice)
        inputs = self.inputs(indices)
        if shrink < 1:
            size = max(1, round(shrink * domain.resolution))
            reduced = F.adaptive_avg_pool2d(inputs, size).permute(0, 2, 3, 1)
        scattered = domain.points > 0 and domain.sampling == "points"
        edge = min(size, round(math.sqrt(domain.points)) if domain.points else domain.resolution)
        rows, columns, targets = [], [], []
        for k, (index, seed) in enumerate(zip(indices, seeds, strict=True)):
            own = generator(seed, "pixels")
            if scattered:
                y, x = (torch.randint(size, (domain.points,), generator=own) for _ in range(2))
            else:
                corner = torch.randint(size - edge + 1, (2,), generator=own)
                window = torch.arange(edge)
                y, x = (t.flatten() for t in torch.meshgrid(corner[0] + window, corner[1] + window, indexing="ij"))
            rows.append(y)
            columns.append(x)
            if shrink < 1:
                targets.append(reduced[k, y, x])
            else:
                targets.append(to_signal(self.pixels(index, size)[y.numpy(), x.numpy()]))
        at = torch.stack([torch.stack(columns), torch.stack(rows)], dim=2)  # (b, n, 2), x first
        return PixelBatch(
            x=inputs,
            coordinates=(2 * at + 1) / size - 1,  # the exact cell centres of the size x size grid
            targets=torch.stack(targets),
            periods=torch.tensor([shrink * domain.resolution / size]),  # 1 for reduced planes: they have larger cells
            patch=None if scattered else (edge, edge),
            shrink=shrink,
            seeds=tuple(seeds),
        )
