"""What the sections of radiance fields share: the run, and pictures of its fields and of its data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from ddmi.domains.nerf import Nerf, ViewDataset
from ddmi.field import Field
from ddmi.rendering.cameras import Camera
from ddmi.rendering.volume import Occupancy, View, render_field
from ddmi.report import pictures, scene
from ddmi.report.playing import playing
from ddmi.report.scene import Kept

if TYPE_CHECKING:
    from PIL import Image as Pictures

    from ddmi.evaluation import Evaluated

TURNED, FRAMES = 96, 16
"""Pixels a side and pictures of a turntable."""
PACE = 1000 / 110
"""Of these a second."""
FAST: dict[str, Any] = {"samples": 48, "fine": 0}
"""On each ray of a turntable and of other small pictures: there are many of them."""
FINE: dict[str, Any] = {"samples": 48, "fine": 24}
"""On each ray of what is looked at closely."""
RECONSTRUCTED = 6
"""Held-out objects that are shown."""
GRID = 32
"""Cells along each axis where it is looked up which parts are empty, for a field that is drawn but once."""
LARGEST = 128
"""Pixels of the longer side of a view of the data beyond which it is shrunk, for the comparison too."""
SOLID = 0.5
"""Opacity from which a pixel shows the object."""
LOOKED, GLANCE = 16, 32
"""Samples among which one that is not empty is searched, and pixels a side of that search."""


class Turns(Kept):
    """Turning pictures of the first samples."""

    def __init__(self, evaluated: Evaluated) -> None:
        super().__init__(evaluated)
        self._turning: dict[int, str] = {}

    def turning(self, sample: int, alt: str) -> str:
        """A picture of it that turns, and stands where the reader wants no motion."""
        if sample not in self._turning:
            self._turning[sample] = turning(self.evaluated.samples[sample], alt)
        return self._turning[sample]


@dataclass(frozen=True)
class Scene(scene.Scene[Nerf, ViewDataset]):
    """An evaluated run of radiance fields, and the numbers of its page."""

    turns: Turns

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out objects in an order drawn by the seed."""
        return self.shuffled(len(self.held_out))

    @cached_property
    def reconstructions(self) -> list[Field]:
        """Fields of the first of these."""
        return self.evaluated.reconstruct(self.held_out, self.subjects[:RECONSTRUCTED])

    @cached_property
    def first(self) -> tuple[str, Field]:
        """Name and field of the first sample that is not empty, else of sample 0; before stage 2, a reconstruction."""
        if not self.samples:
            return f"the reconstruction of “{self.name(self.held_out, self.subjects[0])}”", self.reconstructions[0]
        count = min(len(self.samples), LOOKED)
        found = next((k for k in range(count) if visible(self.samples[k])), 0)
        return f"sample {found}", self.samples[found]

    def view(self, dataset: ViewDataset, index: int, view: int) -> tuple[Camera, Pictures.Image]:
        """A view of an item: where it was taken from, and the picture, shrunk where it is large."""
        from PIL import Image

        camera = dataset.camera(index, view)
        picture = Image.fromarray(dataset.images(index, [view])[0])
        share = LARGEST / max(camera.size)
        if share < 1:
            height, width = (max(1, round(side * share)) for side in camera.size)
            camera, picture = camera.resized((height, width)), picture.resize((width, height), Image.Resampling.BOX)
        return camera, picture


def turning(field: Field, alt: str) -> str:
    """A field that turns, once and again."""
    shot = field.render(TURNED, **FAST)
    return playing(shot.turntable(FRAMES, PACE), alt, pixels=False, quality=80)


def once(field: Field, size: int) -> View:
    """What the usual camera sees of a field that is not drawn again."""
    shot = field.render(size, **FAST)
    return render_field(field, shot.camera.to(field.device), shot.quadrature, occupancy=Occupancy(field, GRID))


def coloured(view: View) -> Pictures.Image:
    """The colours of a view."""
    return pictures.to_picture((2 * view.colour.cpu() - 1).permute(2, 0, 1))


def visible(field: Field) -> bool:
    """Whether anything of it is solid, as the usual camera sees it."""
    return bool((field.render(GLANCE, **FAST).view.opacity > SOLID).any())


def grey(values: Float[Tensor, "h w"]) -> Pictures.Image:
    """Numbers in [0, 1] as a picture: 0 is black, 1 white."""
    return pictures.to_picture((2 * values.cpu() - 1).expand(3, -1, -1))
