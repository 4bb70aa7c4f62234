"""Animated images (webp, apng, gif) as footage: frames that are shown for longer count several times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageSequence

from ddmi.base.errors import UserError
from ddmi.data.images import to_rgb
from ddmi.domains.video.footage import Unusable, too_short

FORMATS = (".webp", ".png", ".apng", ".gif")
"""Endings that animated images may have."""
UNSAID = 100
"""Milliseconds of a frame that gives no time."""
ROUNDING = 6
"""Milliseconds by which the time of a frame may miss a multiple of the shortest: gifs count hundredths of a second."""


@dataclass(frozen=True, eq=False)
class AnimatedImage:
    """An animated image at a constant rate: frame k is image `order[k]` of the file; `size` is (height, width)."""

    path: Path
    order: list[int]
    size: tuple[int, int]
    rate: float | None

    @property
    def length(self) -> int:
        return len(self.order)

    @staticmethod
    def open(path: Path, shortest: int = 2) -> AnimatedImage:
        """Decode all frames, whose times are known only then.

        Raises:
            Unusable: the file cannot be used, with the reason.
        """
        try:
            with Image.open(path) as image:
                size = (image.height, image.width)
                times = []
                for frame in ImageSequence.Iterator(image):
                    frame.load()  # sets the time
                    times.append(frame.info.get("duration") or UNSAID)
        except Exception as error:  # decoders raise nearly every kind of error on a broken file
            raise Unusable(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
        shown = [max(1, round(time / min(times))) for time in times]
        rate = 1000 * sum(shown) / sum(times)
        if any(abs(time - count * 1000 / rate) > ROUNDING for time, count in zip(times, shown, strict=True)):
            raise Unusable(
                f"its frame times, from {min(times):.4g} to {max(times):.4g} ms, are no multiples of one time"
            )
        order = [k for k, count in enumerate(shown) for _ in range(count)]
        if len(order) < shortest:
            raise Unusable(too_short(len(order), shortest))
        return AnimatedImage(path, order, size, rate)

    def frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """The frames of these numbers as RGB on white, each once with its number, in rising order.

        Raises:
            UserError: the file cannot be decoded there, or has changed.
        """
        wanted = sorted(set(numbers))
        try:
            with Image.open(self.path) as image:
                for number in wanted:
                    image.seek(self.order[number])
                    yield number, to_rgb(image)
        except UserError:
            raise
        except Exception as error:  # as above
            raise UserError(f"{self.path} cannot be decoded: {' '.join(str(error).split())}") from error


def animated(path: Path) -> bool:
    """Whether this is an animated webp or png, by the beginning of the file."""
    if path.suffix.lower() not in FORMATS[:3]:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    webp = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:21]) and head[20] & 2
    return bool(webp) or (head[:4] == b"\x89PNG" and b"acTL" in head)


def named(names: list[str]) -> list[str] | None:
    """The words in the names of clips as captions: "sea/a_calm-sea_03.mp4" -> "a calm sea"; None where none has any."""
    stems = [PurePosixPath(name).stem for name in names]
    found = [" ".join(re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", stem)).lower() for stem in stems]
    return found if any(found) else None
