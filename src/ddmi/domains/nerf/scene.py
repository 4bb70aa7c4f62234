"""One object as its files have it: its cameras, its images, its coloured points, and what is known of its box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, UnidentifiedImageError

from ddmi.base.errors import UserError
from ddmi.base.storage import read_arrays
from ddmi.data.folders import one_line
from ddmi.data.images import channels
from ddmi.data.meshes import Up
from ddmi.domains.nerf.posed import Views

Pixels = UInt8[np.ndarray, "h w c"]
"""An image as it is, RGB or RGBA."""
RawPoints = tuple[Float64[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]
"""Coloured points in the units of the files."""

FEWEST_POINTS = 100
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One object: the files of its images, or an npz file that holds them."""

    place: Path
    """What an error names; of an npz object, the file."""
    views: Views
    """OpenGL's axes, in the units of the files."""
    up: Up
    radius: float | None
    """Half the side of its box; None: to be estimated."""
    centre: tuple[float, float, float] | None
    """Of its box; None: to be estimated."""
    files: list[Path] | None = None
    """View k is the k-th. None: the images and points are arrays of `place`, and the points may be turned and smaller
    than the scene."""
    cloud: Path | None = None
    """The file of its coloured points, where some come with the views."""
    remark: str = ""
    """What a user should know of its cameras."""

    def pixels(self, view: int) -> Pixels:
        """An image as it is, RGB or RGBA."""
        if self.files is None:
            return npz_images(self.place)[view]
        pixels = decoded(self.files[view])
        if pixels.shape[:2] != self.views.size:
            raise UserError(f"{self.files[view]} has changed: its size is not that of the other images any more")
        return pixels

    def points(self) -> RawPoints:
        """The coloured points of the file `cloud`, in the units of the poses.

        Raises:
            UserError: the file is damaged, or its points are no points, too few or not finite; it is named.
        """
        assert self.cloud is not None
        if self.files is None:
            data = read_arrays(self.cloud, "data")["data"]
            if data.ndim != 2 or data.shape[1] != 6 or data.dtype.kind not in "fiu":
                given = f"{data.dtype} {data.shape}"
                raise UserError(f"{self.cloud}: `data` must be (n, 6), coloured points, not {given}")
            points, values = data[:, :3], data[:, 3:].astype(np.float64)
            values = values * 255 if values.max(initial=0) <= 1.001 else values
            colours = np.clip(values.round(), 0, 255).astype(np.uint8)
        else:
            points, colours = read_arrays(self.cloud, "points", "colours").values()
            numbers = points.dtype.kind in "fiu" and colours.dtype == np.uint8
            if not numbers or points.ndim != 2 or points.shape[1] != 3 or colours.shape != points.shape:
                given = f"{points.dtype} {points.shape} with {colours.dtype} {colours.shape}"
                wanted = "`points` (n, 3), numbers, go with as many `colours` of 8 bits"
                raise UserError(f"{self.cloud}: {wanted}, not {given}")
        if len(points) < FEWEST_POINTS:
            raise UserError(f"{self.cloud} has {len(points)} points, at least {FEWEST_POINTS} are needed")
        if not np.isfinite(points).all():
            raise UserError(f"{self.cloud}: points have values that are not finite numbers")
        return points.astype(np.float64), colours


@lru_cache(maxsize=8)
def npz_images(path: Path) -> UInt8[np.ndarray, "n h w c"]:
    """All `images` of an npz file; numbers become 8 bits, grey becomes RGB.

    Raises:
        UserError: the file is damaged, or its array is none of images.
    """
    images = read_arrays(path, "images")["images"]
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or images.dtype.kind not in "fu" or 0 in images.shape:
        given = f"{images.dtype} {images.shape}"
        raise UserError(f"{path}: `images` must be (n, h, w, 3), 8 bits or numbers in [0, 1], not {given}")
    if images.dtype != np.uint8:
        scaled = images.astype(np.float32)
        if not np.isfinite(scaled).all() or scaled.min() < -0.01 or scaled.max() > 1.01:
            raise UserError(f"{path}: `images` that are not of 8 bits must lie in [0, 1]")
        images = np.clip(255 * scaled, 0, 255).round().astype(np.uint8)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def common_size(files: list[Path]) -> tuple[int, int]:
    """(height, width) of all images, by their headers.

    Raises:
        UserError: a file is damaged, cut off or no image, or its size is not that of the first.
    """
    height, width = _size(files[0])
    for path in files[1:]:
        if (size := _size(path)) != (height, width):
            given = f"{path} has {size[1]}x{size[0]} pixels"
            raise UserError(f"{given}, {files[0].name} has {width}x{height}: one is allowed")
    return height, width


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if not _ended(path, image):
                raise UserError(f"{path} is cut off")
            return image.height, image.width
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error


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
    except Exception as error:  # decoders raise nearly every kind of error on a broken file
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error


def shrunk(pixels: Pixels, factor: int) -> Pixels:
    """Each `factor` x `factor` pixels become their mean; fewer at the right and lower edges."""
    if factor == 1:
        return pixels
    image = Image.fromarray(pixels)
    if image.mode == "RGBA":  # colours count as much as they are opaque
        return np.array(image.convert("RGBa").reduce(factor).convert("RGBA"), dtype=np.uint8)
    return np.array(image.reduce(factor), dtype=np.uint8)


def composited(pixels: Pixels, background: float) -> UInt8[np.ndarray, "h w 3"]:
    """A new image on a grey background: alpha (straight, 8 bits) is used up; without alpha, as it is."""
    if pixels.shape[2] == 3:
        return pixels.copy()  # not a part of all images of an npz file
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * background * (1 - alpha)).round().astype(np.uint8)
