"""Clips as files, by the ending of the name."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import UInt8

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import aside
from ddmi.rendering.clip import Clip, filmstrip, spread

if TYPE_CHECKING:
    from av.video.stream import VideoStream
    from PIL import Image

MOVIES = (".mp4", ".webm")
"""Endings that need the package av."""

THREADS = 2
"""Threads of an encoder, at most."""

SAMPLED = 8
"""Frames that a palette is made from, and that a filmstrip shows."""

PALETTE_SIDE = 128
"""A palette is made from about the square of this many pixels of each of these frames."""


def write(clip: Clip, path: str | Path) -> None:
    """Write a clip, aside first, then renamed. Each frame is computed once; .gif and .webp alone hold all of them.

    - .mp4 (H.264, plays in every browser) and .webm (VP9): colours of BT.709, one for each 2 x 2 pixels. A frame of an
      odd height or width repeats its last row or column. These need the package av.
    - .gif and .webp: endless. A .gif has one palette, the 256 colours that suit 8 of its frames, dithered. Times are
      whole 1/100 s (.webp: 1/1000 s) that alternate so that the whole lasts right. Browsers slow down what has more
      than 50 (90) frames a second; of such a clip frames are left out.
    - .frames: a folder of frame00000.png, frame00001.png, ..., which knows no rate.
    - .png and .jpg: a filmstrip of 8 frames.

    Raises:
        UserError: the name has another ending, the frames are too large for the format, a folder of other files
            has this name, or the package av is missing.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise UserError(f"a clip is written as {', '.join(FORMATS)}, by the ending of its name, not as {ending!r}")
    check_ending(ending)
    writer, largest = _WRITERS[ending]
    if max(clip.size) > largest:
        raise UserError(f"{path}: frames of {ending} have at most {largest} pixels a side, not {max(clip.size)}")
    with aside(path, own=("frame*.png",) if ending == ".frames" else ()) as scratch:
        writer(clip, scratch)


def check_ending(ending: str) -> None:
    """Raise the UserError that `write` would for an ending (".mp4") that needs a missing package, before any work."""
    if ending in MOVIES and importlib.util.find_spec("av") is None:
        raise missing_extra("av", "video")


def _write_mp4(clip: Clip, path: Path) -> None:
    options = {"crf": "18", "preset": "medium", "rc-lookahead": "20"}
    _encode(clip, path, "mp4", "libx264", options, {"movflags": "faststart"})


def _write_webm(clip: Clip, path: Path) -> None:
    options = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
    _encode(clip, path, "webm", "libvpx-vp9", options, {})


def _encode(
    clip: Clip, path: Path, container: str, codec: str, options: dict[str, str], muxing: dict[str, str]
) -> None:
    try:
        import av
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
    except ImportError as error:
        raise missing_extra("av", "video") from error

    height, width = (n + n % 2 for n in clip.size)
    with av.open(str(path), "w", format=container, options=muxing) as file:
        stream = cast("VideoStream", file.add_stream(codec, rate=clip.rate, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count = 1 / clip.rate, THREADS
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for k in range(len(clip)):
            frame = av.VideoFrame.from_ndarray(_even(clip[k]), format="rgb24").reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
                threads=1,
            )
            frame.pts, frame.time_base, frame.duration = k, 1 / clip.rate, 1
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "g v 3"]:
    """The last row and column twice where their number is odd."""
    height, width = frame.shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _write_gif(clip: Clip, path: Path) -> None:
    from PIL import Image

    times = timetable(clip, 100, 2)
    frames = [clip.image(number) for number, _ in times]
    palette = _palette([frames[j] for j in spread(len(frames), SAMPLED)])
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    _save_all(indexed, [10 * duration for _, duration in times], path, format="GIF", disposal=1, optimize=False)


def _write_webp(clip: Clip, path: Path) -> None:
    times = timetable(clip, 1000, 11)
    frames = [clip.image(number) for number, _ in times]
    _save_all(frames, [duration for _, duration in times], path, format="WEBP", quality=85, method=4)


def _save_all(frames: list[Image.Image], durations: list[int], path: Path, **options: Any) -> None:
    """Durations are milliseconds; frames that do not differ become one."""
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)


def timetable(clip: Clip, steps: int, least: int) -> list[tuple[int, int]]:
    """Numbers of the frames that are shown, and for how many 1/steps s each.

    The times are whole: each frame ends at the step nearest to its true end, and so does the whole.

    Args:
        least: the shortest time of a frame. Of a faster clip, frames are left out.
    """
    rate = min(clip.rate, Fraction(steps, least))
    count = max(1, math.floor(len(clip) * rate / clip.rate))
    starts = [_nearest(steps * k / rate) for k in range(count)]
    ends = [*starts[1:], max(starts[-1] + least, _nearest(steps * len(clip) / clip.rate))]
    return [(math.floor(k * clip.rate / rate), ends[k] - starts[k]) for k in range(count)]


def _nearest(value: Fraction) -> int:
    """Halves go up: the distance of two rounded numbers is then never less than the whole part of their distance."""
    return math.floor(value + Fraction(1, 2))


def _palette(frames: list[Image.Image]) -> Image.Image:
    """256 colours that suit these frames best: k-means until a hundredth of the pixels changes its colour at most."""
    from PIL import Image

    step = max(1, math.ceil(math.sqrt(frames[0].width * frames[0].height) / PALETTE_SIDE))
    thin = [np.asarray(frame)[step // 2 :: step, step // 2 :: step].reshape(-1, 3) for frame in frames]
    pixels = np.concatenate(thin)
    kmeans = max(1, len(pixels) // 100)
    return Image.fromarray(pixels[None]).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=kmeans)


def _write_frames(clip: Clip, path: Path) -> None:
    from PIL import Image

    path.mkdir()
    digits = max(5, len(str(len(clip) - 1)))
    for k in range(len(clip)):
        Image.fromarray(clip[k]).save(path / f"frame{k:0{digits}}.png")


def _write_jpg(clip: Clip, path: Path) -> None:
    stream = io.BytesIO()  # where PIL itself writes a JPEG to a full disk, there is no error
    filmstrip([clip], SAMPLED).save(stream, "JPEG", quality=95)
    path.write_bytes(stream.getbuffer())


_WRITERS: dict[str, tuple[Callable[[Clip, Path], None], int]] = {
    ".mp4": (_write_mp4, 16384),
    ".webm": (_write_webm, 16384),
    ".gif": (_write_gif, 65535),
    ".webp": (_write_webp, 16383),
    ".frames": (_write_frames, 1 << 30),
    ".png": (lambda clip, path: filmstrip([clip], SAMPLED).save(path, "PNG"), 1 << 30),
    ".jpg": (_write_jpg, 65500 // SAMPLED - 2),
}
"""By ending: who writes it, and the pixels that a side may have."""

FORMATS: tuple[str, ...] = tuple(_WRITERS)
"""Endings that a clip is written with."""
