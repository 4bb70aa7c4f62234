"""Views of meshes: of users' meshes, rendered once into the layout of SRN, and of procedural furniture.

A prepared object is a folder with `rgb/000000.png` (RGBA), `pose/000000.txt` (OpenCV camera to world, row by row) and
`intrinsics.txt` as Sitzmann et al. 2019 released theirs, and of our own `points.npz` (`points` and 8-bit `colours` of
the surface) and `scene.json` ({"radius": 1.0}: half the side of the cube around the origin that the object lies in).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from ddmi.base.errors import MissingPackage, UserError
from ddmi.base.progress import working
from ddmi.base.randomness import derive
from ddmi.base.storage import aside, write_json
from ddmi.data import furniture
from ddmi.data.kept import Kept, key
from ddmi.data.memory import Memory
from ddmi.data.meshes import Model, Up, check_up, joined, load, normalised, placement
from ddmi.data.preparation import Progress, Summary, carry_out
from ddmi.domains.nerf.posed import Views
from ddmi.rendering.cameras import VIEW_FOV, VIEW_RADIUS, Camera, sphere, to_opencv
from ddmi.rendering.shader import TracedMesh, lit, render_view, spacing

if TYPE_CHECKING:
    import trimesh

ELEVATION = (-10.0, 80.0)
"""Degrees, of the lowest and of the highest camera."""
FURNITURE_RADIUS = 1.4
"""Of the ball that cameras just see; of some large tables it cuts off the corners in a few views."""
CLOUD, SCENE, INTRINSICS = "points.npz", "scene.json", "intrinsics.txt"

LOOK = 1
"""Goes up when the same piece of furniture looks different: what was rendered before is then not used."""


# objects of users -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the content of the files."""

    views: int
    size: int  # pixels, height and width
    points: int
    elevation: tuple[float, float] = ELEVATION
    up: Up
    seed: int
    fov: float = VIEW_FOV
    radius: float = VIEW_RADIUS


def prepare_views(
    sources: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    views: int = 50,
    size: int = 128,
    points: int = 30_000,
    up: Up = "y",
    processes: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """Render all meshes at one or several paths; models that the target has, or has rejected, are passed over.

    The files of an object depend on the mesh, the settings and the model's name, never on what else there is or on when
    the work was interrupted; a folder that is there is whole. Besides the objects there are the tables that
    `ddmi.data.preparation.prepare` writes: captions, credits, licences, rejections and settings.

    Args:
        sources: see `ddmi.data.meshes.find`.
        views: of each object, from cameras of `ddmi.rendering.cameras.sphere`.
        size: pixels, height and width.
        points: of the surface of each object, with colours.
        up: the axis that points up in the meshes.
        processes: how many work at once; with 1 this one does.
        progress: called with (models done, models in all).

    Raises:
        UserError: no mesh, a bad archive, bad settings, or a target that was prepared with others.
        WorkError: a process died, or the disk is full; what is done stays.
    """
    if min(views, size) < 1 or points < 100:
        raise UserError(f"views and size are at least 1 and points at least 100, not {views}, {size} and {points}")
    check_up(up)
    settings = Settings(views=views, size=size, points=points, up=up, seed=seed)
    one = partial(render_one, settings=settings)
    files = (SCENE,)  # folders are put in place as a whole
    target = Path(target)
    return carry_out(sources, target, asdict(settings), one, files, processes=processes, progress=progress)


def render_one(model: Model, target: Path, settings: Settings) -> str | None:
    """Render one model into `target / model.name`, put in place as a whole.

    Returns:
        The reason why it is rejected, None when it is done.
    """
    from PIL import Image

    cameras = sphere(
        settings.views,
        size=settings.size,
        elevation=settings.elevation,
        fov=settings.fov,
        radius=settings.radius,
        seed=derive(settings.seed, "cameras", model.name),
    )
    try:
        scene = upright(load(model, coloured=True), model.rotation, settings.up)
        mesh = TracedMesh(scene, detail=spacing(cameras[0]))
        rng = np.random.default_rng(derive(settings.seed, "cloud", model.name))
        points, colours = mesh.cloud(settings.points, rng)
    except MissingPackage:
        raise
    except UserError as error:
        return str(error).removeprefix(model.place).lstrip(": ")
    own = ("rgb/*.png", "pose/*.txt", INTRINSICS, CLOUD, SCENE)
    with aside(target / model.name, own) as folder:
        for name in ("rgb", "pose"):
            (folder / name).mkdir(parents=True)
        for number, camera in enumerate(cameras):
            Image.fromarray(render_view(mesh, camera).rgba()).save(folder / "rgb" / f"{number:06d}.png")
            numbers = " ".join(f"{value + 0.0:.9g}" for value in to_opencv(camera.pose).flatten().tolist())
            (folder / "pose" / f"{number:06d}.txt").write_text(f"{numbers}\n")
        (x, y), (height, width) = cameras[0].middle, cameras[0].size
        lines = (f"{cameras[0].focal:.9g} {x:.9g} {y:.9g} 0.", "0. 0. 0.", "1.", f"{height} {width}")
        (folder / INTRINSICS).write_text("".join(f"{line}\n" for line in lines))
        np.savez(folder / CLOUD, allow_pickle=False, points=points.astype(np.float16), colours=colours)
        write_json({"radius": 1.0}, folder / SCENE)
    return None


def upright(scene: trimesh.Scene, rotation: tuple[float, ...] | None = None, up: Up = "y") -> trimesh.Scene:
    """A scene put into our frame, as `ddmi.data.meshes.normalised` puts a mesh: the one box around all, y up.

    Args:
        rotation: 9 numbers, row by row: turns it upright first.

    Raises:
        Rejected: for the reasons that `normalised` has.
    """
    whole = joined(scene, rotation)
    normalised(whole, up)
    matrix = np.eye(4)
    if rotation is not None:
        matrix[:3, :3] = np.reshape(rotation, (3, 3))
    turned = scene.copy()
    turned.apply_transform(placement(whole, up) @ matrix)
    return turned


# furniture ------------------------------------------------------------------------------------------------------------


class FurnitureViews:
    """Views of procedural furniture, a source of views: rendered when they are asked for, and kept.

    A view of piece k depends on the seed, k and the views' number and size, not on how many pieces there are. With a
    cache folder all views of a piece are rendered at once and written there, to be found again by another source.

    Args:
        pieces: how many, as for `ddmi.data.furniture.Furniture`.
        views: of each piece.
        size: pixels, height and width.
        seed: another seed, other pieces and other cameras.
        cache: a folder for what was rendered.
        memory: bytes of images that are kept; of what is beyond, each is rendered (or read) again.

    Raises:
        UserError: a number is not positive.
    """

    def __init__(
        self,
        pieces: int = 6000,
        views: int = 24,
        size: int = 64,
        seed: int = 0,
        *,
        cache: str | Path | None = None,
        memory: int = 1_500_000_000,
    ):
        self.furniture = furniture.Furniture(pieces, seed)
        self.views, self.size, self.seed = views, size, seed
        self.names, self.groups, self.parts = self.furniture.names, self.furniture.groups, self.furniture.parts
        self.captions, self.labels = self.furniture.captions, self.furniture.labels
        self.classes = self.furniture.classes
        self.bad: list[tuple[str, str]] = []
        self.counts = [views] * pieces
        sphere(views, size=size)  # raises where that is impossible
        self._cache = Kept(None if cache is None else Path(cache))
        self._memory = Memory[UInt8[np.ndarray, "h w 3"]](memory)
        self._cameras: dict[int, Views] = {}

    def cameras(self, index: int) -> Views:
        """Where the views of a piece are rendered from."""
        if index not in self._cameras:
            seed = derive(self.seed, "cameras", self.names[index])
            cameras = sphere(self.views, size=self.size, radius=FURNITURE_RADIUS, seed=seed)
            self._cameras[index] = Views(
                poses=torch.stack([camera.pose for camera in cameras]).numpy(),
                focal=np.array([camera.focal for camera in cameras]),
                centre=np.array([camera.middle for camera in cameras]),
                size=cameras[0].size,
            )
        return self._cameras[index]

    def images(self, index: int, which: Sequence[int]) -> UInt8[np.ndarray, "k h w 3"]:
        """Some of the views of a piece, on white, in the order asked for; the array is new.

        Raises:
            IndexError: a number that is negative or beyond the last view.
        """
        if not all(0 <= view < self.views for view in which):
            raise IndexError(f"{self.names[index]} has {self.views} views, not all of {list(which)} are there")
        found = {view: self._memory.get((index, view)) for view in which}
        if missing := [view for view, image in found.items() if image is None]:
            made = self._made(index, missing)
            for view, image in made.items():
                self._memory.keep((index, view), image)
            found |= made
        return np.array([found[view] for view in which], np.uint8).reshape(-1, self.size, self.size, 3)

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 6"]:
        """Points of the surface, x y z in [-1, 1], and their colours in the light, red green blue in [-1, 1]."""
        points, normals = self.furniture.surface(index, count, rng)
        colours = lit(self.furniture.colours(index, points), normals)
        return np.concatenate([points, 2 * colours - 1], axis=1)

    def _made(self, index: int, which: Sequence[int]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """Views of a piece: those asked for, or all where there is a cache."""
        if self._cache.folder is None:
            return self._rendered(index, which)
        made_of = (furniture.VERSION, LOOK, self.seed, index, self.views, self.size, ELEVATION, FURNITURE_RADIUS)
        name, shape = key("furniture", *made_of), (self.views, self.size, self.size, 3)
        images = (self._cache.read(name) or {}).get("pictures")
        if images is None or images.shape != shape:
            with working("rendering furniture", self.names[index]):
                images = np.stack(list(self._rendered(index, range(self.views)).values()))
            self._cache.write(name, pictures=images)
        return dict(enumerate(images))

    def _rendered(self, index: int, which: Sequence[int]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        views, mesh = self.cameras(index), TracedMesh(self.furniture.mesh(index))
        cameras = {k: Camera(torch.from_numpy(views.poses[k]), float(views.focal[k]), views.size) for k in which}
        return {view: render_view(mesh, camera).colour for view, camera in cameras.items()}
