"""The objects at a path as a source of views: read when it is opened, their pictures when they are asked for."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from ddmi.base.errors import UserError
from ddmi.data.memory import Memory
from ddmi.data.meshes import Up
from ddmi.data.pictures import printable
from ddmi.data.stored import some
from ddmi.domains.nerf.posed import Views
from ddmi.domains.nerf.views.box import boxed
from ddmi.domains.nerf.views.clouds import Clouds
from ddmi.domains.nerf.views.layouts import Progress, found, opened
from ddmi.domains.nerf.views.look import look
from ddmi.domains.nerf.views.names import captions_of, folders_of
from ddmi.domains.nerf.views.pixels import composited
from ddmi.domains.nerf.views.scene import Scene

log = logging.getLogger(__name__)


class ViewFolder:
    """Objects in the layouts of `ddmi.domains.nerf.views`; several may be mixed.

    Parts: folders above an object that are called train, val or test, or end so, as `cars_train` (`cars_train_val` has
    other views of what is trained on, and counts as train). Classes: the folders above, without that word, when there
    are two or more, ShapeNet's in words. Captions: `captions.jsonl` at the root, one {"model": name, "text": caption} a
    line. One object's views that come in parts (`transforms_test.json`) are told apart by `cameras(index).parts`.

    Poses, the headers of pictures, and points are read when a source is opened, so that a bad object is known before
    training: views without poses, poses that are no rotations, a focal length of 0, pictures of different sizes, files
    that are damaged or cut off, pictures of nothing but background, cameras that are no pinholes, points that are too
    few or outside of the box. Pictures are read when asked for. Where no points come with the views, `cloud` carves a
    coloured visual hull from the silhouettes; they must then have alpha or a white or black background.

    Args:
        path: a folder of objects at any depth, one object's folder, an npz or a json file.
        radius: half the side of the box in the units of the poses; None: `scene.json`, or as the layout says.
        up: the axis of the poses that points up; None: `scene.json`, or as the layout says.
        background: grey on which pictures with alpha are composited, 0 (black) to 1 (white). Others stay as they are.
        on_bad: "skip" leaves bad objects out and lists them in `bad` as (name, reason); "stop" raises at the first.
        memory: bytes of pictures that stay in memory; for points, a quarter as many.
        looked: how many objects are looked at as `posed.check` does: what is found is a warning, or an error
            where nothing could be trained on any of them. 0: none.
        hulls: a folder that keeps the points of hulls; None: they stay in memory alone.
        progress: called with (objects checked, objects in all).

    Raises:
        UserError: nothing is there, raw meshes, no object that can be used, or bad captions.
    """

    def __init__(
        self,
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
    ):
        if on_bad not in ("skip", "stop"):
            raise UserError(f"unknown on_bad {on_bad!r}: allowed are skip, stop")
        if radius is not None and not 0 < radius < math.inf:
            raise UserError(f"radius must be a positive number, not {radius}")
        if up not in (None, "y", "z"):
            raise UserError(f"unknown up {up!r}: allowed are y, z")
        if not 0 <= background <= 1:
            raise UserError(f"background must lie between 0 (black) and 1 (white), not {background}")
        self.root = Path(path)
        self.background = background
        objects = found(self.root)
        self.bad: list[tuple[str, str]] = []
        scenes: dict[str, Scene] = {}
        for name, scene in opened(self.root, objects, progress):
            if isinstance(scene, str):
                self._leave_out(name, scene, on_bad)
            else:
                scenes[name] = scene
        boxes = boxed(list(scenes), list(scenes.values()), radius, up)
        for index, reason in Clouds(boxes, 0, None).bad().items():
            self._leave_out(boxes[index].name, reason, on_bad)
            del scenes[boxes[index].name]
        self.names = list(scenes)
        if not self.names:
            raise UserError(f"no object in {self.root} can be used, the first, {self.bad[0][0]}: {self.bad[0][1]}")
        if self.bad:
            told = "; ".join(reason for _, reason in self.bad[:3])
            log.warning("%s of %s objects are left out: %s", len(self.bad), len(objects), told)
        if remarks := [scene.remark for scene in scenes.values() if scene.remark]:
            log.warning("of %s of %s objects: %s", len(remarks), len(scenes), remarks[0])
        self.counts = [len(scene.views) for scene in scenes.values()]
        said = folders_of(self.names)
        self.parts, self.labels, self.classes, self.groups = said.parts, said.labels, said.classes, said.groups
        self.captions = captions_of(self.root, self.names)
        self._objects = [one for one in boxes if one.name in scenes]
        self._memory = Memory(memory)
        self._clouds = Clouds(self._objects, memory // 4, None if hulls is None else Path(hulls))
        look(self._objects, self._clouds, looked)

    def _leave_out(self, name: str, reason: str, on_bad: str) -> None:
        if on_bad == "stop":
            raise UserError(f'bad object {printable(name)}: {reason}; on_bad="skip" leaves such objects out')
        self.bad.append((printable(name), reason))

    @property
    def radii(self) -> list[float]:
        """Half the side of each object's box, in the units of its poses."""
        return [one.box.radius for one in self._objects]

    def cameras(self, index: int) -> Views:
        """The cameras of object `index`, in the signal's coordinates; OpenGL's axes, camera-to-world."""
        return self._objects[index].views

    def pictures(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Views of object `index` by number, in the order asked for; one may be asked for twice. The array is new.

        Raises:
            IndexError: a number that is negative or beyond the last view.
            UserError: a picture cannot be read any more; it is named.
        """
        for view in which:
            if not 0 <= view < self.counts[index]:
                raise IndexError(f"{self.names[index]} has {self.counts[index]} views, there is no view {view}")
        out = np.empty((len(which), *self._objects[index].scene.views.size, 3), dtype=np.uint8)
        for place, view in enumerate(which):
            out[place] = self._memory.read(index, view, self._composited)
        return out

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """`count` coloured points of object `index`, each at most once unless there are too few.

        Raises:
            UserError: the points are not those of the scene, or there are none and no hull can be carved; the file or
                folder is named.
        """
        points, colours = self._clouds.read(index)
        chosen = some(len(points), count, rng)
        return np.concatenate([points[chosen], colours[chosen] / 127.5 - 1], axis=1).astype(np.float32)

    def _composited(self, index: int, view: int) -> UInt8[np.ndarray, "h w 3"]:
        return composited(self._objects[index].scene.pixels(view), self.background)
