"""What the video sections share: the run, and clips of its fields and of its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from ddmi.domains.video import Video, VideoDataset
from ddmi.field import Field
from ddmi.rendering.clip import Clip
from ddmi.rendering.grid import to_pixels, to_signal
from ddmi.report import scene
from ddmi.report.playing import playing
from ddmi.report.scene import Kept

if TYPE_CHECKING:
    from ddmi.evaluation import Evaluated

SIDE = 128
"""Pixels of the shorter side of a clip among many."""


class Reels(Kept):
    """Renderings of samples that several sections show."""

    def __init__(self, evaluated: Evaluated) -> None:
        super().__init__(evaluated)
        self._clips: dict[tuple[int, tuple[int, int]], Clip] = {}
        self._playing: dict[int, str] = {}

    def clip(self, sample: int, size: tuple[int, int]) -> Clip:
        """A sample at this size, as many frames as the encoder reads."""
        if (sample, size) not in self._clips:
            self._clips[sample, size] = drawn(self.evaluated.samples[sample], size)
        return self._clips[sample, size]

    def playing(self, sample: int, size: tuple[int, int], alt: str) -> str:
        """A picture of it that plays, and stands where the reader wants no motion; of one size alone."""
        if sample not in self._playing:
            self._playing[sample] = playing(self.clip(sample, size), alt)
        return self._playing[sample]


@dataclass(frozen=True)
class Scene(scene.Scene[Video, VideoDataset]):
    """An evaluated run of the video domain, and the numbers of its page."""

    reels: Reels

    def size(self, scale: float) -> tuple[int, int]:
        """(height, width) of a rendering at this multiple of what the encoder sees."""
        height, width = self.domain.size
        return round(height * scale), round(width * scale)

    @property
    def many(self) -> tuple[int, int]:
        """(height, width) of a clip among many."""
        return self.size(SIDE / min(self.domain.size))

    def scale(self, side: int) -> float:
        """The multiple of the encoder's size at which the shorter side has so many pixels, or as many as the data."""
        return min(side / min(self.domain.size), max(self.held_out.domain.scales))

    def clip(self, frames: Float[Tensor, "k 3 h w"]) -> Clip:
        """Frames in [-1, 1] at the pace of the encoder's."""
        return Clip.of(to_pixels(frames.permute(0, 2, 3, 1)), self.domain.timing(None, None, None)[1])

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out windows in an order drawn by the seed: one of each clip, then another of each."""
        waiting: dict[int, list[int]] = {}
        for index in self.shuffled(len(self.held_out)):
            waiting.setdefault(self.held_out.window(index).clip, []).append(index)
        return list(_in_turn(list(waiting.values())))

    def first(self, count: int) -> list[Field]:
        """The first samples; before stage 2, the first reconstructions of held-out windows."""
        return [*self.samples[:count]] or self.evaluated.reconstruct(self.held_out, self.subjects[:count])


def drawn(field: Field, size: tuple[int, int]) -> Clip:
    """A rendering whose frames are computed now, and once."""
    clip = field.render(size)
    return Clip.of(clip.array(), clip.fps)


def signal(clip: Clip) -> Float[Tensor, "k 3 h w"]:
    """Its frames in [-1, 1]."""
    return to_signal(clip.array()).permute(0, 3, 1, 2)


def blocks(found: Sequence[str]) -> str:
    """Groups of pictures side by side: two in a row, three where there are three."""
    return f'<div class="{"sheets" if len(found) == 3 else "pairs"}">{"".join(found)}</div>'


def change(frames: Float[Tensor, "k 3 h w"]) -> float:
    """Mean absolute difference of successive frames, in levels of 0..255."""
    return float(frames.diff(dim=0).abs().mean()) * 127.5 if len(frames) > 1 else 0.0


def _in_turn(lists: list[list[int]]) -> Iterator[int]:
    for k in range(max(map(len, lists), default=0)):
        yield from (some[k] for some in lists if k < len(some))
