"""Sheets: captioned pictures or clips side by side on white, and files of them that are not too heavy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ddmi.base.storage import aside
from ddmi.rendering.clip import Clip, contact_sheet, tiled
from ddmi.rendering.movie import timetable
from ddmi.report.content import MILLISECONDS, SHORTEST

if TYPE_CHECKING:
    from PIL import Image

HEAVIEST = 400_000
"""Bytes of one file. A heavier one gets fewer colours, or is stored with more loss."""
COLOURS = (256, 128, 64, 32, 16)
QUALITIES = (85, 75, 65, 55, 45, 35, 25, 15)
"""What is tried in turn: colours of a .png, quality of a .webp."""

GAP, MARGIN = 14, 16
"""Pixels between pictures of a sheet, and white around all of them: it may lie on a dark page."""
STILL, MOVING, INK = 18, 14, (55, 60, 68)
"""Pixels of the letters of captions, below pictures, which pages show smaller than they are, and below clips, which are
smaller themselves; and their colour."""
ABOVE = 6
"""Pixels between a picture and its caption."""


@dataclass(frozen=True)
class Cell:
    """A picture or a clip, and the words below it, plain text."""

    shown: Image.Image | Clip
    caption: str = ""


def held(clip: Clip) -> Clip:
    """The clip with all its frames computed."""
    return Clip.of(clip.array(), clip.fps)


def beside(cells: Sequence[Cell], columns: int) -> Image.Image | Clip:
    """Cells side by side on white, row by row, their captions below them: a picture, or of clips a clip."""
    from PIL import Image

    moving = any(isinstance(cell.shown, Clip) for cell in cells)
    font = MOVING if moving else STILL
    lines = max(len(wrapped(cell.caption, breadth(cell), font)) for cell in cells)
    if not moving:
        done = [captioned(cell.shown, cell.caption, lines, font) for cell in cells]  # type: ignore[arg-type]
        return framed(contact_sheet(done, columns, GAP))

    def below(clip: Clip, caption: str) -> Clip:
        def frame(k: int) -> UInt8[np.ndarray, "h w 3"]:
            return np.asarray(captioned(clip.image(k), caption, lines, font))

        height, width = clip.size
        return Clip(frame, len(clip), (height + band(lines, font), width), clip.fps)

    whole = tiled([below(cell.shown, cell.caption) for cell in cells], columns, GAP)  # type: ignore[arg-type]
    height, width = whole.size
    size = (height + 2 * MARGIN, width + 2 * MARGIN)
    return held(Clip(lambda k: np.asarray(framed(Image.fromarray(whole[k]))), len(whole), size, whole.fps))


def breadth(cell: Cell) -> int:
    """Its width in pixels."""
    return cell.shown.size[1] if isinstance(cell.shown, Clip) else cell.shown.width


def leading(font: int) -> int:
    """Pixels of a line of letters of this size."""
    return round(1.28 * font)


def band(lines: int, font: int) -> int:
    """Pixels that a caption of so many lines takes below its picture."""
    return ABOVE + lines * leading(font) if lines else 0


def captioned(picture: Image.Image, caption: str, lines: int, font: int) -> Image.Image:
    """The picture over its caption, in the middle and dark on white, with room for so many lines."""
    from PIL import Image, ImageDraw, ImageFont

    found = Image.new("RGB", (picture.width, picture.height + band(lines, font)), "white")
    found.paste(picture, (0, 0))
    draw, letters = ImageDraw.Draw(found), ImageFont.load_default(size=font)
    for k, line in enumerate(wrapped(caption, picture.width, font)):
        at = (picture.width / 2, picture.height + ABOVE + k * leading(font))
        draw.text(at, line, fill=INK, font=letters, anchor="ma")
    return found


def wrapped(caption: str, width: int, font: int) -> list[str]:
    """The words in lines of so many pixels at most; a longer word has a line to itself."""
    from PIL import ImageFont

    letters = ImageFont.load_default(size=font)
    lines: list[str] = []
    for word in caption.replace("×", "x").split():  # the font has no such sign
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def framed(picture: Image.Image) -> Image.Image:
    """The picture with white around it."""
    from PIL import ImageOps

    return ImageOps.expand(picture, MARGIN, "white")


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a .png, of fewer colours where it is heavy."""
    for count in (0, *COLOURS):
        stream = io.BytesIO()
        (picture.quantize(count) if count else picture).save(stream, "PNG", optimize=True)
        if stream.tell() <= HEAVIEST:
            break
    with aside(path) as scratch:
        scratch.write_bytes(stream.getvalue())


def write_clip(clip: Clip, path: Path) -> int:
    """Write an endless .webp, with more loss where it is heavy; returns the quality that it has."""
    times = timetable(clip, MILLISECONDS, SHORTEST)
    first, *others = [clip.image(number) for number, _ in times]
    options: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0, "method": 4}
    for quality in QUALITIES:
        stream = io.BytesIO()
        first.save(stream, "WEBP", duration=[duration for _, duration in times], quality=quality, **options)
        if stream.tell() <= HEAVIEST:
            break
    with aside(path) as scratch:
        scratch.write_bytes(stream.getvalue())
    return quality
