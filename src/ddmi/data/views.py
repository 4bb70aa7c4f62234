"""Sources of posed photographs: what they promise, and folders in the layouts of SRN, npz files and NeRF-synthetic.

A scene lies in the box [-1, 1]^3, x right, y up, z towards the viewer. Three layouts, told apart by what is there:

- SRN (Sitzmann et al. 2019): `<object>/rgb/000000.png`, `<object>/pose/000000.txt` (16 numbers, camera-to-world,
  axes of OpenCV), `<object>/intrinsics.txt` (lines: focal cx cy 0, origin, scale, height width, and 1 where poses are
  world-to-camera). z points up, and the box is [-0.5, 0.5]^3: objects have a diagonal of 1. Beside them may lie
  `points.npz` (`points` (n, 3) in the units of the poses, `colours` (n, 3) uint8), and in a folder or above it
  `scene.json`, {"radius": half the side of the box, "up": "y" or "z", "centre": [x, y, z]}, where y is up by default.
- npz, one file an object: `images` (n, h, w, c) uint8, or numbers in [0, 1]; `cam_poses` (n, 4, 4), camera-to-world,
  axes of OpenGL; `data` (m, 6), coloured points; `focal` in pixels, else a field of view of 0.6911112 rad. z points
  up, and the box is [-1.1, 1.1]^3: shapes of diagonal 1, enlarged by 2.2 (Zimny et al. 2022, Points2NeRF).
- NeRF-synthetic (Mildenhall et al. 2020): `transforms.json`, or `transforms_train.json`, `_val`, `_test`, all views of
  one object: `frames` of `file_path` and `transform_matrix` (camera-to-world, axes of OpenGL), `camera_angle_x` in
  radians, or `fl_x`, `cx`, `cy`, `w`, `h` in pixels. z points up; the box is around the point where the optical axes
  meet, and as large as the ball that (nearly) all views show whole.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, UnidentifiedImageError

from ddmi.data.catalogues import ARCHIVES
from ddmi.data.hull import NoHull, coloured_hull, silhouettes
from ddmi.data.meshes import EXTENSIONS as MESHES
from ddmi.data.meshes import Up
from ddmi.data.pictures import EXTENSIONS, Memory, to_rgb
from ddmi.data.posed import Finding, Views, askew, findings, fits, in_view, meeting
from ddmi.data.shapes import SYNSETS
from ddmi.data.stored import some
from ddmi.errors import UserError
from ddmi.randomness import derive
from ddmi.storage import aside, read_json

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Pixels = UInt8[np.ndarray, "h w c"]
Raw = tuple[Float64[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]
"""Coloured points in the units of the files."""
Cloud = tuple[Float32[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]
"""Coloured points in the signal's coordinates."""
Reader = Callable[[Path, dict[str, Any]], "_Scene"]
"""Reads an object at a path, with what `scene.json` says."""

RADIUS_SRN, RADIUS_NPZ = 0.5, 1.1
"""Half the side of the box in the units of these layouts, where nothing else is told."""
FIELD_NPZ = 0.6911112
"""Radians: the horizontal field of view of npz files without `focal`."""
ENLARGED_NPZ = 2.2
"""The coloured points of npz files may be those of the shape before it was enlarged so, and y up."""
CENTRED = 0.05
"""Axes that meet within this share of the distance to the cameras from the origin are taken to meet there."""
FEWEST_POINTS = 100
MOST_OUTSIDE = 0.05
"""Share of the coloured points that may lie outside of the box; those are left out."""
LEAST_FITTING = 0.8
"""Share of the coloured points that should lie in the silhouettes."""
HULL_VIEWS, HULL_SIDE, HULL_CELLS, HULL_POINTS = 40, 192, 96, 30_000
"""A hull is carved by at most so many views, of pictures shrunk to about this shorter side; its cells and points."""
LOOK_VIEWS, LOOK_SIDE = 24, 96
"""What is looked at when a source is opened: views of an object, and their shorter side."""

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
_TURN = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""z up becomes y up."""
_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@runtime_checkable
class ViewSource(Protocol):
    """A fixed, ordered set of objects, each known by photographs whose cameras are known."""

    names: list[str]  # stable, unique
    captions: list[list[str]] | None  # those of each object ([] where it has none), None when no object has one
    labels: list[int] | None  # class of each object, an index into `classes`
    classes: list[str]  # [] when there are none
    groups: list[list[int]]  # indices that are variants of one subject; [[0], [1], ...] when there are none
    parts: list[str] | None  # "train", "val" or "test" of each where the set is split already, else None
    counts: list[int]  # views of each object
    bad: list[tuple[str, str]]  # (name, reason) of what was left out

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates."""
        ...

    def pictures(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for, composited on the background."""
        ...

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """Coloured points of the surface of object `index`: xyz in [-1, 1], then rgb in [-1, 1]."""
        ...


def open_views(
    path: str | Path,
    *,
    radius: float | None = None,
    up: Up | None = None,
    background: float = 1.0,
    on_bad: Literal["skip", "stop"] = "skip",
    memory: int = 2 << 30,
    looked: int = 3,
    hulls: str | Path | None = None,
    progress: Progress | None = None,
) -> ViewFolder:
    """The posed photographs at a path: a folder of objects at any depth, one object's folder, an npz or a json file.

    Arguments and errors are those of `ViewFolder`.
    """
    return ViewFolder(
        path,
        radius=radius,
        up=up,
        background=background,
        on_bad=on_bad,
        memory=memory,
        looked=looked,
        hulls=hulls,
        progress=progress,
    )


class ViewFolder:
    """Objects in the layouts of this module's description; several may be mixed.

    Parts: folders above an object that are called train, val or test, or end so, as `cars_train` (`cars_train_val` has
    other views of what is trained on, and counts as train). Classes: the folders above, without that word, when there
    are two or more, ShapeNet's in words. Captions: `captions.jsonl` at the root, one {"model": name, "text": caption} a
    line. One object's views that come in parts (`transforms_test.json`) are told apart by `cameras(index).parts`.

    Poses and the headers of pictures are read when a source is opened, so that a bad object is known before training:
    views without poses, poses that are no rotations, a focal length of 0, pictures of different sizes, files that are
    damaged or cut off, pictures of nothing but background. Pictures are read when asked for. Where no points come with
    the views, `cloud` carves a coloured visual hull from the silhouettes; they must then have alpha or a white or black
    background.

    Args:
        root: a folder, or one file.
        radius: half the side of the box in the units of the poses; None: `scene.json`, or as the layout says.
        up: the axis of the poses that points up; None: `scene.json`, or as the layout says.
        background: grey on which pictures with alpha are composited, 0 (black) to 1 (white). Others stay as they are.
        on_bad: "skip" leaves bad objects out and lists them in `bad` as (name, reason); "stop" raises at the first.
        memory: bytes of pictures that stay in memory; for points, a quarter as many.
        looked: how many objects are looked at as `ddmi.data.posed.check` does: what is found is a warning, or an error
            where nothing could be trained on any of them. 0: none.
        hulls: a folder that keeps the points of hulls; None: they stay in memory alone.
        progress: called with (objects checked, objects in all).

    Raises:
        UserError: nothing is there, raw meshes, no object that can be used, or bad captions.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        radius: float | None = None,
        up: Up | None = None,
        background: float = 1.0,
        on_bad: Literal["skip", "stop"] = "skip",
        memory: int = 2 << 30,
        looked: int = 3,
        hulls: str | Path | None = None,
        progress: Progress | None = None,
    ):
        if on_bad not in ("skip", "stop"):
            raise UserError(f"unknown on_bad {on_bad!r}: allowed are skip, stop")
        if radius is not None and not 0 < radius < math.inf:
            raise UserError(f"radius must be a positive number, not {radius}")
        if up not in (None, "y", "z"):
            raise UserError(f"unknown up {up!r}: allowed are y, z")
        if not 0 <= background <= 1:
            raise UserError(f"background must lie between 0 (black) and 1 (white), not {background}")
        self.root = Path(root)
        self.background = background
        found = _found(self.root)
        self.bad: list[tuple[str, str]] = []
        self.names: list[str] = []
        self._scenes: list[_Scene] = []
        for name, scene in _opened(self.root, found, progress):
            if not isinstance(scene, str):
                self.names.append(name)
                self._scenes.append(scene)
            elif on_bad == "stop":
                raise UserError(f'bad object {name}: {scene}; on_bad="skip" leaves such objects out')
            else:
                self.bad.append((name, scene))
        if not self.names:
            raise UserError(f"no object in {self.root} can be used, the first, {self.bad[0][0]}: {self.bad[0][1]}")
        if self.bad:
            told = "; ".join(reason for _, reason in self.bad[:3])
            log.warning("%s of %s objects are left out: %s", len(self.bad), len(found), told)
        self.counts = [len(scene.views) for scene in self._scenes]
        self.parts, self.labels, self.classes, self.groups = _sorted(self.names)
        self.captions = _captions(self.root, self.names)
        self._boxes = _boxes(self._scenes, radius, up)
        self._memory = Memory(memory)
        self._clouds: dict[int, Cloud] = {}
        self._room = memory // 4
        self._hulls = None if hulls is None else Path(hulls)
        self._fitting: Float64[np.ndarray, "3 3"] | None = None
        self._look(looked)

    @property
    def radii(self) -> list[float]:
        """Half the side of each object's box, in the units of its poses."""
        return [box.radius for box in self._boxes]

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates; OpenGL's axes, camera-to-world."""
        return self._boxes[index].views(self._scenes[index].views)

    def pictures(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for; one may be asked for twice. The array is new.

        Raises:
            IndexError: a number that is negative or beyond the last view.
            UserError: a picture cannot be read any more; it is named.
        """
        for view in which:
            if not 0 <= view < self.counts[index]:
                raise IndexError(f"{self.names[index]} has {self.counts[index]} views, there is no view {view}")
        out = np.empty((len(which), *self._scenes[index].views.size, 3), dtype=np.uint8)
        for place, view in enumerate(which):
            out[place] = self._memory.read(index, view, self._composited)
        return out

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """`count` coloured points of object `index`, each at most once unless there are too few.

        Raises:
            UserError: the points are not those of the scene, or there are none and no hull can be carved; the file or
                folder is named.
        """
        points, colours = self._points(index)
        chosen = some(len(points), count, rng)
        return np.concatenate([points[chosen], colours[chosen] / 127.5 - 1], axis=1).astype(np.float32)

    def _composited(self, index: int, view: int) -> UInt8[np.ndarray, "h w 3"]:
        return composited(self._scenes[index].pixels(view), self.background)

    def _points(self, index: int) -> Cloud:
        kept = self._clouds.get(index)
        if kept is None:
            scene = self._scenes[index]
            if scene.cloud is None:
                kept = self._hull(index)
            else:
                points, colours = scene.points(scene.cloud)
                if scene.loose:
                    points = points @ self._fit().T
                kept = _inside(scene.cloud, self._boxes[index], points, colours)
            size = kept[0].nbytes + kept[1].nbytes
            if size <= self._room:
                self._room -= size
                self._clouds[index] = kept
        return kept

    def _hull(self, index: int) -> Cloud:
        scene, name = self._scenes[index], self.names[index]
        file = None if self._hulls is None else self._hulls / f"{name}.npz"
        key = str(derive(str(self._boxes[index]), HULL_VIEWS, HULL_SIDE, HULL_CELLS, HULL_POINTS, self.counts[index]))
        if file is not None and (stored := _stored_hull(file, key)) is not None:
            return stored
        views, pictures = self._few(index, HULL_VIEWS, HULL_SIDE)
        try:
            points, colours = coloured_hull(
                views,
                pictures,
                np.random.default_rng(derive("hull", name)),
                count=HULL_POINTS,
                resolution=HULL_CELLS,
            )
        except NoHull as error:
            raise UserError(f"{scene.place} has no coloured points, and no hull can be carved: {error}") from error
        if file is not None:
            with aside(file) as scratch, scratch.open("wb") as target:
                np.savez(target, points=points, colours=colours, key=np.array(key))
        return points, colours

    def _few(self, index: int, most: int, side: int) -> tuple[Views, UInt8[np.ndarray, "n h w c"]]:
        """At most so many views, evenly among all, and their pictures as they are, shrunk to about this side."""
        scene = self._scenes[index]
        which = np.unique(np.linspace(0, len(scene.views) - 1, most).round().astype(int))
        factor = max(1, round(min(scene.views.size) / side))
        pictures = [_shrunk(scene.pixels(int(view)), factor) for view in which]
        if len({picture.shape[2] for picture in pictures}) > 1:  # some have alpha
            pictures = [np.dstack([p, np.full(p.shape[:2], 255, np.uint8)])[..., :4] for p in pictures]
        return self.cameras(index).only(which).shrunk(factor), np.stack(pictures)

    def _fit(self) -> Float64[np.ndarray, "3 3"]:
        """What brings the points of npz files to the scene of their views, by the silhouettes of the first object.

        They are those of the scene, or of the shape before it was turned, enlarged, or both.
        """
        if self._fitting is None:
            index, scene, file = next((k, s, s.cloud) for k, s in enumerate(self._scenes) if s.loose and s.cloud)
            points, _ = scene.points(file)
            views, pictures = self._few(index, LOOK_VIEWS, LOOK_SIDE)
            masks = silhouettes(pictures)
            best, fitting = 0.0, np.eye(3)
            if masks is not None:
                for enlarged in (1.0, ENLARGED_NPZ):
                    for turn in (np.eye(3), _TURN.T):
                        moved = self._boxes[index].points(points @ (enlarged * turn).T)
                        overlap = _overlap(views, masks, moved)
                        if overlap > best + 0.02:
                            best, fitting = overlap, enlarged * turn
            self._fitting = fitting
        return self._fitting

    def _look(self, count: int) -> None:
        """Warn of what looks wrong in a few objects, or refuse what cannot be trained on.

        Raises:
            UserError: something is fatal in every one of them.
        """
        if count < 1:
            return
        indices = np.unique(np.linspace(0, len(self.names) - 1, count).round().astype(int))
        found = {int(index): self._findings(int(index)) for index in indices}
        fatal = [(index, f.text) for index, those in found.items() for f in those if f.fatal]
        if len({index for index, _ in fatal}) == len(indices):
            index, text = fatal[0]
            raise UserError(self._named(index, text))
        for index, those in found.items():
            for finding in those:
                log.warning("%s", self._named(index, finding.text))

    def _named(self, index: int, text: str) -> str:
        place = str(self._scenes[index].place)
        return text if text.startswith(place) else f"{place}: {text}"

    def _findings(self, index: int) -> list[Finding]:
        try:
            views, pictures = self._few(index, LOOK_VIEWS, LOOK_SIDE)
            found = findings(views, pictures)
            masks = silhouettes(pictures)
            given = self._scenes[index].cloud is not None
            if masks is None and not given:
                told = (
                    "there are no coloured points, and the pictures have neither alpha nor a white or black background"
                )
                found.append(Finding(told, True))
            if masks is not None and given and not any(finding.fatal for finding in found):
                share = fits(views, masks, self._points(index)[0])
                if share < LEAST_FITTING:
                    told = f"only {share:.0%} of the coloured points lie in the silhouettes of the views"
                    found.append(Finding(told, False))
        except UserError as error:
            return [Finding(str(error), True)]
        return found


def composited(pixels: Pixels, background: float) -> UInt8[np.ndarray, "h w 3"]:
    """A picture on a grey background: alpha (straight, 8 bits) is used up; without alpha, as it is."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return (pixels[..., :3] * alpha + 255 * background * (1 - alpha)).round().astype(np.uint8)


@dataclass(frozen=True)
class _Box:
    """The cube of a scene that becomes [-1, 1]^3, in the units of its poses."""

    radius: float
    centre: tuple[float, float, float]
    up: Up

    def points(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Points of the scene in the signal's coordinates."""
        moved = (points - self.centre) / self.radius
        return moved @ _TURN.T if self.up == "z" else moved

    def views(self, views: Views) -> Views:
        """Cameras of the scene in the signal's coordinates."""
        poses = views.poses.copy()
        poses[:, :3, 3] = self.points(views.eyes)
        if self.up == "z":
            poses[:, :3, :3] = _TURN @ poses[:, :3, :3]
        return replace(views, poses=poses)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """One object as its files have it."""

    place: Path
    """What an error names."""
    views: Views
    """OpenGL's axes, in the units of the files."""
    up: Up
    radius: float | None
    """None: to be estimated."""
    centre: tuple[float, float, float] | None = (0.0, 0.0, 0.0)
    """None: to be estimated."""
    cloud: Path | None = None
    """The file of its coloured points, where some come with the views."""
    loose: bool = False
    """Its coloured points may be turned and smaller than the scene."""

    def pixels(self, view: int) -> Pixels:
        """A picture as it is, RGB or RGBA."""
        raise NotImplementedError

    def points(self, path: Path) -> Raw:
        """The coloured points in a file, in the units of the poses."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class _Files(_Scene):
    files: list[Path]

    def pixels(self, view: int) -> Pixels:
        pixels = _decoded(self.files[view])
        if pixels.shape[:2] != self.views.size:
            raise UserError(f"{self.files[view]} has changed: its size is not that of the other pictures any more")
        return pixels

    def points(self, path: Path) -> Raw:
        arrays = _arrays(path, "points", "colours")
        return _checked(path, arrays["points"]), arrays["colours"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Archive(_Scene):
    def pixels(self, view: int) -> Pixels:
        return _images(self.place)[view]

    def points(self, path: Path) -> Raw:
        data = _arrays(path, "data")["data"]
        colours = data[:, 3:].astype(np.float64)
        colours = colours * 255 if colours.max(initial=0) <= 1.001 else colours
        return _checked(path, data[:, :3]), np.clip(colours.round(), 0, 255).astype(np.uint8)


def _checked(path: Path, points: np.ndarray) -> Float64[np.ndarray, "n 3"]:
    if len(points) < FEWEST_POINTS:
        raise UserError(f"{path} has {len(points)} points, at least {FEWEST_POINTS} are needed")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: points have values that are not finite numbers")
    return points.astype(np.float64)


def _inside(path: Path, box: _Box, points: Float64[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"]) -> Cloud:
    """Those in the box, in the signal's coordinates."""
    moved = box.points(points)
    kept = (np.abs(moved) <= 1).all(axis=1)
    if kept.mean() < 1 - MOST_OUTSIDE:
        reach = float(np.abs(points - box.centre).max())
        raise UserError(
            f"{path}: {1 - kept.mean():.0%} of its points lie outside of the box: they reach {reach:.3g} from its "
            f"middle, the radius is {box.radius:.3g}"
        )
    return moved[kept].astype(np.float32), colours[kept]


def _overlap(views: Views, masks: np.ndarray, points: Float64[np.ndarray, "n 3"]) -> float:
    """How well the boxes around the points and around the silhouettes agree: area in both by area in any, the mean."""
    shares = []
    for view in np.flatnonzero(masks.any(axis=(1, 2))):
        pixel, depth, _ = views.project(int(view), points)
        if (depth <= 0).any():
            return 0.0
        rows, columns = np.nonzero(masks[view])
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        first, last = pixel.min(axis=0), pixel.max(axis=0)
        both = np.prod(np.clip(np.minimum(high, last) - np.maximum(low, first), 0, None))
        shares.append(both / (np.prod(high - low) + np.prod(last - first) - both))
    return float(np.mean(shares)) if shares else 0.0


def _boxes(scenes: list[_Scene], radius: float | None, up: Up | None) -> list[_Box]:
    """The box of each object; those that are estimated have one radius for all."""
    centres, balls = [], []
    for scene in scenes:
        centre = _middle(scene.views) if scene.centre is None else scene.centre
        centres.append(centre)
        if scene.radius is None and radius is None and (ball := in_view(scene.views, np.array(centre))) > 0:
            balls.append(ball)
    estimate = float(np.median(balls)) if balls else 1.0
    return [
        _Box(radius or scene.radius or estimate, centre, up or scene.up)
        for scene, centre in zip(scenes, centres, strict=True)
    ]


def _middle(views: Views) -> tuple[float, float, float]:
    """Where the optical axes meet; the origin where that is near, or where they do not."""
    meets = meeting(views) if len(views) > 1 else None
    if meets is None or meets.sound(float(np.median(np.linalg.norm(views.eyes, axis=1)))) < 1:
        return 0.0, 0.0, 0.0
    if np.linalg.norm(meets.point) < CENTRED * np.median(meets.depths):
        return 0.0, 0.0, 0.0
    x, y, z = (float(value) for value in meets.point)
    return x, y, z


# What is where


def _found(root: Path) -> dict[str, tuple[Reader, Path]]:
    """How each object is read, and where it is, by its name, in order."""
    if root.is_file():
        if root.suffix.lower() == ".npz":
            return {root.stem: (_archive, root)}
        if root.suffix.lower() == ".json":
            return {root.resolve().parent.name: (_transforms, root)}
        raise UserError(f"{root} holds no views: {_COUNTING}")
    if not root.is_dir():
        raise UserError(f"{root} does not exist: {_COUNTING}")
    found = {}
    for path in _objects(root, 0):
        name = path.relative_to(root).as_posix().removesuffix(".npz")
        reader = _archive if path.is_file() else _srn if _is_srn(path) else _transforms
        found[root.resolve().name if name == "." else name] = (reader, path)
    if not found:
        for path in root.rglob("*"):
            if path.suffix.lower() in MESHES + ARCHIVES:
                raise UserError(f"{root} holds raw meshes ({path.name}, ...): ddmi prepare views {root} DST first")
        raise UserError(f"no views in {root}: {_COUNTING}")
    return dict(sorted(found.items()))


_COUNTING = (
    "an object is a folder with rgb/, pose/ and intrinsics.txt, or with transforms.json, or an npz file with images "
    "and cam_poses"
)
_DEPTH = 5
_OTHERS = ("points.npz", "pointcloud.npz", "near.npz")


def _is_srn(folder: Path) -> bool:
    return (folder / "rgb").is_dir() or (folder / "pose").is_dir()


def _tables(folder: Path) -> list[tuple[str | None, Path]]:
    """The files of transforms in a folder, each with the part that it is."""
    if (folder / "transforms.json").is_file():
        return [(None, folder / "transforms.json")]
    files = [(part, folder / f"transforms_{part}.json") for part in ("train", "val", "test")]
    return [(part, path) for part, path in files if path.is_file()]


def _objects(folder: Path, depth: int) -> Iterator[Path]:
    if _is_srn(folder) or _tables(folder):
        yield folder
    elif depth < _DEPTH:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from _objects(path, depth + 1)
            elif path.suffix.lower() == ".npz" and path.name not in _OTHERS:
                yield path


def _opened(
    root: Path,
    found: dict[str, tuple[Reader, Path]],
    progress: Progress | None,
) -> Iterator[tuple[str, _Scene | str]]:
    """The scene of each object in order, or the reason why it cannot be used."""

    def look(entry: tuple[Reader, Path]) -> _Scene | str:
        reader, path = entry
        try:
            scene = reader(path, _told(path, root))
            if _plain(scene.pixels(0)) and all(_plain(scene.pixels(view)) for view in range(1, len(scene.views))):
                return f"{scene.place}: its {len(scene.views)} pictures show nothing but background"
            return scene
        except UserError as error:
            return str(error)

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "views")
    try:
        for done, (name, scene) in enumerate(zip(found, pool.map(look, found.values()), strict=True), 1):
            yield name, scene
            if progress is not None:
                progress(done, len(found))
    finally:
        pool.shutdown(cancel_futures=True)


def _plain(pixels: Pixels) -> bool:
    return bool((pixels == pixels[0, 0]).all())


def _told(path: Path, root: Path) -> dict[str, Any]:
    """What `scene.json` says, the nearest at the object or above it; {} without one."""
    folder = path if path.is_dir() else path.parent
    top = root if root.is_dir() else root.parent
    for place in [folder, *(above for above in folder.parents if above.is_relative_to(top))]:
        if (place / "scene.json").is_file():
            return _facts(place / "scene.json")
    return {}


def _facts(path: Path) -> dict[str, Any]:
    told = read_json(path)
    if not isinstance(told, dict):
        raise UserError(f'{path}: needs {{"radius": ...}}')
    radius, up, centre = told.get("radius"), told.get("up", "y"), told.get("centre")
    if radius is not None and not (_number(radius) and radius > 0):
        raise UserError(f"{path}: `radius` must be a positive number, not {radius!r}")
    if up not in ("y", "z"):
        raise UserError(f"{path}: `up` must be y or z, not {up!r}")
    if centre is not None and not (isinstance(centre, list) and len(centre) == 3 and all(map(_number, centre))):
        raise UserError(f"{path}: `centre` must be three numbers, not {centre!r}")
    facts = {"radius": radius, "up": up, "centre": None if centre is None else tuple(map(float, centre))}
    return {key: value for key, value in facts.items() if value is not None}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sorted(names: list[str]) -> tuple[list[str] | None, list[int] | None, list[str], list[list[int]]]:
    """Parts, labels, classes and groups, by the folders that names begin with."""
    parts, kinds = [], []
    subjects: dict[tuple[str, ...], list[int]] = {}
    for index, name in enumerate(names):
        *folders, own = name.split("/")
        part, left = "train", []
        for folder in folders:
            words = re.split(r"[_-]", folder.lower())
            found = [_PARTS[word] for word in words if word in _PARTS]
            part = found[0] if found else part
            rest = "_".join(word for word in re.split(r"[_-]", folder) if word.lower() not in _PARTS)
            left += [rest] if rest else []
        parts.append(part)
        kinds.append(left[0] if left else "")
        subjects.setdefault((*left, own), []).append(index)
    classes = sorted(set(kinds))
    labels = None
    if len(classes) < 2 or "" in classes:
        classes = []
    else:
        labels = [classes.index(kind) for kind in kinds]
        words = [SYNSETS.get(kind, kind) for kind in classes]
        classes = words if len(set(words)) == len(words) else classes
    split = parts if "train" in parts and set(parts) != {"train"} else None
    return split, labels, classes, list(subjects.values())


def _captions(root: Path, names: list[str]) -> list[list[str]] | None:
    path = root / "captions.jsonl"
    if not path.is_file():
        return None
    told: dict[str, list[str]] = {name: [] for name in names}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            try:
                entry = json.loads(line)
                name, text = entry["model"], " ".join(entry["text"].split())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f'{path}, line {number}: needs {{"model": ..., "text": ...}}') from error
            if text and name in told:
                told[name].append(text)
    if not any(told.values()):
        raise UserError(f"{path} names none of the objects: a name is like {names[0]!r}")
    return [list(dict.fromkeys(told[name])) for name in names]


# The three layouts


def _srn(folder: Path, told: dict[str, Any]) -> _Scene:
    if not (folder / "rgb").is_dir():
        raise UserError(f"{folder / 'rgb'} is missing: there are poses without pictures")
    if not (folder / "pose").is_dir():
        raise UserError(f"{folder / 'pose'} is missing: there are pictures without poses")
    files = sorted(path for path in (folder / "rgb").iterdir() if path.suffix.lower() in EXTENSIONS)
    texts = {path.stem: path for path in (folder / "pose").glob("*.txt")}
    if not files:
        raise UserError(f"{folder / 'rgb'} holds no pictures: they end in {', '.join(EXTENSIONS)}")
    if len(files) != len(texts):
        raise UserError(f"{folder}: {len(files)} pictures in rgb, {len(texts)} poses in pose")
    if missing := [path for path in files if path.stem not in texts]:
        raise UserError(f"{folder / 'pose' / missing[0].stem}.txt is missing: {missing[0]} has no pose")
    size = _common_size(files)
    given = _intrinsics(folder / "intrinsics.txt", size)
    poses = []
    for file in files:
        path = texts[file.stem]
        numbers = _numbers(path)
        if len(numbers) not in (12, 16):
            raise UserError(f"{path}: a pose has 16 numbers, row by row, not {len(numbers)}")
        pose = np.array([*numbers, 0, 0, 0, 1] if len(numbers) == 12 else numbers).reshape(4, 4)
        _upright(path, "the pose", pose)
        poses.append((np.linalg.inv(pose) if given.inverse else pose) @ _OPENCV)
    return _Files(
        place=folder,
        views=_views(np.stack(poses), given.focal, given.centre, size),
        up=told.get("up", "z"),
        radius=told.get("radius", RADIUS_SRN),
        centre=told.get("centre", given.origin),
        files=files,
        cloud=_beside(folder),
    )


@dataclass(frozen=True)
class _Intrinsics:
    focal: float
    centre: tuple[float, float]
    origin: tuple[float, float, float]
    inverse: bool


def _intrinsics(path: Path, size: tuple[int, int]) -> _Intrinsics:
    """What `intrinsics.txt` says, for pictures of this size."""
    lines = [line.split() for line in _text(path).splitlines() if line.strip()]
    try:
        rows = [[float(word) for word in line] for line in lines]
        focal, x, y = rows[0][:3]
        origin = (rows[1][0], rows[1][1], rows[1][2])
        height, width = rows[3]
        inverse = bool(rows[4][0]) if len(rows) > 4 else False
    except (ValueError, IndexError) as error:
        wanted = "focal cx cy 0 / three numbers of the origin / scale / height width"
        raise UserError(f"{path} must have the lines {wanted}") from error
    if not np.isfinite([focal, x, y, *origin, height, width]).all():
        raise UserError(f"{path} has values that are not finite numbers")
    if focal <= 0 or height <= 0 or width <= 0:
        raise UserError(
            f"{path}: the focal length and the size must be positive, not {focal:g}, {height:g} x {width:g}"
        )
    scale = size[1] / width
    if abs(size[0] / height / scale - 1) > 0.01:
        raise UserError(f"{path} is for pictures of {width:g}x{height:g} pixels, they have {size[1]}x{size[0]}")
    return _Intrinsics(focal * scale, (x * scale, y * scale), origin, inverse)


def _transforms(path: Path, told: dict[str, Any]) -> _Scene:
    tables = [(None, path)] if path.is_file() else _tables(path)
    folder = path.parent if path.is_file() else path
    files: list[Path] = []
    parts: list[str] = []
    poses, lenses = [], []
    for part, table in tables:
        content = read_json(table)
        frames = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(frames, list) or not frames:
            raise UserError(f"{table} needs `frames`, a list that is not empty")
        for number, frame in enumerate(frames):
            where = f"frame {number}"
            try:
                named = folder / frame["file_path"]
                pose = np.array(frame["transform_matrix"], dtype=np.float64)
            except (TypeError, KeyError, ValueError) as error:
                raise UserError(f"{table}, {where}: needs `file_path` and `transform_matrix`") from error
            files.append(_picture(table, named))
            if pose.shape == (3, 4):
                pose = np.concatenate([pose, [[0, 0, 0, 1]]])
            if pose.shape != (4, 4):
                raise UserError(f"{table}, {where}: `transform_matrix` must be 4 x 4, not {pose.shape}")
            _upright(table, where, pose)
            poses.append(pose)
            lenses.append((f"{table}, {where}", content | frame))
            parts += [part] if part else []
    size = _common_size(files)
    seen = [_lens(place, given, size) for place, given in lenses]
    views = _views(np.stack(poses), [focal for focal, _ in seen], [centre for _, centre in seen], size)
    return _Files(
        place=folder,
        views=replace(views, parts=tuple(parts) if parts else None),
        up=told.get("up", "z"),
        radius=told.get("radius"),
        centre=told.get("centre"),
        files=files,
        cloud=_beside(folder),
    )


def _picture(table: Path, named: Path) -> Path:
    """The file of a frame, whose ending may be left out."""
    if named.suffix.lower() in EXTENSIONS and named.is_file():
        return named
    for ending in EXTENSIONS:
        if (path := named.with_name(named.name + ending)).is_file():
            return path
    raise UserError(f"{table}: there is no picture {named}")


def _lens(place: str, given: dict[str, Any], size: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """Focal length and principal point in pixels of a picture of this size."""
    height, width = size
    keys = ("camera_angle_x", "fl_x", "fl_y", "cx", "cy", "w", "h")
    if wrong := [key for key in keys if key in given and not _number(given[key])]:
        raise UserError(f"{place}: `{wrong[0]}` must be a number, not {given[wrong[0]]!r}")
    told_width = given.get("w", width)
    if told_width <= 0:
        raise UserError(f"{place}: `w` must be positive, not {told_width}")
    scale = width / told_width
    if "fl_x" in given:
        focal = given["fl_x"] * scale
        if abs(given.get("fl_y", given["fl_x"]) - given["fl_x"]) > 0.01 * abs(given["fl_x"]):
            raise UserError(f"{place}: pixels must be square, `fl_x` is {given['fl_x']:g} and `fl_y` {given['fl_y']:g}")
    elif "camera_angle_x" in given:
        angle = given["camera_angle_x"]
        if not 0 < angle < math.pi:
            raise UserError(f"{place}: `camera_angle_x` is in radians, between 0 and pi, not {angle:g}")
        focal = width / 2 / math.tan(angle / 2)
    else:
        raise UserError(f"{place}: needs `camera_angle_x` or `fl_x`")
    if focal <= 0:
        raise UserError(f"{place}: the focal length must be positive, not {focal:g}")
    return focal, (given.get("cx", told_width / 2) * scale, given.get("cy", height / scale / 2) * scale)


def _archive(path: Path, told: dict[str, Any]) -> _Scene:
    shape, kind = _header(path, "images")
    if len(shape) != 4 or shape[3] not in (1, 3, 4) or kind.kind not in "fu" or 0 in shape:
        raise UserError(f"{path}: `images` must be (n, h, w, 3), 8 bits or numbers in [0, 1], not {kind} {shape}")
    poses = _arrays(path, "cam_poses")["cam_poses"]
    if poses.shape != (shape[0], 4, 4) or poses.dtype.kind != "f":
        raise UserError(f"{path}: {shape[0]} `images` go with `cam_poses` ({shape[0]}, 4, 4), not {poses.shape}")
    poses = poses.astype(np.float64)
    for number, pose in enumerate(poses):
        _upright(path, f"pose {number}", pose)
    focal: Any = shape[2] / 2 / math.tan(FIELD_NPZ / 2)
    if _has(path, "focal"):
        focal = _arrays(path, "focal")["focal"].squeeze()
        if focal.shape not in ((), (shape[0],)) or not np.isfinite(focal).all() or (focal <= 0).any():
            raise UserError(f"{path}: `focal` must be one positive number of pixels, or one a view")
    data = _has(path, "data")
    if data:
        points, kind = _header(path, "data")
        if len(points) != 2 or points[1] != 6 or kind.kind not in "fiu":
            raise UserError(f"{path}: `data` must be (n, 6), coloured points, not {kind} {points}")
    return _Archive(
        place=path,
        cloud=path if data else None,
        views=_views(poses, focal, (shape[2] / 2, shape[1] / 2), (shape[1], shape[2])),
        up=told.get("up", "z"),
        radius=told.get("radius", RADIUS_NPZ),
        centre=told.get("centre", (0.0, 0.0, 0.0)),
        loose=True,
    )


def _beside(folder: Path) -> Path | None:
    """The file of coloured points in a folder, its headers checked."""
    path = folder / "points.npz"
    if not path.is_file():
        return None
    points, number = _header(path, "points")
    colours, kind = _header(path, "colours")
    if len(points) != 2 or points[1] != 3 or number.kind not in "fiu" or colours != points or kind != np.uint8:
        told = f"{number} {points} with {kind} {colours}"
        raise UserError(f"{path}: `points` (n, 3), numbers, go with as many `colours` of 8 bits, not {told}")
    return path


def _views(poses: np.ndarray, focal: Any, centre: Any, size: tuple[int, int]) -> Views:
    count = len(poses)
    return Views(
        poses=poses,
        focal=np.broadcast_to(np.asarray(focal, dtype=np.float64), (count,)).copy(),
        centre=np.broadcast_to(np.asarray(centre, dtype=np.float64), (count, 2)).copy(),
        size=size,
    )


def _upright(path: Path, what: str, pose: np.ndarray) -> None:
    if reason := askew(pose):
        raise UserError(f"{path}: {what} {reason}")


# Files


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is no text that can be read") from error


def _numbers(path: Path) -> list[float]:
    try:
        return [float(word) for word in _text(path).split()]
    except ValueError as error:
        raise UserError(f"{path} holds something that is not a number") from error


def _common_size(files: list[Path]) -> tuple[int, int]:
    """(height, width) of all pictures, by their headers."""
    first = _size(files[0])
    for path in files[1:]:
        if (size := _size(path)) != first:
            height, width = first
            raise UserError(
                f"{path} has {size[1]}x{size[0]} pixels, {files[0].name} has {width}x{height}: one is allowed"
            )
    return first


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.format == "PNG" and not _ended(path):
                raise UserError(f"{path} is cut off")
            return image.height, image.width
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _ended(path: Path) -> bool:
    """Whether the last chunk of a PNG is there."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return b"IEND" in file.read()


def _decoded(path: Path) -> Pixels:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.has_transparency_data and not image.mode.startswith("I"):
                return np.array(image.convert("RGBA"), dtype=np.uint8)
            return np.array(to_rgb(image), dtype=np.uint8)
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly every kind of error on a broken file
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _shrunk(pixels: Pixels, factor: int) -> Pixels:
    if factor == 1:
        return pixels
    image = Image.fromarray(pixels)
    if image.mode == "RGBA":  # colours count as much as they are opaque
        return np.array(image.convert("RGBa").reduce(factor).convert("RGBA"), dtype=np.uint8)
    return np.array(image.reduce(factor), dtype=np.uint8)


_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    KeyError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or no npz file of numbers: {' '.join(str(error).split())[:200]}")


def _has(path: Path, key: str) -> bool:
    try:
        with np.load(path, allow_pickle=False) as file:
            return key in file.files
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _arrays(path: Path, *keys: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in keys if key not in file.files]:
                raise UserError(f"{path} has no array `{missing[0]}`, only {', '.join(file.files) or 'none'}")
            return {key: file[key] for key in keys}
    except UserError:
        raise
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, without reading it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{key}.npy" not in archive.namelist():
                raise UserError(f"{path} has no array `{key}`")
            with archive.open(f"{key}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
    except UserError:
        raise
    except _BROKEN as error:
        raise _damaged(path, error) from error
    return shape, kind


@lru_cache(maxsize=2)
def _images(path: Path) -> UInt8[np.ndarray, "n h w c"]:
    """All pictures of an npz file; numbers become 8 bits."""
    images = _arrays(path, "images")["images"]
    if images.dtype != np.uint8:
        scaled = images.astype(np.float32)
        if not np.isfinite(scaled).all() or scaled.min() < -0.01 or scaled.max() > 1.01:
            raise UserError(f"{path}: `images` that are not of 8 bits must lie in [0, 1]")
        images = np.clip(255 * scaled, 0, 255).round().astype(np.uint8)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def _stored_hull(path: Path, key: str) -> Cloud | None:
    """The points of a hull that was carved before with the same settings."""
    if not path.is_file():
        return None
    try:
        arrays = _arrays(path, "points", "colours", "key")
    except UserError:
        return None
    if str(arrays["key"]) != key or arrays["points"].shape != arrays["colours"].shape:
        return None
    return arrays["points"].astype(np.float32), arrays["colours"].astype(np.uint8)
