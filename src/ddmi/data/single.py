"""One image as a source: a file, or an image that is already open."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.images import SHORTEST_SIDE, Pixels, fit, opened, printable, to_rgb, upright


class SingleImage:
    """A source of one image, with neither caption nor class; it is turned as its EXIF orientation says.

    Raises:
        UserError: the file does not exist or cannot be read as an image; it is named, with the reason.
    """

    captions: list[str] | None = None
    labels: list[int] | None = None
    parts: list[str] | None = None

    def __init__(self, given: str | Path | Image.Image) -> None:
        self.classes: list[str] = []
        self.groups = [[0]]
        if isinstance(given, Image.Image):
            try:
                self.names, image = ["image"], to_rgb(upright(given))
            except Exception as error:  # decoders raise nearly every kind of error on a broken file
                raise UserError(f"the image cannot be used: {error}") from error
            if min(image.size) < SHORTEST_SIDE:
                raise UserError(f"the image has {image.width}x{image.height} pixels, at least {SHORTEST_SIDE} a side")
        else:
            path = Path(given)
            if not path.is_file():
                raise UserError(f"{path} does not exist")
            found = opened(path, lambda image: image)
            if isinstance(found, str):
                raise UserError(f"{path} cannot be used: {found}")
            self.names, image = [printable(path.name)], found[1]
        self.image = image
        self.smallest: int | None = min(image.size)

    def read(self, index: int, size: int) -> Pixels:
        """The image as (size, size, 3) uint8, cut to its central square."""
        return fit(self.image, size)
