"""Sources of posed images: what they promise, and the objects of a folder as one.

A scene lies in the box [-1, 1]^3, x right, y up, z towards the viewer.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from ddmi.base.errors import UserError
from ddmi.base.progress import working
from ddmi.base.randomness import derive
from ddmi.data.captions import TABLE, json_captions, matched
from ddmi.data.folders import NOT_TEXT, attempt, classes_of, in_threads, is_text, printable, usable
from ddmi.data.kept import Kept, key
from ddmi.data.memory import Memory
from ddmi.data.stored import some
from ddmi.domains.nerf import layouts
from ddmi.domains.nerf.boxed import BoxedScene, Cloud, boxed_scenes, coloured, evenly, npz_turn
from ddmi.domains.nerf.checks import Finding, check, share_in_silhouettes
from ddmi.domains.nerf.hull import HULL, NoHull, coloured_hull, silhouettes
from ddmi.domains.nerf.posed import Views
from ddmi.domains.nerf.scene import Pixels, Scene, composited

log = logging.getLogger(__name__)

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

LEAST_FITTING = 0.8
"""Share of the coloured points that should lie in the silhouettes."""
HULL_VIEWS, HULL_SIDE, HULL_CELLS, HULL_POINTS = 40, 192, 96, 30_000
"""A hull is carved by at most so many views, of images shrunk to about this shorter side; its cells and points."""


@runtime_checkable
class ViewSource(Protocol):
    """A fixed, ordered set of objects, each known by images whose cameras are known."""

    names: list[str]  # stable, unique
    captions: list[list[str]] | None  # those of each object ([] where it has none), None when no object has one
    labels: list[int] | None  # class of each object, an index into `classes`
    classes: list[str]  # [] when there are none
    groups: list[list[int]]  # indices that are variants of one object; [[0], [1], ...] when there are none
    parts: list[str] | None  # "train", "val" or "test" of each where the set is split already, else None
    counts: list[int]  # views of each object
    bad: list[tuple[str, str]]  # (name, reason) of what was left out

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates."""
        ...

    def images(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for, composited on the background."""
        ...

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """Coloured points of the surface of object `index`: xyz in [-1, 1], then rgb in [-1, 1]."""
        ...


class ViewFolder:
    """Objects in the layouts of `ddmi.domains.nerf.layouts`; several may be mixed.

    Parts: folders above an object that are called train, val or test, or end so, as `cars_train` (`cars_train_val` has
    other views of what is trained on, and counts as train). Classes: the folders above, without that word, when there
    are two or more, ShapeNet's in words. Captions: `captions.jsonl` at the root, one {"model": name, "text": caption} a
    line.

    Poses, the headers of images, and points are read when a source is opened, so that a bad object is known before
    training: views without poses, poses that are no rotations, a focal length of 0, images of different sizes, files
    that are damaged or cut off, images of nothing but background, cameras that are no pinholes, points that are too
    few or outside of the box. Images are read when asked for. Where no points come with the views, `cloud` carves a
    coloured visual hull from the silhouettes; they must then have alpha or a white or black background.

    Args:
        path: a folder of objects at any depth, one object's folder, an npz or a json file.
        radius: half the side of the box in the units of the poses; None: `scene.json`, or as the layout says.
        background: grey on which images with alpha are composited, 0 (black) to 1 (white). Others stay as they are.
        on_bad: "skip" leaves bad objects out and lists them in `bad` as (name, reason); "stop" raises at the first.
        memory: bytes of images that stay in memory; for points, a quarter as many.
        checked: how many objects are checked as `checks.check` does: what is found is a warning, or an error where
            nothing could be trained on any of them. 0: none.
        hulls: a folder that keeps the points of hulls; None: they stay in memory alone.

    Raises:
        UserError: nothing is there, raw meshes, no object that can be used, or bad captions.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        radius: float | None = None,
        background: float = 1.0,
        on_bad: Literal["skip", "stop"] = "skip",
        memory: int = 2 << 30,
        checked: int = 3,
        hulls: str | Path | None = None,
    ):
        if radius is not None and not 0 < radius < math.inf:
            raise UserError(f"radius must be a positive number, not {radius}")
        if not 0 <= background <= 1:
            raise UserError(f"background must lie between 0 (black) and 1 (white), not {background}")
        self.root = Path(path)
        self.background = background
        self._images, self._clouds = Memory[Pixels](memory), Memory[Pixels](memory // 4)
        self._hulls = Kept(None if hulls is None else Path(hulls))
        places = layouts.find(self.root)
        read = dict(zip(places, in_threads(self._open, places.items()), strict=True))
        boxed = boxed_scenes({name: scene for name, scene in read.items() if isinstance(scene, Scene)}, radius)
        self._npz_turn = npz_turn(list(boxed.values()))
        given = dict(zip(boxed, in_threads(self._given, boxed.values()), strict=True))
        results = ((name, scene if isinstance(scene, str) else given[name]) for name, scene in read.items())
        objects, self.bad = usable(self.root, results, "object", on_bad)
        self._objects = list(objects.values())
        if remarks := [one.scene.remark for one in self._objects if one.scene.remark]:
            log.warning("of %s of %s objects: %s", len(remarks), len(self._objects), remarks[0])
        self.names = list(objects)
        self.counts = [len(one.scene.views) for one in self._objects]
        self._read_folders()
        self.captions = captions_of(self.root, self.names)
        self._check(checked)

    def _open(self, item: tuple[str, Path]) -> Scene | str:
        """The scene at a place, or the reason why it cannot be used."""
        name, path = item
        if not is_text(name):
            return f"{printable(str(path))}: {NOT_TEXT}"

        def read() -> Scene | str:
            scene = layouts.read(path, self.root)
            for view in range(len(scene.views)):
                pixels = scene.pixels(view)
                self._images.keep((name, view), composited(pixels, self.background))  # not decoded again
                if (pixels != pixels[0, 0]).any():
                    return scene
            return f"{scene.place}: its {len(scene.views)} images show nothing but background"

        return attempt(path, read)

    def _given(self, one: BoxedScene) -> BoxedScene | str:
        """The object, with the points that come with its views in memory, or why these cannot be used."""

        def read() -> BoxedScene:
            if (points := one.points(self._npz_turn)) is not None:
                self._clouds.keep(one.name, points)
            return one

        return attempt(one.scene.cloud or one.scene.place, read)

    def _read_folders(self) -> None:
        """What the folders that names begin with say; the same name in two parts is one object."""
        parts, kinds = [], []
        same: dict[tuple[str, ...], list[int]] = {}
        for index, name in enumerate(self.names):
            *folders, own = name.split("/")
            part, left = "train", []
            for folder in folders:
                words = re.split(r"[_-]", folder)
                part = next((_PARTS[word.lower()] for word in words if word.lower() in _PARTS), part)
                left += ["_".join(word for word in words if word.lower() not in _PARTS)]
            left = [folder for folder in left if folder]
            parts.append(part)
            kinds.append(left[0] if left else "")
            same.setdefault((*left, own), []).append(index)
        self.groups = list(same.values())
        self.parts = parts if "train" in parts and set(parts) != {"train"} else None
        self.labels, self.classes = classes_of(kinds)

    def _check(self, count: int) -> None:
        """Warn of what looks wrong in `count` objects, evenly among all, or refuse what cannot be trained on."""
        objects = [self._objects[index] for index in evenly(len(self._objects), count)] if count > 0 else []
        found = [self._findings(one) for one in objects]
        fatal = [finding.text for those in found for finding in those if finding.fatal]
        if objects and all(any(finding.fatal for finding in those) for those in found):
            raise UserError(objects[0].named(fatal[0]))
        for one, those in zip(objects, found, strict=True):
            for finding in those:
                log.warning("%s", one.named(finding.text))

    def _findings(self, one: BoxedScene) -> list[Finding]:
        def look() -> list[Finding]:
            views, images = one.sample()
            points = None if one.scene.cloud is None else self._cloud(one)[:, :3]
            found, masks = check(views, images, points), silhouettes(images)
            if masks is None and points is None:
                text = "there are no coloured points, and the images have neither alpha nor a white or black background"
                found.append(Finding(text, True))
            if masks is not None and points is not None and not any(finding.fatal for finding in found):
                share = share_in_silhouettes(views, masks, points)
                if share < LEAST_FITTING:
                    text = f"only {share:.0%} of the coloured points lie in the silhouettes of the views"
                    found.append(Finding(text))
            return found

        found = attempt(one.scene.place, look)
        return [Finding(found, True)] if isinstance(found, str) else found

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates; OpenGL's axes, camera-to-world."""
        return self._objects[index].views

    def images(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for; one may be asked for twice. The array is new.

        Raises:
            IndexError: a number that is negative or beyond the last view.
            UserError: an image cannot be read any more; it is named.
        """
        for view in which:
            if not 0 <= view < self.counts[index]:
                raise IndexError(f"{self.names[index]} has {self.counts[index]} views, there is no view {view}")
        images = [self._image(self._objects[index], view) for view in which]
        return np.stack(images) if images else np.empty((0, *self.cameras(index).size, 3), np.uint8)

    def _image(self, one: BoxedScene, view: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._images.read((one.name, view), lambda: composited(one.scene.pixels(view), self.background))

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """`count` coloured points of object `index`, each at most once unless there are too few.

        Raises:
            UserError: no points come with the views and no hull can be carved; the folder is named.
        """
        cloud = self._cloud(self._objects[index])
        return cloud[some(len(cloud), count, rng)]

    def _cloud(self, one: BoxedScene) -> Cloud:
        """All points of an object: those of its file, or of a hull."""

        def made() -> Cloud:
            given = one.points(self._npz_turn)
            return self._hull(one) if given is None else given

        return self._clouds.read(one.name, made)

    def _hull(self, one: BoxedScene) -> Cloud:
        """The points of a hull, kept in the folder of hulls by the cameras and images that it is carved from."""
        with working("carving visual hulls", one.name):
            views, images = one.sample(HULL_VIEWS, HULL_SIDE)
            settings = (HULL, one.name, HULL_CELLS, HULL_POINTS, views.size)
            name = key(*settings, views.poses, views.focal, views.centre, images)
            kept = self._hulls.read(name)
            if kept is not None and {"points", "colours"} <= kept.keys():
                return coloured(kept["points"], kept["colours"])
            rng = np.random.default_rng(derive("hull", one.name))
            try:
                points, colours = coloured_hull(views, images, rng, count=HULL_POINTS, resolution=HULL_CELLS)
            except NoHull as error:
                place = one.scene.place
                raise UserError(f"{place} has no coloured points, and no hull can be carved: {error}") from error
            self._hulls.write(name, points=points, colours=colours)
        return coloured(points, colours)


def captions_of(root: Path, names: list[str]) -> list[list[str]] | None:
    """The captions of each object, each once; None where the root has no `captions.jsonl`.

    Raises:
        UserError: a line is damaged, or none is of an object; the file and the line are named.
    """
    path = root / TABLE
    if not path.is_file():
        return None
    captions = matched(path, json_captions(path, "model"), names, "objects")
    return captions if any(captions) else None
