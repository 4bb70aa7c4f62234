"""What is where: the objects below a folder, each with the layout that reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddmi.base.errors import UserError
from ddmi.data.catalogues import ARCHIVES
from ddmi.data.meshes import EXTENSIONS as MESHES
from ddmi.data.pictures import NOT_TEXT, is_text, printable
from ddmi.domains.nerf.views import npz, srn, transforms
from ddmi.domains.nerf.views.facts import Facts, told
from ddmi.domains.nerf.views.pixels import Pixels
from ddmi.domains.nerf.views.scene import Scene

Progress = Callable[[int, int], None]
"""Called with (objects checked, objects in all)."""
Reader = Callable[[Path, Facts], Scene]
"""Reads an object at a path, with what `scene.json` says."""

_COUNTING = (
    "an object is a folder with rgb/, pose/ and intrinsics.txt, or with transforms.json, or an npz file with images "
    "and cam_poses"
)
_DEPTH = 5
_OTHERS = ("points.npz", "pointcloud.npz", "near.npz")


def found(root: Path) -> dict[str, tuple[Reader, Path]]:
    """How each object is read, and where it is, by its name, in order.

    Raises:
        UserError: there is nothing at the path, no object below it, or raw meshes.
    """
    if root.is_file():
        if root.suffix.lower() == ".npz":
            return {root.stem: (npz.read, root)}
        if root.suffix.lower() == ".json":
            return {root.resolve().parent.name: (transforms.read, root)}
        raise UserError(f"{root} holds no views: {_COUNTING}")
    if not root.is_dir():
        raise UserError(f"{root} does not exist: {_COUNTING}")
    objects: dict[str, tuple[Reader, Path]] = {}
    for path in _objects(root, ()):
        name = path.relative_to(root).as_posix().removesuffix(".npz")
        reader = npz.read if path.is_file() else srn.read if srn.is_here(path) else transforms.read
        objects[root.resolve().name if name == "." else name] = (reader, path)
    if not objects:
        for path in root.rglob("*"):
            if path.suffix.lower() in MESHES + ARCHIVES:
                raise UserError(f"{root} holds raw meshes ({path.name}, ...): ddmi prepare views {root} DST first")
        raise UserError(f"no views in {root}: {_COUNTING}")
    return dict(sorted(objects.items()))


def _objects(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Objects in a folder; `above` are the real paths of the folders that lead to it, since a link may lead back."""
    real = os.path.realpath(folder)
    if srn.is_here(folder) or transforms.tables(folder):
        yield folder
    elif len(above) < _DEPTH and real not in above:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from _objects(path, (*above, real))
            elif path.suffix.lower() == ".npz" and path.name not in _OTHERS:
                yield path


def opened(
    root: Path,
    objects: dict[str, tuple[Reader, Path]],
    progress: Progress | None,
) -> Iterator[tuple[str, Scene | str]]:
    """The name and the scene of each object in order, or the reason why it cannot be used, whatever that is."""

    def look(name: str) -> Scene | str:
        reader, path = objects[name]
        if not is_text(name):
            return f"{printable(str(path))}: {NOT_TEXT}"
        try:
            scene = reader(path, told(path, root))
            if _plain(scene.pixels(0)) and all(_plain(scene.pixels(view)) for view in range(1, len(scene.views))):
                return f"{scene.place}: its {len(scene.views)} pictures show nothing but background"
            return scene
        except UserError as error:
            return str(error)
        except Exception as error:  # one bad object never stops the others
            return f"{path} cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}"

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "views")
    try:
        for done, (name, scene) in enumerate(zip(objects, pool.map(look, objects), strict=True), 1):
            yield name, scene
            if progress is not None:
                progress(done, len(objects))
    finally:
        pool.shutdown(cancel_futures=True)


def _plain(pixels: Pixels) -> bool:
    return bool((pixels == pixels[0, 0]).all())
