"""Windows of clips, and batches out of them at several sizes and frame rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.randomness import generator
from ddmi.data.splits import split
from ddmi.domains.base import PixelBatch, Split, shrinkage
from ddmi.rendering.grid import to_signal

if TYPE_CHECKING:
    from ddmi.domains.video import Video
    from ddmi.domains.video.clips import ClipSource


@dataclass(frozen=True)
class Window:
    """A part of a clip that the encoder reads as one signal.

    Args:
        clip: its number in the source. start: its first frame.
        across, down: where the part lies along the width and the height, from 0 (left, top) to 1.
        mirrored: left and right exchanged.
    """

    clip: int
    start: int
    across: float = 0.5
    down: float = 0.5
    mirrored: bool = False


class VideoDataset:
    """One part of a source of clips, as a domain trains on it. An item is a window of a clip.

    Stage 2 sees the windows as they are listed; stage 1 draws one of the same clip anew at each visit.
    """

    phrasings: list[list[str]] | None = None

    def __init__(self, domain: Video, source: ClipSource, part: Split) -> None:
        self.domain, self.source = domain, source
        self.windows = [w for clip in split(source, part, domain.held_out) for w in self._windows(clip, part)]
        self.straight = len(self.windows)
        if domain.flip and part == "train":
            self.windows += [replace(window, mirrored=True) for window in self.windows]
        self.names = [self._name(window) for window in self.windows]
        clips = [window.clip for window in self.windows]
        self.captions = None if source.captions is None else [source.captions[clip] for clip in clips]
        self.labels = None if source.labels is None else [source.labels[clip] for clip in clips]
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self.windows)

    def epoch(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(len(self.windows), generator=generator).tolist()

    def _windows(self, clip: int, part: Split) -> list[Window]:
        """The windows of a clip, evenly spread in time and over the part of its frames that is too much."""
        room = self.source.lengths[clip] - self.domain.span
        hop, count = (self.domain.hop, self.domain.crops) if part == "train" else (0, 1)
        starts = np.linspace(0, room, 1 + room // (hop or self.domain.span)) if room > 0 else np.zeros(1)
        (high, wide), (height, width) = self.source.sizes[clip], self.domain.size
        places = [0.5] if count == 1 or high * width == wide * height else np.linspace(0, 1, count).tolist()
        wider = wide * height > high * width
        return [
            Window(clip, round(start), across=place if wider else 0.5, down=0.5 if wider else place)
            for start in starts.tolist()
            for place in places
        ]

    def _name(self, window: Window) -> str:
        name = f"{self.source.names[window.clip]}@{window.start}"
        if (window.across, window.down) != (0.5, 0.5):
            name += f" {max(window.across, window.down, key=lambda place: abs(place - 0.5)):.2f}"
        return f"{name} mirrored" if window.mirrored else name

    def pixels(self, window: Window, offsets: Sequence[float], scale: float) -> Float[Tensor, "n 3 h w"]:
        """Frames of a window in [-1, 1], `offsets` frames of the source behind its first, at scale * size.

        Of an exact source, offsets may lie between frames.
        """
        (high, wide), largest = self.source.sizes[window.clip], scale if self.source.exact else max(self.domain.scales)
        height, width = self.domain.size
        # The source shrinks frames once to the largest size that is ever asked for, and keeps these.
        shrink = max(height * largest / high, width * largest / wide)
        short = math.ceil(min(high, wide) * min(shrink, 1.0))
        frames = self.source.read(window.clip, [window.start + k for k in offsets], short)
        high, wide = frames.shape[1:3]
        box = (min(high, round(wide * height / width)), min(wide, round(high * width / height)))
        top, left = round(window.down * (high - box[0])), round(window.across * (wide - box[1]))
        part = frames[:, top : top + box[0], left : left + box[1]]
        found = to_signal(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
        target = (round(height * scale), round(width * scale))
        if box != target:
            found = F.interpolate(found, target, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        return found.flip(3) if window.mirrored else found

    def inputs(self, indices: Sequence[int]) -> Float[Tensor, "b 3 t h w"]:
        return torch.stack([self.truth(index).transpose(0, 1) for index in indices])

    def window(self, index: int) -> Window:
        """Where item `index` lies."""
        return self.windows[index]

    def offsets(self, rate: int = 1) -> list[int]:
        """Frames of the source, counted from a window's first, that are its frames at `rate` a frame of the encoder.

        The encoder reads the middle one of every `stride` frames, of an even number the earlier middle one; those at
        other rates, which divide the stride, are these and others between.
        """
        step = self.domain.stride // rate
        return [self._middle % step + k * step for k in range(self.domain.frames * rate)]

    def times(self, rate: int = 1) -> Float[Tensor, "k"]:
        """Coordinates of these. The encoder's frames (rate 1) lie at the centres of the cells of the time axis."""
        frames = (torch.tensor(self.offsets(rate)).double() - self._middle) / self.domain.stride
        return ((2 * frames + 1) / self.domain.frames - 1).float()

    @property
    def _middle(self) -> int:
        return (self.domain.stride - 1) // 2

    def truth(self, index: int, scale: float = 1.0, rate: int = 1) -> Float[Tensor, "k 3 h w"]:
        """The true frames of an item at scale * size, `rate` (a divisor of the stride) a frame of the encoder."""
        return self.pixels(self.windows[index], self.offsets(rate), scale)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> PixelBatch:
        """One size and frame rate for the batch; a fresh window of each clip, and in it pixels of some frames."""
        domain = self.domain
        shrink = shrinkage(domain.equivariance, choice)
        if shrink < 1:
            return self._reduced(indices, shrink, seeds)
        scale = domain.scales[int(torch.randint(len(domain.scales), (), generator=choice))]
        rate = domain.rates[int(torch.randint(len(domain.rates), (), generator=choice))]
        size = (round(domain.size[0] * scale), round(domain.size[1] * scale))
        clips, coordinates, targets = [], [], []
        for index, seed in zip(indices, seeds, strict=True):
            own = generator(seed, "window")
            window = self._drawn(self.windows[index], own)
            k, rows, columns = self._asked(size, rate, own)
            frames = self.pixels(window, [self.offsets(rate)[i] for i in k.tolist()], scale)
            clips.append(self.pixels(window, self.offsets(), 1.0).transpose(0, 1))
            frame = torch.arange(len(k))[:, None]
            targets.append(frames[frame, :, rows, columns].flatten(0, 1))
            at = [(2 * columns + 1) / size[1] - 1, (2 * rows + 1) / size[0] - 1]
            at.append(self.times(rate)[k][:, None].expand_as(rows))
            coordinates.append(torch.stack(at, dim=2).flatten(0, 1))
        return PixelBatch(
            x=torch.stack(clips),
            coordinates=torch.stack(coordinates),
            targets=torch.stack(targets),
            periods=torch.tensor([domain.size[0] / size[0], 1 / rate]),
            patch=None if domain.sampling == "points" and domain.points else self._edges(size),
            seeds=tuple(seeds),
        )

    def _reduced(self, indices: Sequence[int], shrink: float, seeds: Sequence[int]) -> PixelBatch:
        """Pixels of the windows at reduced size and frame rate, of which each covers several of the encoder's."""
        clips, coordinates, targets = [], [], []
        for index, seed in zip(indices, seeds, strict=True):
            own = generator(seed, "window")
            clip = self.pixels(self._drawn(self.windows[index], own), self.offsets(), 1.0).transpose(0, 1)
            sides = [max(1, round(shrink * side)) for side in clip.shape[1:]]
            low = F.interpolate(clip[None], sides, mode="area")[0].permute(1, 2, 3, 0)
            at = [torch.randint(side, (self.domain.points or math.prod(sides),), generator=own) for side in sides]
            clips.append(clip)
            targets.append(low[tuple(at)])
            pairs = zip(reversed(at), reversed(sides), strict=True)  # x, y, t
            coordinates.append(torch.stack([(2 * k + 1) / side - 1 for k, side in pairs], dim=1))
        return PixelBatch(
            x=torch.stack(clips),
            coordinates=torch.stack(coordinates),
            targets=torch.stack(targets),
            periods=torch.ones(2),
            shrink=shrink,
            seeds=tuple(seeds),
        )

    def _drawn(self, window: Window, own: torch.Generator) -> Window:
        """Another window of the same clip."""
        room = self.source.lengths[window.clip] - self.domain.span
        start = int(torch.randint(room + 1, (), generator=own))
        across, down = torch.rand(2, generator=own).tolist()
        if self.domain.crop == "centre":
            across = down = 0.5
        return replace(window, start=start, across=across, down=down)

    def _edges(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the patch of one frame."""
        height, width = self.domain.size
        if not self.domain.points:
            return height, width
        edge = round(math.sqrt(self.domain.points / self.domain.depth))
        return min(edge, size[0]), min(edge, size[1])

    def _asked(self, size: tuple[int, int], rate: int, own: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (k) at `rate`, and rows and columns (k, n) of pixels in each, as (height, width) = size has them."""
        domain, count = self.domain, self.domain.frames * rate
        depth = min(domain.depth, count)
        if domain.points and domain.sampling == "points":
            k = torch.randperm(count, generator=own)[:depth].sort().values
            y, x = (torch.randint(side, (depth, domain.points // domain.depth), generator=own) for side in size)
            return k, y, x
        k = int(torch.randint(count - depth + 1, (), generator=own)) + torch.arange(depth)
        edges = self._edges(size)
        corners = [
            int(torch.randint(side - edge + 1, (), generator=own)) for side, edge in zip(size, edges, strict=True)
        ]
        lines = [corner + torch.arange(edge) for corner, edge in zip(corners, edges, strict=True)]
        y, x = (t.flatten().expand(depth, -1) for t in torch.meshgrid(*lines, indexing="ij"))
        return k, y, x
