"""Files of pictures: their sizes by their headers, their pixels as they are, shrunk, or on a background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from ddmi.base.errors import UserError
from ddmi.data.pictures import channels
from ddmi.domains.nerf.views.contents import one_line

Pixels = UInt8[np.ndarray, "h w c"]
"""A picture as it is, RGB or RGBA."""

_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


def common_size(files: list[Path]) -> tuple[int, int]:
    """(height, width) of all pictures, by their headers.

    Raises:
        UserError: a file is damaged, cut off or no picture, or its size is not that of the first.
    """
    first = _size(files[0])
    for path in files[1:]:
        if (size := _size(path)) != first:
            height, width = first
            raise UserError(
                f"{path} has {size[1]}x{size[0]} pixels, {files[0].name} has {width}x{height}: one is allowed"
            )
    return first


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if not _ended(path, image):
                raise UserError(f"{path} is cut off")
            return image.height, image.width
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _ended(path: Path, image: Image.Image) -> bool:
    """Whether a PNG has its last chunk, and a JPEG its end marker; behind it may lie what a camera has put there."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        tail = file.read()
    if image.format == "PNG":
        return b"IEND" in tail or b"IEND" in path.read_bytes()
    if image.format == "JPEG" and b"\xff\xd9" not in tail:
        try:
            image.load()
        except OSError:
            return False
    return True


def decoded(path: Path) -> Pixels:
    """The pixels of a file, with alpha where it has some.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return np.array(channels(image), dtype=np.uint8)
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly every kind of error on a broken file
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {one_line(error)}")


def shrunk(pixels: Pixels, factor: int) -> Pixels:
    """Each `factor` x `factor` pixels become their mean; fewer at the right and lower edges."""
    if factor == 1:
        return pixels
    image = Image.fromarray(pixels)
    if image.mode == "RGBA":  # colours count as much as they are opaque
        return np.array(image.convert("RGBa").reduce(factor).convert("RGBA"), dtype=np.uint8)
    return np.array(image.reduce(factor), dtype=np.uint8)


def composited(pixels: Pixels, background: float) -> UInt8[np.ndarray, "h w 3"]:
    """A picture on a grey background: alpha (straight, 8 bits) is used up; without alpha, as it is."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * background * (1 - alpha)).round().astype(np.uint8)
