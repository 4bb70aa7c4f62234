"""Folders of shapes in the layout of Occupancy Networks.

Coordinates are ours, [-1, 1] along x, y, z with y up; those in the files are ours times 0.55 (Mescheder et al. 2019).
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.randomness import derive
from ddmi.base.storage import read_text
from ddmi.data.captions import json_captions, matched
from ddmi.data.catalogues import ARCHIVES
from ddmi.data.folders import NOT_TEXT, attempt, classes_of, in_threads, is_text, printable, usable
from ddmi.data.memory import Memory
from ddmi.data.meshes import EXTENSIONS
from ddmi.data.preparation import CAPTIONS, CLOUD, SPACE
from ddmi.data.shapes import ShapeSource
from ddmi.data.stored import Stored, load, ours, some
from ddmi.domains.shape.single_mesh import SingleMesh

log = logging.getLogger(__name__)

CLOSE = 0.05
"""In our frame: what is this near to the surface counts as near where a shape comes without `near.npz`."""
TEXT2SHAPE = "captions.tablechair.csv"
PARTS = ("train", "val", "test")
_PREPARE = "prepare them first: ddmi prepare shapes {} DST"


def open_shapes(path: str | Path) -> ShapeSource:
    """The shapes at a path: a folder of prepared ones is a `ShapeFolder`, one mesh file a `SingleMesh`.

    Raises:
        UserError: nothing is there, or meshes that have to be prepared first.
    """
    path = Path(path)
    if not path.is_file():
        return ShapeFolder(path)
    if path.suffix.lower() in EXTENSIONS:
        return SingleMesh(path)
    if path.suffix.lower() in ARCHIVES:
        raise UserError(f"{path} holds raw meshes, {_PREPARE.format(path)}")
    raise UserError(f"{path} is not a mesh: one ends in {', '.join(EXTENSIONS)}")


class ShapeFolder(ShapeSource):
    """Shapes in the layout of Occupancy Networks: `<class>/<model>/`, or `<model>/` for a set without classes.

    A model's folder holds `pointcloud.npz` (`points`, `normals`), `points.npz` (`points`, `occupancies`: packed bits
    or one value a point), and from our own preparation `near.npz`. Without the latter, points near the surface are
    those of `points.npz` within 0.05 of it. Classes: the folders, when there are two or more, ShapeNet's in words.
    Parts: `train.lst`, `val.lst`, `test.lst` in a class's folder, one model a line; what no list names is trained on
    where there is no `train.lst`, and left out where there is one. Captions: `captions.jsonl` at the root, one
    {"model": name, "text": caption} a line, and `captions.tablechair.csv` of Text2Shape (`modelId`, `description`).

    Every file is read once here, so that a bad one is known before training: fewer than 100 points, values that are
    not finite, arrays of unequal length, a damaged file, nothing inside. Bad models are left out, with a warning, and
    listed in `bad` as (name, reason).

    Args:
        memory: bytes of arrays that stay in memory; what is beyond is read again each time.

    Raises:
        UserError: no such folder, no shape that can be used, raw meshes, or bad captions.
    """

    def __init__(self, root: str | Path, *, memory: int = 1_500_000_000):
        self.root: Path = Path(root)
        self._memory = Memory[Stored](memory)
        self._close: dict[str, Integer[np.ndarray, "n"]] = {}
        folders = _folders(self.root)
        listed, without = _parts(self.root, list(folders))
        self._paths = {name: folders[name] for name in listed}
        found, self.bad = usable(self.root, zip(listed, in_threads(self._looked, listed), strict=True), "shape")
        self.names = list(found)
        if without:
            log.warning("%s shapes are in no list of parts and left out", without)
        if any(parts := [listed[name] for name in self.names]):
            self.parts = [part or "train" for part in parts]
        self.labels, self.classes = classes_of([name.rpartition("/")[0] for name in self.names])
        self.captions = _captions(self.root, self.names)

    def _looked(self, name: str) -> str | None:
        """None, or the reason why a shape cannot be used."""
        if not is_text(name):
            return f"{printable(name)}: {NOT_TEXT}"
        found = attempt(self._paths[name], lambda: self._stored(name))
        return found if isinstance(found, str) else None

    def _stored(self, name: str) -> Stored:
        return self._memory.read(name, lambda: load(self._paths[name]))

    def surface(
        self, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """`count` of the stored points, each at most once unless there are too few, and their normals."""
        stored = self._stored(self.names[index])
        chosen = some(len(stored.points), count, rng)
        normals = stored.normals[chosen].astype(np.float32)
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        return ours(stored.points[chosen]), normals / np.maximum(lengths, 1e-6)

    def queries(
        self, index: int, uniform: int, near: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
        """Of the stored points, `uniform` and `near` ones, each at most once unless there are too few."""
        stored = self._stored(self.names[index])
        anywhere = some(len(stored.space), uniform, rng)
        points, inside = stored.space[anywhere], stored.space_inside[anywhere]
        if near:
            if stored.near is None or stored.near_inside is None:
                among = self._near_surface(self.names[index], stored)
                close, close_inside = stored.space[among], stored.space_inside[among]
            else:
                close, close_inside = stored.near, stored.near_inside
            chosen = some(len(close), near, rng)
            points, inside = np.concatenate([points, close[chosen]]), np.concatenate([inside, close_inside[chosen]])
        return ours(points), inside

    def _near_surface(self, name: str, stored: Stored) -> Integer[np.ndarray, "n"]:
        """Which of the points of space are within `CLOSE` of the surface (all, when none is); found once a shape."""
        if name not in self._close:
            try:
                from scipy.spatial import cKDTree
            except ImportError as error:
                raise missing_extra("scipy", "mesh") from error
            few = some(len(stored.points), min(len(stored.points), 10_000), np.random.default_rng(derive(name)))
            distance, _ = cKDTree(ours(stored.points[few])).query(ours(stored.space), distance_upper_bound=CLOSE)
            close = np.flatnonzero(np.isfinite(distance)).astype(np.int32)
            self._close[name] = close if len(close) else np.arange(len(stored.space), dtype=np.int32)
        return self._close[name]


def _folders(root: Path) -> dict[str, Path]:
    """The folder of each model by its name, in order."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder of shapes, and no mesh file")
    found: dict[str, Path] = {}
    for pattern in (f"{above}{file}" for above in ("", "*/", "*/*/") for file in (CLOUD, SPACE)):
        for folder in (path.parent for path in root.glob(pattern)):
            name = folder.relative_to(root).as_posix()
            if name == ".":
                return {root.resolve().name: root}
            if not any(part.startswith(".") for part in name.split("/")):
                found[name] = folder
    if not found:
        for path in root.rglob("*"):
            if path.suffix.lower() in EXTENSIONS + ARCHIVES:
                raise UserError(f"{root} holds raw meshes ({path.name}, ...), {_PREPARE.format(root)}")
        raise UserError(f"no shape in {root}: a shape is a folder with {CLOUD} and {SPACE}, at most two levels down")
    return dict(sorted(found.items()))


def _parts(root: Path, names: list[str]) -> tuple[dict[str, str], int]:
    """The part of each name that counts ("": its class has no list), and how many are in no list and do not."""
    lists: dict[str, dict[str, str]] = {}
    counted: dict[str, str] = {}
    for name in names:
        above, _, model = name.rpartition("/")
        if above not in lists:
            lists[above] = _listed(root / above)
        own = lists[above]
        if model in own or "train" not in own.values():
            counted[name] = own.get(model, "train" if own else "")
    if not counted:
        raise UserError(f"the lists of parts in {root} name none of its {len(names)} shapes, such as {names[0]}")
    return counted, len(names) - len(counted)


def _listed(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in PARTS:
        if (folder / f"{part}.lst").is_file():
            found |= {line.strip(): part for line in read_text(folder / f"{part}.lst").split("\n") if line.strip()}
    return found


def _captions(root: Path, names: list[str]) -> list[list[str]] | None:
    own, table = root / CAPTIONS, root / TEXT2SHAPE
    pairs = list(json_captions(own, "model")) if own.is_file() else []
    if table.is_file():
        models: dict[str, list[str]] = {}
        for name in names:
            models.setdefault(name.rpartition("/")[2], []).append(name)
        rows = list(_table_captions(table))
        if rows and not models.keys() & {model for model, _ in rows}:
            log.warning("%s names none of the shapes: they stay without captions", table)
        else:
            pairs += [(name, text) for model, text in rows for name in models.get(model, [model])]
    if not pairs and not own.is_file():
        return None
    captions = matched(own if own.is_file() else table, pairs, names, "shapes")
    return captions if any(captions) else None


def _table_captions(path: Path) -> Iterator[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(read_text(path)))
    try:
        if not {"modelId", "description"} <= set(rows.fieldnames or ()):
            raise UserError(f"{path} needs the columns modelId and description, it has {rows.fieldnames}")
        for row in rows:
            text = " ".join((row["description"] or "").split())
            if text:
                yield row["modelId"], text
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}") from error
