"""The source of clips: folders of video files and of numbered frames.

Frames are uint8 arrays (H, W, 3), RGB, row 0 at the top.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.folders import (
    NOT_TEXT,
    classes_of,
    files_below,
    folders_of,
    in_threads,
    is_text,
    one_line,
    parts_of,
    printable,
    usable,
)
from ddmi.data.images import EXTENSIONS, captions_of
from ddmi.data.memory import Memory
from ddmi.domains.video.animated import AnimatedImage, animated, named
from ddmi.domains.video.footage import FORMATS, Footage, FrameFolder, Unusable, Varying, VideoFile, header, too_short

log = logging.getLogger(__name__)


class ClipSource:
    """A fixed, ordered set of clips whose frames can be read by number.

    `names` are stable, unique, relative with "/"; `groups` are indices that are variants of one subject; `parts` is
    "train", "val" or "test" of each clip where the set is split already, else None; `captions` has one text a clip (""
    where it has none), or is None; `labels` is the class of each clip, an index into `classes`, or None; `lengths` is
    the frames of each clip; `sizes` is (height, width) of its frames, `rates` its frames a second (None for folders of
    frames), `bad` (name, reason) of what was left out.

    Args:
        clips: footage by name.
        parts: the part of each, where the set is split already.
        memory: bytes of frames that `read` may keep.
    """

    captions: list[str] | None = None
    labels: list[int] | None = None
    exact = False
    """Whether `read` renders at the very size, however large, instead of shrinking stored frames."""

    def __init__(self, clips: dict[str, Footage], *, parts: list[str] | None = None, memory: int = 2 << 30):
        self.names = list(clips)
        self.parts = parts
        self.classes: list[str] = []
        self.groups = [[index] for index in range(len(clips))]
        self.lengths = [footage.length for footage in clips.values()]
        self.sizes = [footage.size for footage in clips.values()]
        self.rates = [footage.rate for footage in clips.values()]
        self.bad: list[tuple[str, str]] = []
        self._footage = list(clips.values())
        self._memory = Memory[np.ndarray](memory)

    def read(self, index: int, frames: Sequence[float], short: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Frames of clip `index` by number, in the order asked for; one may be asked for twice. The array is new.

        Exact sources also take numbers between those of frames.

        They are whole, shrunk with Lanczos so that the shorter side is `short` pixels; smaller ones stay as they are.

        Raises:
            IndexError: a number that is negative or beyond the last frame.
            UserError: the file cannot be decoded there; it is named.
        """
        numbers = [int(number) for number in frames]
        for number in numbers:
            if not 0 <= number < self.lengths[index]:
                raise IndexError(f"{self.names[index]} has {self.lengths[index]} frames, there is no frame {number}")
        size = shrunk(self.sizes[index], short)
        out = np.empty((len(numbers), *size, 3), dtype=np.uint8)
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            kept = self._memory.get((index, number, min(size)))
            if kept is None:
                places.setdefault(number, []).append(place)
            else:
                out[place] = kept
        for number, image in self._footage[index].frames(sorted(places)):
            if size != (image.height, image.width):
                image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS, reducing_gap=None)
            frame = np.array(image, dtype=np.uint8)
            out[places[number]] = frame
            self._memory.keep((index, number, min(size)), frame)
        return out


def shrunk(size: tuple[int, int], short: int) -> tuple[int, int]:
    """(height, width) of frames of this size when the shorter side becomes `short`; never larger than they are."""
    side = min(size)
    if side <= short:
        return size
    height, width = (max(1, round(length * short / side)) for length in size)
    return height, width


def open_clips(
    path: str | Path,
    *,
    on_bad: Literal["skip", "stop"] = "skip",
    memory: int = 2 << 30,
    shortest: int = 2,
) -> ClipSource:
    """The clips of a folder, at any depth; or one video file, or one folder of frames, as a source of one.

    Video files end in mp4, m4v, mov, mkv, webm, avi or gif; animated webp and png files are clips as well. A folder
    that itself holds images (png, jpg, jpeg, webp, bmp) is one clip, its frames in the order of the numbers in their
    names; covers (a.jpg beside a.mp4, cover.jpg, folder.jpg, poster.jpg, thumbnail.jpg) are no frames. Both may be
    mixed. Hidden files and folders are passed over; links are followed. Parts: folders train, test, val at the top.
    Classes: the folders at the top (below the parts) when there are two or more and every clip lies in one. Captions:
    `captions.jsonl` at the root, one {"file": name relative to the root, "text": caption} a line, else a `.txt` beside
    a clip; where there are none, the words of the names.

    Opening reads packets and headers alone, to know what is bad before training: fewer than `shortest` frames, frames
    of two sizes, a frame rate that varies, no video stream, a file that ends early, a broken header, HDR. Whatever
    else is wrong with one clip leaves that one out.

    Args:
        on_bad: "skip" leaves bad clips out and lists them in `bad` as (name, reason); "stop" raises at the first.
        memory: bytes of frames that stay in memory.
        shortest: how many frames a clip must have.

    Raises:
        UserError: nothing is there, no clip can be used, a bad clip under "stop", bad captions, PyAV is missing.
    """
    root = Path(path)
    if root.is_file():
        try:
            return ClipSource({printable(root.name): _file(root, shortest)}, memory=memory)
        except Unusable as error:
            raise UserError(f"{root} cannot be used: {error}") from error
    if not root.is_dir():
        raise UserError(f"{root} does not exist: {_COUNTING}")
    files = files_below(root)
    found = _found(root, files)
    if not found:
        raise UserError(f"no clips in {root}: {_COUNTING}")

    clips: dict[str, Footage]
    clips, bad = usable(root, _open(root, found, shortest), "clip", on_bad)
    rates = [footage.rate for footage in clips.values() if footage.rate]
    if rates and max(rates) > _SAME_RATE * min(rates):
        told = f"the frame rates of the clips in {root} go from {min(rates):.4g} to {max(rates):.4g}"
        log.warning("%s: windows count frames, so the same motion is slower in some; give all clips one rate", told)
    source = ClipSource(clips, parts=parts_of(list(clips)), memory=memory)
    source.bad = bad
    source.labels, source.classes = classes_of(folders_of(source.names, source.parts is not None))
    source.captions = captions_of(root, source.names, files, "clips") or named(source.names)
    return source


_COUNTING = f"files that count end in {', '.join(FORMATS)}, or are frames ({', '.join(EXTENSIONS)}), at any depth"


Head = VideoFile | AnimatedImage | tuple[int, int] | Unusable
"""A video file or animated image, or the (height, width) of an image; or why it cannot be used."""
_SAME_RATE = 1.02
"""Clips whose frame rates differ by less count as of one rate: 23.976 and 24."""
_COVERS = ("cover", "folder", "poster", "thumb", "thumbnail")


def _found(root: Path, files: list[str]) -> dict[str, list[str]]:
    """By the name of each clip, in order: its frames relative to `root`, in order, or the video file itself."""
    found: dict[str, list[str]] = {}
    videos = {PurePosixPath(name).with_suffix("") for name in files if PurePosixPath(name).suffix.lower() in FORMATS}
    for name in files:
        pure = PurePosixPath(name)
        if pure.suffix.lower() in FORMATS or (is_text(name) and animated(root / name)):
            found[name] = [name]
        elif (
            pure.suffix.lower() in EXTENSIONS
            and pure.stem.lower() not in _COVERS
            and pure.with_suffix("") not in videos
        ):
            found.setdefault(pure.parent.as_posix(), []).append(name)
    if list(found) == ["."]:  # the folder is one clip
        found = {root.resolve().name: found["."]}
    return {name: _ordered(found[name]) for name in sorted(found)}


def _ordered(files: list[str]) -> list[str]:
    """The files of a folder by the numbers in their names: frame2 before frame10, and 0.25 before 0.5.

    Digits behind a point are decimals, but where they were counted (9.9, 9.10): some end in 0, and not all are as long.
    """
    tails = re.findall(r"\d\.(\d+)", " ".join(PurePosixPath(file).stem for file in files))
    counted = len(set(map(len, tails))) > 1 and any(len(tail) > 1 and tail.endswith("0") for tail in tails)
    number = re.compile(r"(\d+)" if counted else r"(\d+(?:\.\d+)?)")

    def key(file: str) -> tuple[list[tuple[str, Decimal]], str]:
        parts = [*number.split(PurePosixPath(file).stem), "-1"]  # texts and numbers in turn
        return [(text, Decimal(digits)) for text, digits in zip(parts[::2], parts[1::2], strict=True)], file

    return sorted(files, key=key)


def _open(root: Path, found: dict[str, list[str]], shortest: int) -> Iterator[tuple[str, Footage | str]]:
    """The footage of each clip in order, or the reason why it cannot be used."""
    files = [file for clip in found.values() for file in clip]
    looked = in_threads(lambda file: _look(root / file, shortest) if is_text(file) else Unusable(NOT_TEXT), files)
    for name, own in found.items():
        try:
            yield name, _footage(root, own, list(itertools.islice(looked, len(own))), shortest)
        except Unusable as error:
            yield name, str(error)


def _look(path: Path, shortest: int) -> Head:
    """A video file, or the size of one image; or why it cannot be used, whatever the reason."""
    try:
        return _file(path, shortest) if path.suffix.lower() in FORMATS or animated(path) else header(path)
    except Unusable as error:
        return error
    except UserError:  # a package is missing
        raise
    except Exception as error:  # decoders raise nearly every kind of error on a broken file
        return Unusable(f"cannot be read: {one_line(error)}")


def _file(path: Path, shortest: int) -> VideoFile | AnimatedImage:
    """Footage of a single file. Raises Unusable with the reason why it is none."""
    if animated(path):
        return AnimatedImage.open(path, shortest)
    try:
        return VideoFile.open(path, shortest)
    except Varying as error:
        if path.suffix.lower() != ".gif":
            raise
        try:
            return AnimatedImage.open(path, shortest)  # some of its frames may be shown for longer
        except Unusable:
            raise error from None


def _footage(root: Path, files: list[str], heads: list[Head], shortest: int) -> Footage:
    sizes: dict[tuple[int, int], str] = {}
    for file, head in zip(files, heads, strict=True):
        if isinstance(head, VideoFile | AnimatedImage):
            return head
        if isinstance(head, Unusable):
            raise head
        sizes.setdefault(head, PurePosixPath(file).name)
    if len(sizes) > 1:
        first, second = [f"{width}x{height} ({file})" for (height, width), file in sizes.items()][:2]
        raise Unusable(f"its frames change their size: {first}, {second}")
    if len(files) < shortest:
        raise Unusable(too_short(len(files), shortest))
    return FrameFolder(
        root / PurePosixPath(files[0]).parent, [PurePosixPath(file).name for file in files], next(iter(sizes))
    )
