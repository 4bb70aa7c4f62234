"""One picture as a source: a file, or an image that is already open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

from ddmi.data.pictures import Picture, PictureFolder, fit, to_rgb
from ddmi.errors import UserError


class SinglePicture:
    """A source of one picture, with neither caption nor class.

    Raises:
        UserError: the file does not exist or cannot be read as a picture; it is named, with the reason.
    """

    captions: list[str] | None = None
    labels: list[int] | None = None

    def __init__(self, picture: str | Path | Image.Image) -> None:
        self.classes: list[str] = []
        self.groups = [[0]]
        if isinstance(picture, Image.Image):
            self.names, image = ["picture"], picture
        else:
            path = Path(picture)
            if not path.is_file():
                raise UserError(f"{path} does not exist")
            if isinstance(found := PictureFolder.check(path), str):
                raise UserError(f"{path} cannot be used: {found}")
            self.names = [path.name]
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
        self.image = to_rgb(image)
        self.smallest: int | None = min(self.image.size)

    def read(self, index: int, size: int) -> Picture:
        """The picture as (size, size, 3) uint8, cut to its central square."""
        return fit(self.image, size)

    def prefetch(self, sizes: Iterable[int]) -> None:
        """Nothing to prepare."""
