"""Clips whose frames are computed when they are needed, and several of them in one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from ddmi.base.coordinates import check_size
from ddmi.base.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

WHITE = 255

SLOWEST, FASTEST = 0.01, 1000.0
"""Frames a second that a clip may have."""

TELEVISION = (24, 30, 48, 60, 120, 240)
"""Rates that exist slowed by 1000/1001 too, and are then written 23.976, 29.97, ..."""


class Clip:
    """Frames of one size at an even rate. None is computed before it is needed, and none is kept.

    A frame that is needed again is computed again; `Clip.of(clip.array(), clip.fps)` holds its frames.

    Args:
        frame: k in [0, count) -> the frame (height, width, 3), 8 bits.
        count: frames, at least one. size: (height, width).
        fps: frames a second, 0.01 to 1000.

    Raises:
        UserError: a number is out of its range.
    """

    def __init__(
        self,
        frame: Callable[[int], UInt8[np.ndarray, "h w 3"]],
        count: int,
        size: tuple[int, int],
        fps: float,
    ):
        if count < 1:
            raise UserError(f"a clip has at least one frame, not {count}")
        if not SLOWEST <= fps <= FASTEST:
            raise UserError(f"a clip has {SLOWEST} to {FASTEST:g} frames a second, not {fps}")
        height, width = check_size(size, 2)
        self.size = (height, width)
        self.fps = float(fps)
        self._frame, self._count = frame, count

    @staticmethod
    def of(array: UInt8[np.ndarray, "n h w 3"], fps: float) -> Clip:
        """The clip of frames that exist already; `clip[k]` is a view of them."""
        return Clip(lambda k: array[k], len(array), (array.shape[1], array.shape[2]), fps)

    @property
    def rate(self) -> Fraction:
        """Frames a second as the ratio meant: 29.97 is 30000/1001, others the nearest of a denominator up to 1001."""
        for whole in TELEVISION:
            slowed = Fraction(1000 * whole, 1001)
            if math.isclose(self.fps, slowed, rel_tol=2e-6):
                return slowed
        return Fraction(self.fps).limit_denominator(1001)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> UInt8[np.ndarray, "h w 3"]:
        """Frame k, computed now; negative k count from the end. Raises IndexError beyond either end."""
        if not -self._count <= k < self._count:
            raise IndexError(f"frame {k} of a clip of {self._count}")
        frame = self._frame(k % self._count)
        assert frame.shape == (*self.size, 3), f"a frame of shape {frame.shape} in a clip of {self.size}"
        assert frame.dtype == np.uint8, f"a frame of {frame.dtype}"
        return frame

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """All frames in order, each computed once, when it is its turn."""
        for k in range(self._count):
            yield self[k]

    def array(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All frames, computed now; the clip does not keep them."""
        frames = np.empty((self._count, *self.size, 3), dtype=np.uint8)
        for k in range(self._count):
            frames[k] = self[k]
        return frames

    def image(self, k: int) -> Image.Image:
        """Frame k. Raises IndexError beyond either end."""
        from PIL import Image

        return Image.fromarray(self[k])

    def save(self, path: str | Path) -> None:
        """Write the clip in the format that the name's ending says, one of `ddmi.rendering.movie.FORMATS`."""
        from ddmi.rendering.movie import write

        write(self, path)


def contact_sheet(images: Sequence[Image.Image], columns: int = 0, gap: int = 2) -> Image.Image:
    """Images side by side on white; about twice as wide as high unless `columns` says otherwise."""
    stills = [Clip.of(np.asarray(image.convert("RGB"))[None], 1) for image in images]
    return tiled(stills, columns, gap).image(0)


def animated(images: Sequence[Image.Image], seconds: float = 2.0) -> Clip:
    """Images of one size one after another, in about so many seconds; none is shown for less than 20 ms."""
    frames = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return Clip.of(frames, min(50.0, len(frames) / seconds))


def tiled(clips: Sequence[Clip], columns: int = 0, gap: int = 2) -> Clip:
    """Clips that play side by side on white, row by row, each in the upper left of its cell; computed frame by frame.

    The whole runs at the rate of the fastest clip for as long as the longest; a slower clip shows what it shows at that
    time, and one that has ended its last frame. A frame that is shown for longer is computed once, when shown in order.

    Args:
        columns: clips in a row; 0: about twice as wide as high. gap: pixels between cells.

    Raises:
        UserError: there is no clip, or a negative number.
    """
    if not clips:
        raise UserError("side by side needs at least one clip")
    if columns < 0 or gap < 0:
        raise UserError(f"columns and gap are 0 or more, not {columns} and {gap}")
    clips = list(clips)
    columns = min(columns or max(1, round(math.sqrt(2 * len(clips)))), len(clips))
    height, width = (max(clip.size[axis] for clip in clips) for axis in (0, 1))
    rows = -(-len(clips) // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    fastest = max(clips, key=lambda clip: clip.rate)
    count = max(math.ceil(len(clip) * fastest.rate / clip.rate) for clip in clips)
    held: dict[int, tuple[int, np.ndarray]] = {}  # by clip: number and frame, where the next time shows it again

    def shown(clip: Clip, k: int) -> int:
        return min(math.floor(k * clip.rate / fastest.rate), len(clip) - 1)

    def frame(k: int) -> np.ndarray:
        sheet = np.full((*size, 3), WHITE, dtype=np.uint8)
        for i, clip in enumerate(clips):
            number = shown(clip, k)
            known, still = held.pop(i, (-1, None))
            if still is None or known != number:
                still = clip[number]
            if k + 1 < count and shown(clip, k + 1) == number:
                held[i] = (number, still)
            _place(sheet, still, i // columns * (height + gap), i % columns * (width + gap))
        return sheet

    return Clip(frame, count, size, fastest.fps)


def filmstrip(clips: Sequence[Clip], shown: int = 8, gap: int = 2) -> Image.Image:
    """One row a clip on white: `shown` of its frames, evenly spread, the first and the last among them.

    A clip of fewer frames shows each of them once. Only the frames that are shown are computed.

    Raises:
        UserError: there is no clip, no frame to show, or a negative gap.
    """
    from PIL import Image

    if not clips:
        raise UserError("a filmstrip needs at least one clip")
    if shown < 1 or gap < 0:
        raise UserError(f"a filmstrip shows at least 1 frame with a gap of 0 or more, not {shown} and {gap}")
    height, width = (max(clip.size[axis] for clip in clips) for axis in (0, 1))
    columns = max(min(shown, len(clip)) for clip in clips)
    size = (len(clips) * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = np.full((*size, 3), WHITE, dtype=np.uint8)
    for row, clip in enumerate(clips):
        for column, k in enumerate(spread(len(clip), shown)):
            _place(sheet, clip[k], row * (height + gap), column * (width + gap))
    return Image.fromarray(sheet)


def spread(count: int, shown: int) -> list[int]:
    """At most `shown` of the numbers 0 ... count - 1, evenly spread, the first and the last among them; of one, 0."""
    shown = min(shown, count)
    return [(2 * j * (count - 1) + shown - 1) // max(1, 2 * (shown - 1)) for j in range(shown)]


def _place(sheet: np.ndarray, frame: np.ndarray, top: int, left: int) -> None:
    sheet[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
