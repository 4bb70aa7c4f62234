"""CIFAR-10 in its python layout: five training batches and a test batch, each a pickle of 32x32 images.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html: a dictionary with `data`, uint8 (N, 3072), one row an image,
channel by channel, and `labels`, N integers. A pickle may run anything when it is read, so these are read by an
unpickler that knows arrays and nothing else.
"""

from __future__ import annotations

import _codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddmi.base.errors import UserError
from ddmi.data.images import Pixels, fit
from ddmi.data.memory import Memory

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
SIDE = 32

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _codecs.encode,
}


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries, lists, strings, numbers and numpy arrays; any other global is refused before it is loaded."""

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UserError(f"refused: the pickle asks for {module}.{name}, only arrays are allowed") from None


def unpickle_arrays(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle, keys as text; UserError for anything that is not a dictionary of arrays and lists."""
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a broken pickle raises nearly every kind of error
        raise UserError(f"{path} is not a CIFAR-10 python batch: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a CIFAR-10 python batch: it holds a {type(content).__name__}, not a dictionary")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


class CifarBatches:
    """The images of CIFAR-10, labelled, already in parts: `test_batch` is the test part.

    `root` holds `data_batch_1` ... `data_batch_5` and `test_batch` (any of them), or a `cifar-10-batches-py` that does.
    Names are "<batch>/<row>". Class names come from `batches.meta` when it is there.

    Raises:
        UserError: no batch, a file of another layout, or a pickle that asks for anything but arrays.
    """

    def __init__(self, root: str | Path, *, memory: int = 2 << 30):
        folder = _folder(Path(root))
        if folder is None:
            raise UserError(f"no CIFAR-10 batch in {root}: expected {', '.join(BATCHES)}")
        self.names: list[str] = []
        labels: list[int] = []
        rows: list[Pixels] = []
        for name in BATCHES:
            if (folder / name).is_file():
                data, given = _batch(folder / name)
                rows.append(data)
                labels += given
                self.names += [f"{name}/{row:05d}" for row in range(len(data))]
        meta = folder / "batches.meta"
        self.classes = _class_names(meta) if meta.is_file() else [str(label) for label in range(max(labels) + 1)]
        if max(labels) >= len(self.classes):
            raise UserError(f"{meta} names {len(self.classes)} classes, but there is a label {max(labels)}")
        self.captions: list[str] | None = None
        self.labels: list[int] | None = labels
        self.groups = [[index] for index in range(len(self.names))]
        parts = ["test" if name.startswith("test") else "train" for name in self.names]
        self.parts: list[str] | None = parts if len(set(parts)) == 2 else None
        self.smallest: int | None = SIDE
        self._images = np.concatenate(rows).reshape(-1, 3, SIDE, SIDE)
        self._memory = Memory[Pixels](memory)

    @staticmethod
    def found(root: str | Path) -> bool:
        """Whether a folder holds batches."""
        return _folder(Path(root)) is not None

    def read(self, index: int, size: int) -> Pixels:
        """Image `index` as (size, size, 3) uint8; at 32 the stored pixels themselves."""
        pixels = np.ascontiguousarray(self._images[index].transpose(1, 2, 0))  # (32, 32, 3)
        return self._memory.read((index, size), lambda: fit(Image.fromarray(pixels), size)).copy()


def _folder(root: Path) -> Path | None:
    for folder in (root, root / "cifar-10-batches-py"):
        if any((folder / name).is_file() for name in BATCHES):
            return folder
    return None


def _batch(path: Path) -> tuple[Pixels, list[int]]:
    """Pixels (N, 3072) uint8 and N labels of one file."""
    content = unpickle_arrays(path)
    data, labels = content.get("data"), content.get("labels")
    if not (
        isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3 * SIDE**2
    ):
        raise UserError(f"{path} is not a CIFAR-10 python batch: `data` must be uint8 of shape (N, {3 * SIDE**2})")
    if not (
        isinstance(labels, list) and len(labels) == len(data) > 0 and all(type(x) is int and x >= 0 for x in labels)
    ):
        raise UserError(f"{path} is not a CIFAR-10 python batch: `labels` must be a list of {len(data)} integers")
    return data, labels


def _class_names(path: Path) -> list[str]:
    names = unpickle_arrays(path).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, (bytes, str)) for name in names):
        raise UserError(f"{path} has no list `label_names`")
    return [name.decode() if isinstance(name, bytes) else name for name in names]
