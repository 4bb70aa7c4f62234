"""Several sources of shapes as one: procedural furniture beside a folder of somebody's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import UserError
from ddmi.data.shapes import ShapeSource


class Joined(ShapeSource):
    """The shapes of all sources, in their order.

    Classes are left out, since those of one source say nothing of another's. Where one source brings a split, the
    shapes of those that bring none are all for training. `root` is the folder of the first that has one, else None.

    Args:
        sources: at least one; no two shapes have the same name.

    Raises:
        UserError: two shapes of the same name.
    """

    def __init__(self, sources: Sequence[ShapeSource]):
        self.sources = tuple(sources)
        self._places = [(source, index) for source in self.sources for index in range(len(source.names))]
        self.names = [source.names[index] for source, index in self._places]
        if len(set(self.names)) < len(self.names):
            twice = next(name for k, name in enumerate(self.names) if name in self.names[:k])
            raise UserError(f"two shapes are called {twice}: rename one of them")
        if any(source.captions is not None for source in self.sources):
            self.captions = [source.captions[index] if source.captions else [] for source, index in self._places]
        if any(source.parts is not None for source in self.sources):
            self.parts = ["train" if source.parts is None else source.parts[index] for source, index in self._places]
        self.root = next((source.root for source in self.sources if source.root), None)

    def surface(
        self, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points of the surface and outward normals, as the shape's own source gives them."""
        source, own = self._places[index]
        return source.surface(own, count, rng)

    def queries(
        self, index: int, uniform: int, near: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
        """Points of the cube and points close to the surface, as the shape's own source gives them."""
        source, own = self._places[index]
        return source.queries(own, uniform, near, rng)
