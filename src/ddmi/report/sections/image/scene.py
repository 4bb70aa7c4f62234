"""What the image sections share: the run, and pictures of its fields and of its data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ddmi.domains.image import Image, ImageDataset
from ddmi.report import scene

if TYPE_CHECKING:
    from PIL import Image as Pictures


class Scene(scene.Scene[Image, ImageDataset]):
    """An evaluated run of the image domain, and the numbers of its page."""

    @property
    def base(self) -> int:
        """Pixels a side of what the encoder sees: the size called 1x."""
        return self.domain.resolution

    @property
    def shown(self) -> int:
        """Pixels a side of a picture among many."""
        return 128 if self.base <= 128 else 256

    @property
    def exact(self) -> bool:
        """Whether the true pictures can be drawn at any size."""
        return self.held_out.source.smallest is None

    def sizes(self, scales: Sequence[int]) -> dict[int, int]:
        """Scale -> pixels, of the scales at which the true pictures are known; always 1."""
        known = self.held_out.source.smallest
        return {s: s * self.base for s in scales if s == 1 or known is None or s * self.base <= known}

    def true(self, dataset: ImageDataset, index: int, size: int) -> Pictures.Image:
        """A picture of the data."""
        from PIL import Image as Pictures

        return Pictures.fromarray(dataset.pixels(index, size))

    @cached_property
    def subjects(self) -> list[int]:
        """One held-out picture of each subject, in an order drawn by the seed."""
        firsts = [group[0] for group in self.held_out.groups]
        return [firsts[i] for i in self.shuffled(len(firsts))]
