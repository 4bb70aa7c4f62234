"""Clouds and rays out of a source of posed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.randomness import derive, generator
from ddmi.data.captions import one_of_each
from ddmi.data.splits import split
from ddmi.domains.base import Batch, Split
from ddmi.rendering.cameras import Camera

if TYPE_CHECKING:
    from ddmi.domains.nerf import Nerf
    from ddmi.domains.nerf.views import ViewSource


@dataclass(frozen=True, kw_only=True)
class RayBatch(Batch):
    """A batch of objects, each seen along some rays.

    Args:
        origins: of the rays, in the signal's coordinates; cameras stand outside of the cube [-1, 1]^3.
        directions: unit vectors, away from the camera.
        colours: of the pixels that the rays go through, in [0, 1].
    """

    origins: Float[Tensor, "b r 3"]
    directions: Float[Tensor, "b r 3"]
    colours: Float[Tensor, "b r 3"]


class ViewDataset:
    """One part of a source of objects, as a domain trains on it."""

    def __init__(self, domain: Nerf, source: ViewSource, part: Split) -> None:
        self.domain, self.source = domain, source
        self.kept = split(source, part, domain.held_out)
        self.names = [source.names[i] for i in self.kept]
        self.phrasings = None if source.captions is None else [source.captions[i] for i in self.kept]
        self.captions = None if self.phrasings is None else one_of_each(self.names, self.phrasings)
        self.labels = None if source.labels is None else [source.labels[i] for i in self.kept]
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self.kept)

    def epoch(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(len(self.kept), generator=generator).tolist()

    def cloud(self, index: int, *keys: int | str) -> Float[Tensor, "n 6"]:
        """What the encoder reads of one item: coloured points, noisy in place. Other keys draw others."""
        rng = np.random.default_rng(derive("cloud", *keys))
        cloud = self.source.cloud(self.kept[index], self.domain.cloud, rng)
        cloud[:, :3] += self.domain.noise * rng.standard_normal((len(cloud), 3), dtype=np.float32)
        return torch.from_numpy(cloud).float()

    def inputs(self, indices: Sequence[int]) -> Float[Tensor, "b n 6"]:
        return torch.stack([self.cloud(i, self.names[i]) for i in indices])

    def views(self, index: int) -> int:
        """How many views there are of an item."""
        return self.source.counts[self.kept[index]]

    def camera(self, index: int, view: int) -> Camera:
        """Where a view of an item was taken from."""
        views = self.source.cameras(self.kept[index])
        middle = (float(views.centre[view][0]), float(views.centre[view][1]))
        return Camera(torch.from_numpy(views.poses[view]), float(views.focal[view]), views.size, middle)

    def images(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of an item, on the background."""
        return self.source.images(self.kept[index], which)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> RayBatch:
        """A fresh cloud of each object, and rays through pixels of some of its views."""
        rays = [self._rays(i, generator(seed, "rays")) for i, seed in zip(indices, seeds, strict=True)]
        origins, directions, colours = (torch.stack(part) for part in zip(*rays, strict=True))
        return RayBatch(
            x=torch.stack([self.cloud(i, seed) for i, seed in zip(indices, seeds, strict=True)]),
            origins=origins,
            directions=directions,
            colours=colours,
            seeds=tuple(seeds),
        )

    def _rays(
        self, index: int, own: torch.Generator
    ) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"], Float[Tensor, "r 3"]]:
        """Origins, directions and colours of rays that are spread over views chosen at random."""
        count = self.views(index)
        which = torch.randperm(count, generator=own)[: self.domain.shown].tolist()
        shares = [len(part) for part in torch.arange(self.domain.rays).tensor_split(len(which))]
        found = []
        for view, share, image in zip(which, shares, self.images(index, which), strict=True):
            colours = torch.from_numpy(image).flatten(0, 1)
            pixels = torch.randint(len(colours), (share,), generator=own)
            there = (colours != round(255 * self.domain.background)).any(dim=1).nonzero()[:, 0]
            aimed = round(share * self.domain.focus)
            if len(there):
                pixels[:aimed] = there[torch.randint(len(there), (aimed,), generator=own)]
            found.append((*self.camera(index, view).rays(pixels), colours[pixels].float() / 255))
        origins, directions, colours = (torch.cat(part) for part in zip(*found, strict=True))
        return origins, directions, colours
