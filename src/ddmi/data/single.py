"""One picture as a source: a file, or an image that is already open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.pictures import SHORTEST_SIDE, Picture, PictureFolder, fit, printable, to_rgb, upright


class SinglePicture:
    """A source of one picture, with neither caption nor class; it is turned as its EXIF orientation says.

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
            self.names = [printable(path.name)]
            with Image.open(path) as image:
                image.load()
        try:
            self.image = to_rgb(upright(image))
        except Exception as error:  # decoders raise nearly every kind of error on a broken file
            raise UserError(f"{self.names[0]} cannot be used: {error}") from error
        if min(self.image.size) < SHORTEST_SIDE:
            raise UserError(
                f"the image has {self.image.width}x{self.image.height} pixels, at least {SHORTEST_SIDE} a side"
            )
        self.smallest: int | None = min(self.image.size)

    def read(self, index: int, size: int) -> Picture:
        """The picture as (size, size, 3) uint8, cut to its central square."""
        return fit(self.image, size)

    def prefetch(self, sizes: Iterable[int]) -> None:
        """Nothing to prepare."""
