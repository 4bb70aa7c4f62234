"""What a page shows, as data: text, numbers, images, clips, meshes and tables. One template renders all of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ddmi.rendering.clip import Clip
from ddmi.rendering.grid import to_pixels, to_signal
from ddmi.rendering.movie import timetable
from ddmi.report.numbers import Number

if TYPE_CHECKING:
    from PIL import Image
    from trimesh import Trimesh

Inline = str | Number | tuple[str | Number, ...]
"""Plain text, a number, or several of both in a row."""

HEAVY = 120_000
"""Bytes above which an image is stored with loss."""
SMALL = 100
"""Images of fewer pixels a side are enlarged with hard edges: their pixels are what they show."""
MILLISECONDS, SHORTEST = 1000, 11
"""Times of frames are counted in 1/1000 s; browsers slow down frames that are shorter than 11 of these."""


@dataclass(frozen=True)
class Figure:
    """An image or a clip over its caption, with the mesh that it shows, if any.

    Args:
        source: data address. still: that of the first frame of a clip, "" for an image.
        alt: plain text for those who do not see it. size: (width, height). pixels: enlarge with hard edges.
    """

    source: str
    alt: str
    size: tuple[int, int]
    caption: Inline = ""
    still: str = ""
    pixels: bool = False
    mesh: Trimesh | None = None


@dataclass(frozen=True)
class Row:
    """Figures in a grid of `columns`; kind "wide" keeps two to a row on a phone, "charts" are not cropped."""

    figures: Sequence[Figure]
    columns: int
    title: Inline = ""
    kind: str = ""
    name: ClassVar[str] = "row"

    @property
    def narrow(self) -> int:
        """Columns on a phone, so that all rows are full; of an odd number above 3, the first figure has its own row."""
        return self.columns if self.columns <= 3 else self.columns // 2


@dataclass(frozen=True)
class Pair:
    """Rows side by side, two at a time."""

    rows: Sequence[Row]
    name: ClassVar[str] = "pair"


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names it. `marked` are the numbers of rows that stand out."""

    head: Sequence[Inline]
    rows: Sequence[Sequence[Inline]]
    title: str = ""
    name: ClassVar[str] = "table"


@dataclass(frozen=True)
class Facts:
    """Names with their values; `large` for the numbers that sum a run up."""

    entries: Sequence[tuple[str, Inline]]
    large: bool = False
    name: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Text:
    """A paragraph; kind "notice" or "heading" or "code" or "small"."""

    text: Inline
    kind: str = ""
    name: ClassVar[str] = "text"


@dataclass(frozen=True)
class Settings:
    """All settings of a run: (name, value, the preset's value where that is another, else None)."""

    entries: Sequence[tuple[str, str, str | None]]
    name: ClassVar[str] = "settings"


Block = Row | Pair | Table | Facts | Text | Settings


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading.

    Args:
        key: its anchor, one word. title: a sentence. lead: what is to be seen.
        short: the title's word in the list of contents.
    """

    key: str
    short: str
    title: str
    lead: Inline
    blocks: Sequence[Block] = ()
    meshes: Sequence[tuple[str, Trimesh]] = field(init=False)
    """Every mesh that the section shows, with the alt text of its figure."""

    def __post_init__(self) -> None:
        shown = [(figure.alt, figure.mesh) for figure in figures_of(self.blocks)]
        meshes = [(alt, mesh) for alt, mesh in shown if mesh is not None and len(mesh.faces)]
        object.__setattr__(self, "meshes", meshes)


def figures_of(blocks: Sequence[Block]) -> Iterator[Figure]:
    """All figures in these blocks."""
    for block in blocks:
        if isinstance(block, Row):
            yield from block.figures
        elif isinstance(block, Pair):
            yield from figures_of(block.rows)


def figure(
    shown: Image.Image | Clip, alt: str, caption: Inline = "", *, pixels: bool | None = None, mesh: Any = None
) -> Figure:
    """An image, or a clip as an endless animated WebP. Clips that have to be in step are one clip (`tiled`).

    Args:
        pixels: enlarge with hard edges; None: where it is small.
    """
    if isinstance(shown, Clip):
        height, width = shown.size
        source, still = address(shown), address(shown.image(0))
    else:
        (width, height), source, still = shown.size, address(shown), ""
    hard = max(width, height) < SMALL if pixels is None else pixels
    return Figure(source, alt, (width, height), caption, still, hard, mesh)


def full(figures: Sequence[Figure], most: int) -> Row:
    """As many of the figures as fill whole rows of at most `most`."""
    columns = min(len(figures), most)
    return Row(figures[: len(figures) // max(columns, 1) * columns], columns)


def address(shown: Image.Image | Clip, quality: int = 85) -> str:
    """The data address of a WebP image, without loss unless that is heavy, or of a clip as an endless one."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"method": 4, "quality": quality}
    if isinstance(shown, Clip):
        times = timetable(shown, MILLISECONDS, SHORTEST)
        first, *others = [shown.image(number) for number, _ in times]
        options |= {"save_all": True, "append_images": others, "duration": [t for _, t in times], "loop": 0}
        first.save(stream, "WEBP", **options)
    else:
        shown.save(stream, "WEBP", lossless=True, quality=60, method=3)
        if stream.tell() > HEAVY:
            stream = io.BytesIO()
            shown.save(stream, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def to_tensor(images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """8-bit images of one size in [-1, 1]."""
    return to_signal(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2)


def to_image(x: Float[Tensor, "3 h w"]) -> Image.Image:
    """The inverse, rounded to 8 bits."""
    from PIL import Image

    return Image.fromarray(to_pixels(x.permute(1, 2, 0)))
