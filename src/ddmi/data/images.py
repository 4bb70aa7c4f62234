"""Sources of images: what they promise, and folders of image files.

Images are uint8 arrays (H, W, 3), RGB, row 0 at the top.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from ddmi.data.memory import Memory

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
T = TypeVar("T")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # what the content may be, whatever the file is called
_HELD_OUT_FOLDERS = {"test": "test", "val": "val", "valid": "val", "validation": "val"}
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
        if on_bad not in ("skip", "stop"):
            raise UserError(f"unknown on_bad {on_bad!r}: allowed are skip, stop")
        self.root = Path(root)
        files = files_below(self.root)
        names = [name for name in files if PurePosixPath(name).suffix.lower() in EXTENSIONS]
        if "data.mdb" in files or (not names and any(name.endswith("/data.mdb") for name in files)):
            raise UserError(f"{self.root} is an lmdb database (LSUN): export it as image files first")
        if not names:
            raise UserError(f"no images in {self.root}: {_COUNTING}")
        self.bad: list[tuple[str, str]] = []
        self.names: list[str] = []
        self._memory = Memory(memory)
        sides: list[int] = []
        for name, found in zip(names, self._check(names, sizes, on_bad), strict=True):
            if isinstance(found, str):
                self.bad.append((printable(name), found))
                continue
            side, images = found
            for size, image in images.items():
                self._memory.keep((len(sides), size), image)
            self.names.append(name)
            sides.append(side)
        if not sides:
            name, reason = self.bad[0]
            raise UserError(f"no readable image in {self.root}, the first, {name}: {reason}; {_COUNTING}")
        warn_left_out(self.bad, len(names), "images")
        self.smallest: int | None = min(sides)
        self.groups = [[index] for index in range(len(self.names))]
        self.parts = parts_of(self.names)
        self.labels, self.classes = _labels(self.names, self.parts is not None)
        self.captions = captions_of(self.root, self.names, files)

    def _check(
        self, names: list[str], sizes: Collection[int], on_bad: str
    ) -> Iterator[tuple[int, dict[int, Pixels]] | str]:
        """The shorter side of each image and what is kept of it, or the reason why it cannot be used."""

        def kept(image: Image.Image) -> dict[int, Pixels]:  # never enlarged, but to the smallest size
            return {size: fit(image, size) for size in sizes if size <= min(image.size) or size == min(sizes)}

        def look(name: str) -> tuple[int, dict[int, Pixels]] | str:
            if not is_text(name):
                return NOT_TEXT
            if sizes and not self._memory.full:
                return opened(self.root / name, kept)
            return opened(self.root / name, lambda image: {}, draft=True)

        pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "images")
        try:
            for name, result in zip(names, pool.map(look, names), strict=True):
                if isinstance(result, str) and on_bad == "stop":
                    raise UserError(
                        f'bad image {self.root / printable(name)}: {result}; on_bad="skip" leaves such files out'
                    )
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

    def read(self, index: int, size: int) -> Pixels:
        """Image `index` as (size, size, 3) uint8; enlarged when the file is smaller. The array is the caller's."""
        return self._memory.read(index, size, self._decode)

    def _decode(self, index: int, size: int) -> Pixels:
        path = self.root / self.names[index]
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return fit(to_rgb(upright(image)), size)
        except Exception as error:  # decoders raise nearly every kind of error on a broken file
            raise UserError(f"cannot read the image {path} any more: {error}") from error


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
    from ddmi.data.single import SingleImage

    if isinstance(path, Image.Image) or Path(path).is_file():
        return SingleImage(path)

    if CifarBatches.found(path):
        return CifarBatches(path, memory=memory)
    return ImageFolder(path, on_bad=on_bad, sizes=sizes, memory=memory)


_COUNTING = f"files that count end in {', '.join(EXTENSIONS)}, at any depth"


def files_below(root: Path) -> list[str]:
    """Names of all files below `root`, relative, with "/", sorted; each real folder is visited once."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: a folder of images is needed; {_COUNTING}")
    names: list[str] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            names += [(Path(folder) / name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


NOT_TEXT = "its name is not UTF-8"


def is_text(name: str) -> bool:
    """Whether a file name is UTF-8. Bytes that are not stand in it as surrogates, which no hash or JSON file takes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def printable(name: str) -> str:
    """A file name with what is not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def warn_left_out(bad: Sequence[tuple[str, str]], count: int, things: str) -> None:
    """One warning: how many of `count` items are left out, and the first three (name, reason)."""
    if bad:
        told = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; ..." if len(bad) > 3 else "")
        log.warning("%s of %s %s are left out: %s", len(bad), count, things, told)


def opened(path: Path, wanted: Callable[[Image.Image], T], *, draft: bool = False) -> tuple[int, T] | str:
    """An image file that decodes to its end, read once: its shorter side in pixels, and what `wanted` makes of it.

    Args:
        wanted: called with the image in RGB, turned as its EXIF orientation says.
        draft: a jpg is still read to its end, but transformed at an eighth of its size, which is faster.

    Returns:
        The reason, where the file cannot be used.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
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
        return " ".join(str(error).split()) or type(error).__name__


def parts_of(names: list[str]) -> list[str] | None:
    """The part of each image, by its top folder, when there are a train and a held-out folder; the rest is train."""
    parts = [_HELD_OUT_FOLDERS.get(name.split("/")[0].lower(), "train") if "/" in name else "train" for name in names]
    has_train = any(name.lower().startswith("train/") for name in names)
    return parts if has_train and set(parts) != {"train"} else None


def _labels(names: list[str], in_parts: bool) -> tuple[list[int] | None, list[str]]:
    folders = [name.split("/")[int(in_parts) : -1] for name in names]
    classes = sorted({folder[0] for folder in folders if folder})
    direct = {folder[0] for folder in folders if len(folder) == 1}
    if len(classes) < 2 or direct != set(classes) or not all(folders):
        return None, []
    rank = {name: index for index, name in enumerate(classes)}
    return [rank[folder[0]] for folder in folders], classes


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
