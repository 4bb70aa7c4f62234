"""Footage: the frames of one video file, or of one folder of images, reached by their numbers.

Opening reads packets and headers, and decodes no frame but the first of a file. Video files are decoded by PyAV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image, UnidentifiedImageError

from ddmi.base.errors import UserError, missing_extra
from ddmi.data.folders import one_line
from ddmi.data.images import to_rgb, upright

FORMATS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
"""Endings of video files."""
JITTER = 0.05
"""A frame time may differ from the median by this fraction of it; cameras of phones do by two or three per cent."""


class Unusable(Exception):
    """Why a file or a folder cannot be used, in one line that does not name it."""


class Varying(Unusable):
    """Its frames do not come at a constant rate."""


@dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file, or a range of its frames. Frames are known by their time stamps, so that a seek cannot shift them.

    Args:
        stamps: presentation times in ticks, rising; frame k is the one shown at `stamps[k]`.
        keys: those of the frames at which decoding can begin, rising. Empty: it always begins with the file.
        timed: False where the container keeps no presentation times: then frames are counted from the first one.
        size: (height, width) of a frame as shown.
        rate: frames a second.
        turn: what shows the frames upright.
        aspect: how many times as wide as high a stored pixel is shown.
    """

    path: Path
    stamps: Int64[np.ndarray, "n"]
    keys: Int64[np.ndarray, "m"]
    timed: bool
    size: tuple[int, int]
    rate: float | None
    turn: Image.Transpose | None
    aspect: float = 1.0

    @property
    def length(self) -> int:
        return len(self.stamps)

    @staticmethod
    def open(path: Path, shortest: int = 2) -> VideoFile:
        """Read the packets of a video file and decode its first frame.

        Raises:
            Unusable: the file cannot be used, with the reason.
            UserError: PyAV is not installed.
        """
        av = _av()
        try:
            with _opened(path) as container:
                return _survey(path, container, shortest)
        except av.FFmpegError as error:
            raise Unusable(f"not a video that can be read, or cut off: {error.strerror or error}") from error
        except OSError as error:
            raise Unusable(f"cannot be read: {error.strerror or error}") from error

    def frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """The frames of these numbers as RGB, each once with its number, decoded from the last key frame before them.

        The file is open only while this runs.

        Raises:
            UserError: the file cannot be decoded there, or has changed.
        """
        left = set(numbers)
        if not left:
            return
        before = np.searchsorted(self.keys, self.stamps[min(left)], side="right")
        starts = [None] if before == 0 else [int(self.keys[before - 1]), None]
        for start in starts:  # what does not come after the key frame is looked for from the beginning
            try:
                for number, image in self._decode(start, left):
                    yield number, image
                    left.discard(number)
            except Unusable as error:
                raise UserError(f"{self.path} has changed: {error}") from error
            except _av().FFmpegError as error:
                if start is None:
                    raise UserError(f"{self.path} cannot be decoded to its end: {error.strerror or error}") from error
            if not left:
                return
        raise UserError(f"{self.path} ends early: frame {min(left)} of its {self.length} cannot be decoded")

    def _decode(self, start: int | None, wanted: set[int]) -> Iterator[tuple[int, Image.Image]]:
        """Those of the wanted frames that come when decoding begins at the key frame of this stamp."""
        numbers = {int(self.stamps[k]): k for k in wanted}  # where there are no times, stamps count frames
        last = max(wanted)
        with _opened(self.path) as container:
            stream = _stream(container)
            decoder = _decoder(stream)
            if start is not None:
                container.seek(start, stream=stream)
            counted = -1
            begun = start is None
            for packet in container.demux(stream):
                begun = begun or packet.pts == start  # a seek may end before the key frame
                for frame in decoder.decode(packet) if begun else ():
                    counted += 1
                    number = numbers.get(frame.pts if self.timed else counted)
                    if number is None or number not in wanted:
                        continue
                    image = _upright(frame, self.turn, self.aspect)
                    if (image.height, image.width) != self.size:
                        raise UserError(
                            f"{self.path} changes its size: frame {number} has {image.width}x{image.height} pixels, "
                            f"the first {self.size[1]}x{self.size[0]}; one size is allowed"
                        )
                    yield number, image
                    if number == last:
                        return


@dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder of images, one a frame, whose names are `files` in order; `size` is (height, width) of each."""

    folder: Path
    files: list[str]
    size: tuple[int, int]
    rate: float | None = None  # images have no times

    @property
    def length(self) -> int:
        return len(self.files)

    def frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """The frames of these numbers as RGB, each with its number.

        Raises:
            UserError: an image cannot be read, or has changed its size.
        """
        for number in numbers:
            path = self.folder / self.files[number]
            try:
                with Image.open(path, formats=_IMAGES) as image:
                    turned = "exif" in image.info  # asked before the pixels are read, as `header` does
                    frame = to_rgb(upright(image) if turned else image)
            except Exception as error:  # decoders raise nearly every kind of error on a broken file
                raise UserError(f"cannot read the frame {path}: {one_line(error)}") from error
            if (frame.height, frame.width) != self.size:
                raise UserError(
                    f"{path} has {frame.width}x{frame.height} pixels, the frames beside it "
                    f"{self.size[1]}x{self.size[0]}; one size is allowed"
                )
            yield number, frame


@runtime_checkable
class Footage(Protocol):
    """The frames of one clip: how many, (height, width) of each, and how many a second."""

    @property
    def length(self) -> int: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def rate(self) -> float | None: ...
    def frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """The frames of these numbers as RGB, each once with its number."""
        ...


def too_short(length: int, shortest: int) -> str:
    """Why a clip of this many frames cannot be used."""
    return f"has {length} frame{'' if length == 1 else 's'}, at least {shortest} are needed"


_IMAGES = ("BMP", "JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112


def header(path: Path) -> tuple[int, int]:
    """(height, width) of an image as shown, from the beginning of its file. Raises Unusable for anything else."""
    try:
        with Image.open(path, formats=_IMAGES) as image:
            try:
                across = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= 5
            except Exception:  # malformed EXIF turns nothing, as in `upright`
                across = False
            return (image.width, image.height) if across else (image.height, image.width)
    except UnidentifiedImageError as error:
        raise Unusable(f"{path.name} is not an image") from error
    except Exception as error:  # a decompression bomb, a broken header
        raise Unusable(f"{path.name} is broken: {one_line(error)}") from error


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise missing_extra("av", "video") from error
    return av


def _opened(path: Path) -> Any:
    # By its content a file could be a playlist, which opens others.
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(_CONTAINERS)}
    return _av().open(f"file:{path}", options=options)


_CONTAINERS = ("mov", "mp4", "matroska", "webm", "avi", "gif", "mpegts", "mpeg", "flv", "asf", "ogg")


def _stream(container: Any) -> Any:
    """The first stream of video that is no cover image."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise Unusable("no video stream")


def _decoder(stream: Any) -> Any:
    """What decodes the packets of a stream, in one thread, since more would read ahead.

    FFmpeg's own decoders of VP8 and VP9 drop the alpha that WebM keeps beside the colours; those of libvpx do not.
    """
    decoder = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(decoder.name)
    if name and ("alpha_mode", "1") in {(key.lower(), value) for key, value in stream.metadata.items()}:
        try:
            decoder = _av().CodecContext.create(name, "r")
        except ValueError as error:
            raise Unusable(f"has transparency, which this build of PyAV cannot decode: it lacks {name}") from error
    decoder.thread_count = 1
    return decoder


def _survey(path: Path, container: Any, shortest: int) -> VideoFile:
    stream = _stream(container)
    if stream.codec_context is None:
        raise Unusable("its codec is unknown")
    decoder = _decoder(stream)
    packets = 0
    shown: list[tuple[int | None, bool]] = []  # stamp and whether decoding can begin here
    first = None
    for packet in container.demux(stream):
        if first is None:
            first = next(iter(decoder.decode(packet)), None)
        if packet.size == 0:
            continue
        packets += 1
        if not packet.is_discard:
            shown.append((packet.pts, packet.is_keyframe))
    if packets < stream.frames and not _edited(path, container, stream):
        raise Unusable(f"ends early: {packets} of its {stream.frames} frames are there")
    if first is None:
        raise Unusable("no frame of it can be decoded")
    if len(shown) < shortest:
        raise Unusable(too_short(len(shown), shortest))
    if (curve := _HDR.get(int(first.color_trc))) is not None:
        raise Unusable(f"is HDR ({curve}), which would be read with wrong colours: convert it to SDR (BT.709) first")
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _WIDEST <= aspect <= _WIDEST:
        raise Unusable(f"its pixels are {aspect:.4g} times as wide as high")

    # avi keeps no presentation times: what stands in the packets is guessed, and wrong where frames are reordered.
    guessed = container.format.name == "avi" and stream.codec_context.has_b_frames
    timed = not guessed and all(stamp is not None for stamp, _ in shown)
    seconds = _seconds(container, stream)
    if timed:
        stamps = np.array(sorted(stamp for stamp, _ in shown if stamp is not None), dtype=np.int64)
        there = float(stream.time_base * int(stamps[-1] - stamps[0]))
        period = there / max(1, len(stamps) - 1)
        begin = max(0.0, float(stream.time_base * int(stamps[0])))  # the header's duration counts from 0
        if seconds is not None and there + 3 * period < 0.98 * (seconds - begin):
            raise Unusable(f"ends early: {there:.1f} of its {seconds - begin:.1f} seconds are there")
        rate = _rate(stamps, stream)
        keys = np.array(sorted(stamp for stamp, key in shown if key and stamp is not None), dtype=np.int64)
        if container.format.name == "gif":  # cannot be entered in the middle
            keys = keys[:0]
    else:
        stamps, keys = np.arange(len(shown), dtype=np.int64), np.zeros(0, dtype=np.int64)
        rate = float(stream.average_rate) if stream.average_rate else None
    turn = _turn(first)
    image = _upright(first, turn, aspect)
    return VideoFile(path, stamps, keys, timed, (image.height, image.width), rate, turn, aspect)


_WIDEST = 10.0
_HDR = {16: "PQ, SMPTE 2084", 18: "HLG, ARIB STD-B67"}
"""Transfer functions (ITU-T H.273) of more than 8 bits of light."""
_TURNS: dict[tuple[int, int, int, int], Image.Transpose | None] = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
}
"""By (a, b, c, d) of a display matrix: a pixel at (x, y), y down, is shown at (a x + c y, b x + d y)."""


def _turn(frame: Any) -> Image.Transpose | None:
    """The one of the eight turns and mirrorings that is nearest to a frame's display matrix."""
    given = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if given is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(given), dtype=np.int32, count=9).astype(np.float64)
    return _TURNS[max(_TURNS, key=lambda signs: float(np.dot(signs, (a, b, c, d))))]


def _edited(path: Path, container: Any, stream: Any) -> bool:
    """Whether frames are missing because an edit list of mp4 leaves them out, and all others lie in the file."""
    return "mp4" in container.format.name and all(
        entry.pos + entry.size <= path.stat().st_size for entry in stream.index_entries
    )


def _seconds(container: Any, stream: Any) -> float | None:
    """How long the header says that the frames are shown; mkv and webm have no count of them."""
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told:
        hours, minutes, seconds = map(float, told.groups())
        return 3600 * hours + 60 * minutes + seconds
    alone = "matroska" in container.format.name and len(container.streams) == 1
    return container.duration / 1e6 if alone and container.duration else None


def _rate(stamps: Int64[np.ndarray, "n"], stream: Any) -> float | None:
    """Frames a second. Raises Varying where the frames do not come at a constant rate.

    Constant are frame times that are alike, and stamps of a constant rate rounded to ticks, or to the milliseconds of
    another container: rounding moves a stamp by less than one unit, and as much may be missed by the line through the
    first and the last.
    """
    tick: Fraction = stream.time_base
    times = np.diff(stamps)
    if len(times) == 0:
        return float(stream.average_rate) if stream.average_rate else None
    steady = times[:-1] if len(times) > 2 else times  # the last frame may stand at an odd time
    middle, step = float(np.median(steady)), steady.mean()
    alike = np.abs(steady - middle).max() <= JITTER * middle
    apart = stamps[: len(steady) + 1] - stamps[0] - step * np.arange(len(steady) + 1)
    on_a_grid = np.ptp(apart) < 2 * max(1.0, min(float(Fraction(1, 1000) / tick), step / 8))
    if times.min() <= 0 or not (alike or on_a_grid):
        low, high = (float(1000 * tick * int(time)) for time in (times.min(), times.max()))
        raise Varying(
            f"its frame rate varies (frame times from {low:.4g} to {high:.4g} ms); "
            "give it a constant one: ffmpeg -i IN -vf fps=25 OUT"
        )
    mean = len(steady) / float(tick * int(steady.sum()))
    named = float(stream.average_rate) if stream.average_rate else mean
    return named if abs(named - mean) < 0.01 * mean else mean


def _upright(frame: Any, turn: Image.Transpose | None, aspect: float) -> Image.Image:
    if any(component.is_alpha for component in frame.format.components):
        pixels = frame.to_ndarray(format="rgba")
        image = to_rgb(Image.fromarray(pixels))
    else:
        image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if (width := max(1, round(image.width * aspect))) != image.width:
        image = image.resize((width, image.height), Image.Resampling.LANCZOS)
    return image if turn is None else image.transpose(turn)
