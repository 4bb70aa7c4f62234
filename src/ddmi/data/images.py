"""Sources of images: what they promise, and folders of image files.

Images are uint8 arrays (H, W, 3), RGB, row 0 at the top.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ddmi.base.errors import UserError
from ddmi.base.storage import read_text
from ddmi.data.captions import TABLE, composed, json_captions, matched
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
    warn_left_out,
)
from ddmi.data.memory import Memory

Pixels = NDArray[np.uint8]
T = TypeVar("T")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # what the content may be, whatever the file is called
METADATA = "metadata.jsonl"
SHORTEST_SIDE = 4  # pixels; anything smaller is a placeholder, not an image


@runtime_checkable
class ImageSource(Protocol):
    """A fixed, ordered set of images that can be read at any square size."""

    names: list[str]  # stable, unique, sorted
    captions: list[str] | None  # one per image ("" where it has none), or None when no image has one
    labels: list[int] | None  # class of each image, an index into `classes`
    classes: list[str]  # [] when there are none
    groups: list[list[int]]  # indices that are variants of one subject; [[0], [1], ...] when there are none
    parts: list[str] | None  # "train", "val" or "test" of each where the set is split already, else None
    smallest: int | None  # shortest side in pixels over the set; None: vector drawings, exact at any size

    def read(self, index: int, size: int) -> Pixels:
        """Image `index` as (size, size, 3) uint8: centre-cropped to a square, antialiased."""
        ...


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image of PIL as 8-bit sRGB: as `channels`, and transparency is composited on white."""
    image = channels(image)
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def channels(image: Image.Image) -> Image.Image:
    """Any image of PIL as 8-bit RGB, or as RGBA where it has transparency, in the colours of sRGB.

    16-bit grey is scaled (65535 -> 255). An embedded ICC profile is converted to sRGB; one that cannot be read, or that
    is not for this mode, is passed over.
    """
    alpha = None
    colour = image
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        colour = Image.fromarray(((grey + 128) // 257).astype(np.uint8))  # round(v * 255 / 65535)
        if isinstance(clear := image.info.get("transparency"), int):  # PNG's tRNS: this one value is transparent
            alpha = Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        colour = image.convert("RGBA")
        alpha = colour.getchannel("A")
    if profile := image.info.get("icc_profile"):
        colour = _srgb(colour, profile, grey=image.mode in ("1", "L", "LA") or image.mode.startswith("I"))
    colour = colour.convert("RGB")
    if alpha is not None:
        colour.putalpha(alpha)
    return colour


def _srgb(image: Image.Image, profile: bytes, *, grey: bool) -> Image.Image:
    """An image of this ICC profile in sRGB; as it is where the profile is not one of its mode."""
    mode = "CMYK" if image.mode == "CMYK" else "RGB"
    for own in ("L", mode) if grey else (mode,):
        if (change := _transform(profile, own)) is not None:
            return change.apply(image.convert(own))
    return image


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it changes next to nothing, cannot be read, or is for other modes."""
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        change = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode != "CMYK":
        levels = np.linspace(0, 255, 18 if mode == "RGB" else 256).astype(np.uint8)
        cube = (
            np.stack(np.meshgrid(levels, levels, levels), axis=3).reshape(-1, 18, 3) if mode == "RGB" else levels[None]
        )
        colours = Image.fromarray(cube)
        off = np.asarray(change.apply(colours), np.int64) - np.asarray(colours.convert("RGB"), np.int64)
        if np.abs(off).max() <= 2:  # sRGB itself, the profile of most images
            return None
    return change


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF orientation says; as it is where its EXIF cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # malformed EXIF raises nearly every kind of error
        return image


def fit(image: Image.Image, size: int) -> Pixels:
    """The central square of an RGB image at size x size pixels: Lanczos, antialiased when shrinking, never padded."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped before it is resized: resize(box=...) would let the filter see pixels outside the square.
    image = image.crop((left, top, left + side, top + side))
    if side != size:
        image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    return np.array(image, dtype=np.uint8)


class ImageFolder:
    """Image files in a folder, at any depth: png, jpg, jpeg, webp, bmp.

    Every file is decoded once here, so that a bad one (truncated, not an image, shorter side under 4 pixels, a
    decompression bomb) is known before training, and kept at `sizes`, while there is memory for it: only what does not
    fit is decoded again when it is read. Hidden files and folders are passed over; links are followed.

    Captions: `captions.jsonl` at the root, one {"file": name relative to the root, "text": caption} a line (the first
    line of a file counts), else a `.txt` beside an image. Classes: the names of the folders one level down (below
    train/test/val, where there are those), when there are two or more and no image lies above them.

    Args:
        on_bad: "skip" leaves bad files out and lists them in `bad` as (name, reason); "stop" raises at the first.
        sizes: those that will be read, in pixels a side; none: nothing is kept before it is read.
        memory: bytes of images that may be kept.

    Raises:
        UserError: no such folder, no readable image, an lmdb database, a bad file under "stop", bad captions.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        on_bad: Literal["skip", "stop"] = "skip",
        sizes: Collection[int] = (),
        memory: int = 2 << 30,
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root} is not a folder: a folder of images is needed; {_COUNTING}")
        files = files_below(self.root)
        names = [name for name in files if PurePosixPath(name).suffix.lower() in EXTENSIONS]
        if "data.mdb" in files or (not names and any(name.endswith("/data.mdb") for name in files)):
            raise UserError(f"{self.root} is an lmdb database (LSUN): export it as image files first")
        if not names:
            raise UserError(f"no images in {self.root}: {_COUNTING}")
        self._memory = Memory[Pixels](memory)
        sides, self.bad = usable(self.root, self._checked(names, sizes), "image", on_bad)
        self.names = list(sides)
        self.smallest: int | None = min(sides.values())
        self.groups = [[index] for index in range(len(sides))]
        self.parts = parts_of(self.names)
        self.labels, self.classes = classes_of(folders_of(self.names, self.parts is not None))
        self.captions = captions_of(self.root, self.names, files)

    def _checked(self, names: list[str], sizes: Collection[int]) -> Iterator[tuple[str, int | str]]:
        """The shorter side of each image, or the reason why it cannot be used; at `sizes` they are kept."""

        def kept(image: Image.Image) -> dict[int, Pixels]:  # never enlarged, but to the smallest size
            return {size: fit(image, size) for size in sizes if size <= min(image.size) or size == min(sizes)}

        def look(name: str) -> tuple[int, dict[int, Pixels]] | str:
            if not is_text(name):
                return NOT_TEXT
            if sizes and not self._memory.full:
                return opened(self.root / name, kept)
            return opened(self.root / name, lambda image: {}, draft=True)

        index = 0
        for name, result in zip(names, in_threads(look, names), strict=True):
            if isinstance(result, str):
                yield name, result
                continue
            side, images = result
            for size, image in images.items():
                self._memory.keep((index, size), image)
            index += 1
            yield name, side

    def read(self, index: int, size: int) -> Pixels:
        """Image `index` as (size, size, 3) uint8; enlarged when the file is smaller. The array is the caller's."""
        return self._memory.read((index, size), lambda: self._decode(index, size)).copy()

    def _decode(self, index: int, size: int) -> Pixels:
        path = self.root / self.names[index]
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return fit(to_rgb(upright(image)), size)
        except Exception as error:  # decoders raise nearly every kind of error on a broken file
            raise UserError(f"cannot read the image {path} any more: {error}") from error


class SingleImage:
    """A source of one image, with neither caption nor class; it is turned as its EXIF orientation says.

    Args:
        given: a file, or an image that is already open.

    Raises:
        UserError: the file does not exist or cannot be read as an image; it is named, with the reason.
    """

    captions: list[str] | None = None
    labels: list[int] | None = None
    parts: list[str] | None = None

    def __init__(self, given: str | Path | Image.Image) -> None:
        place = "the image" if isinstance(given, Image.Image) else str(given)
        if not isinstance(given, Image.Image) and not Path(given).is_file():
            raise UserError(f"{place} does not exist")
        found = opened(given, lambda image: image)
        if isinstance(found, str):
            raise UserError(f"{place} cannot be used: {found}")
        self.smallest: int | None
        self.smallest, self.image = found
        self.names = ["image" if isinstance(given, Image.Image) else printable(Path(given).name)]
        self.classes: list[str] = []
        self.groups = [[0]]

    def read(self, index: int, size: int) -> Pixels:
        """The image as (size, size, 3) uint8, cut to its central square."""
        return fit(self.image, size)


def open_images(
    path: str | Path | Image.Image,
    *,
    on_bad: Literal["skip", "stop"] = "skip",
    sizes: Collection[int] = (),
    memory: int = 2 << 30,
) -> ImageSource:
    """The images of a folder: CIFAR-10's python batches where they are there, else an `ImageFolder`.

    One image file, or an image that is already open, is a source of one.
    """
    from ddmi.data.cifar import CifarBatches

    if isinstance(path, Image.Image) or Path(path).is_file():
        return SingleImage(path)
    if CifarBatches.found(path):
        return CifarBatches(path, memory=memory)
    return ImageFolder(path, on_bad=on_bad, sizes=sizes, memory=memory)


_COUNTING = f"files that count end in {', '.join(EXTENSIONS)}, at any depth"


def opened(
    given: str | Path | Image.Image, wanted: Callable[[Image.Image], T], *, draft: bool = False
) -> tuple[int, T] | str:
    """An image that decodes to its end, read once: its shorter side in pixels, and what `wanted` makes of it.

    Args:
        given: a file, or an image that is already open.
        wanted: called with the image in RGB, turned as its EXIF orientation says.
        draft: a jpg is still read to its end, but transformed at an eighth of its size, which is faster.

    Returns:
        The reason, where it cannot be used.
    """
    try:
        with nullcontext(given) if isinstance(given, Image.Image) else Image.open(given, formats=_FORMATS) as image:
            side = min(image.size)
            if side < SHORTEST_SIDE:
                return f"{image.width}x{image.height} pixels, the shorter side must be at least {SHORTEST_SIDE}"
            if draft:
                image.draft("L", (1, 1))
            image.load()
            return side, wanted(to_rgb(upright(image)))
    except UnidentifiedImageError:
        return "not an image"
    except Exception as error:  # decoders raise nearly every kind of error on a broken file
        return one_line(error)


def captions_of(root: Path, names: list[str], files: list[str], things: str = "images") -> list[str] | None:
    """The caption of each name ("": none); None where no name has one.

    They come from `captions.jsonl`, else from every `metadata.jsonl` with texts, else from the `.txt` beside a name.
    """
    named = [name for name in files if PurePosixPath(name).name == METADATA]
    if (where := root / TABLE).is_file():
        pairs = list(json_captions(where, "file", "file_name"))
    elif pairs := [pair for name in named for pair in _metadata(root, name)]:
        where = root / named[0]
    else:
        where, texts = root, {composed(name): name for name in files if PurePosixPath(name).suffix == ".txt"}
        beside: dict[str, list[str]] = {}
        for name in dict.fromkeys([*names, *files]):
            beside.setdefault(composed(PurePosixPath(name).with_suffix(".txt").as_posix()), []).append(name)
        if not texts.keys() & {composed(PurePosixPath(name).with_suffix(".txt").as_posix()) for name in names}:
            return None
        files = [name for name in files if name not in texts.values()]
        unread: list[tuple[str, str]] = []
        for text, file in texts.items():
            items, caption = [name for name in beside[text] if name != file], ""
            try:
                caption = " ".join(read_text(root / file).split()) if items else ""
            except UserError as error:
                unread.append((printable(file), str(error)))
            pairs += [(name, caption) for name in items or [file]]
        warn_left_out(unread, len(texts), "texts")
    captions = [(found or [""])[0] for found in matched(where, pairs, names, things, files)]
    return captions if any(captions) else None


def _metadata(root: Path, name: str) -> list[tuple[str, str]]:
    """The captions of a file of the Hugging Face hub's image folders: names are relative to the folder it lies in."""
    above = PurePosixPath(name).parent
    table = root / name
    if '"text"' not in read_text(table):
        return []
    return [((above / file).as_posix(), text) for file, text in json_captions(table, "file_name", "file")]
