"""Three layouts of posed images: where the objects below a folder are, and how each is read.

- SRN (Sitzmann et al. 2019), a folder an object: `rgb/000000.png`, `pose/000000.txt` (16 numbers, camera-to-world, axes
  of OpenCV), `intrinsics.txt` (lines: focal cx cy 0, origin, scale, height width, and 1 where poses are
  world-to-camera). The box is [-0.5, 0.5]^3: objects have a diagonal of 1.
- npz, a file an object (Zimny et al. 2022, Points2NeRF): `images` (n, h, w, c) uint8, or numbers in [0, 1]; `cam_poses`
  (n, 4, 4), camera-to-world, axes of OpenGL; `data` (m, 6), coloured points; `focal` in pixels, else a field of view of
  0.6911112 rad. The box is [-1.1, 1.1]^3: shapes of diagonal 1, enlarged by 2.2.
- NeRF-synthetic (Mildenhall et al. 2020), a folder an object: `transforms.json`, or `transforms_train.json`, `_val` and
  `_test`, with `frames` of `file_path` and `transform_matrix` (camera-to-world, axes of OpenGL), `camera_angle_x` in
  radians, or `fl_x`, `cx`, `cy`, `w`, `h` in pixels. Cameras are pinholes: any other `camera_model` is refused, and
  lens distortion is not undone. The box is around the point where the optical axes meet, and as large as the ball
  that (nearly) all views show whole.

z points up in all three. In an object's folder or above it may lie `scene.json`: {"radius": half the side of the box,
"up": "y" or "z", "centre": [x, y, z]}, y up by default; beside the views `points.npz`: `points` (n, 3) in the units of
the poses and `colours` (n, 3) uint8.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from ddmi.base.errors import UserError
from ddmi.base.storage import read_arrays, read_json, read_text
from ddmi.data.catalogues import ARCHIVES
from ddmi.data.images import EXTENSIONS
from ddmi.data.meshes import EXTENSIONS as MESHES
from ddmi.data.meshes import Up
from ddmi.domains.nerf.posed import Views, pose_error
from ddmi.domains.nerf.scene import Scene, common_size, npz_images

SRN_RADIUS, NPZ_RADIUS = 0.5, 1.1
"""Half the side of the box in the units of the poses, where nothing else is given."""
NPZ_FIELD = 0.6911112
"""Radians: the horizontal field of view of npz files without `focal`."""

_COUNTING = (
    "an object is a folder with rgb/, pose/ and intrinsics.txt, or with transforms.json, or an npz file with images "
    "and cam_poses"
)
_DEPTH = 5
_OTHERS = ("points.npz", "pointcloud.npz", "near.npz")
_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
"""Camera models of COLMAP and nerfstudio that are a pinhole but for their distortion."""
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def find(root: Path) -> dict[str, Path]:
    """Where each object is, by its name, in order.

    Raises:
        UserError: there is nothing at the path, no object below it, or raw meshes.
    """
    if root.is_file():
        if root.suffix.lower() not in (".npz", ".json"):
            raise UserError(f"{root} holds no views: {_COUNTING}")
        return {root.stem if root.suffix.lower() == ".npz" else root.resolve().parent.name: root}
    if not root.is_dir():
        raise UserError(f"{root} does not exist: {_COUNTING}")
    objects = {}
    for path in _objects(root, ()):
        name = path.relative_to(root).as_posix().removesuffix(".npz")
        objects[root.resolve().name if name == "." else name] = path
    if not objects:
        for path in root.rglob("*"):
            if path.suffix.lower() in MESHES + ARCHIVES:
                raise UserError(f"{root} holds raw meshes ({path.name}, ...): ddmi prepare views {root} DST first")
        raise UserError(f"no views in {root}: {_COUNTING}")
    return dict(sorted(objects.items()))


def _objects(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Objects in a folder; `above` are the real paths of the folders that lead to it, since a link may lead back."""
    real = os.path.realpath(folder)
    if _is_srn(folder) or _tables(folder):
        yield folder
    elif len(above) < _DEPTH and real not in above:
        for path in sorted(_visible(folder)):
            if path.is_dir():
                yield from _objects(path, (*above, real))
            elif path.suffix.lower() == ".npz" and path.name not in _OTHERS:
                yield path


def _visible(folder: Path) -> list[Path]:
    """What is in a folder without hidden files, such as the `._000000.png` that macOS leaves in archives."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def read(path: Path, root: Path) -> Scene:
    """The object at a path of `find(root)`.

    Raises:
        UserError: something is missing, damaged or does not fit together; the file is named.
    """
    box = _box_file(path, root)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _read_npz(path, box)
    return _read_srn(path, box) if _is_srn(path) else _read_transforms(path, box)


# what `scene.json` says -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    """In the units of the poses; None: as the layout says."""

    top: Path
    """The folder of data: no file outside of it is read."""
    radius: float | None = None
    up: Up = "z"
    centre: tuple[float, float, float] | None = None


def _box_file(path: Path, root: Path) -> _Box:
    """What the nearest `scene.json` at an object or above it says, up to the root of the set."""
    folder, top = (place if place.is_dir() else place.parent for place in (path, root))
    places = [place / "scene.json" for place in (folder, *folder.parents) if place.is_relative_to(top)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return _Box(top)
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f'{file}: needs {{"radius": ...}}')
    radius, up, centre = content.get("radius"), content.get("up", "y"), content.get("centre")
    if radius is not None and not (_is_number(radius) and radius > 0):
        raise UserError(f"{file}: `radius` must be a positive number, not {radius!r}")
    if up not in ("y", "z"):
        raise UserError(f"{file}: `up` must be y or z, not {up!r}")
    if centre is not None and not (isinstance(centre, list) and len(centre) == 3 and all(map(_is_number, centre))):
        raise UserError(f"{file}: `centre` must be three numbers, not {centre!r}")
    x, y, z = map(float, centre or (0, 0, 0))
    return _Box(top, None if radius is None else float(radius), up, None if centre is None else (x, y, z))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _points_file(folder: Path) -> Path | None:
    return folder / "points.npz" if (folder / "points.npz").is_file() else None


def _views(poses: list[np.ndarray], focal: Any, centre: Any, size: tuple[int, int]) -> Views:
    """Cameras whose focal length and principal point (x, y), in pixels, are one for all or one for each."""
    count = len(poses)
    return Views(
        poses=np.stack(poses),
        focal=np.broadcast_to(np.asarray(focal, dtype=np.float64), (count,)).copy(),
        centre=np.broadcast_to(np.asarray(centre, dtype=np.float64), (count, 2)).copy(),
        size=size,
    )


def _pose(where: str, rows: np.ndarray) -> Float64[np.ndarray, "4 4"]:
    """A pose given by 3 or 4 rows of 4 numbers, as 4 x 4; its rotation, which may be rounded, is made exact."""
    pose = np.concatenate([rows, [[0, 0, 0, 1]]]) if len(rows) == 3 else rows
    if error := pose_error(pose):
        raise UserError(f"{where} {error}")
    left, _, right = np.linalg.svd(pose[:3, :3])
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = left @ right, pose[:3, 3]
    return exact


# SRN ------------------------------------------------------------------------------------------------------------------


def _is_srn(folder: Path) -> bool:
    """Whether a folder is an object in this layout, or was meant to be."""
    return (folder / "rgb").is_dir() or (folder / "pose").is_dir()


def _read_srn(folder: Path, box: _Box) -> Scene:
    if not (folder / "rgb").is_dir():
        raise UserError(f"{folder / 'rgb'} is missing: there are poses without images")
    if not (folder / "pose").is_dir():
        raise UserError(f"{folder / 'pose'} is missing: there are images without poses")
    files = sorted(path for path in _visible(folder / "rgb") if path.suffix.lower() in EXTENSIONS)
    texts = {path.stem: path for path in _visible(folder / "pose") if path.suffix == ".txt"}
    if not files:
        raise UserError(f"{folder / 'rgb'} holds no images: they end in {', '.join(EXTENSIONS)}")
    if len(files) != len(texts):
        raise UserError(f"{folder}: {len(files)} images in rgb, {len(texts)} poses in pose")
    if missing := [path for path in files if path.stem not in texts]:
        raise UserError(f"{folder / 'pose' / missing[0].stem}.txt is missing: {missing[0]} has no pose")
    size = common_size(files)
    lens = _intrinsics(folder / "intrinsics.txt", size)
    poses = []
    for file in files:
        path = texts[file.stem]
        words = read_text(path).split()
        try:
            numbers = [float(word) for word in words]
        except ValueError as error:
            raise UserError(f"{path} holds something that is not a number") from error
        if len(numbers) not in (12, 16):
            raise UserError(f"{path}: a pose has 16 numbers, row by row, not {len(numbers)}")
        pose = _pose(f"{path}: the pose", np.array(numbers).reshape(-1, 4))
        poses.append((np.linalg.inv(pose) if lens.inverse else pose) @ _OPENCV)
    return Scene(
        place=folder,
        views=_views(poses, lens.focal, lens.centre, size),
        up=box.up,
        radius=box.radius or SRN_RADIUS,
        centre=box.centre or lens.origin,
        files=files,
        cloud=_points_file(folder),
    )


class _Intrinsics(NamedTuple):
    focal: float
    centre: tuple[float, float]
    origin: tuple[float, float, float]
    inverse: bool


def _intrinsics(path: Path, size: tuple[int, int]) -> _Intrinsics:
    """What `intrinsics.txt` says, for images of this size."""
    text = read_text(path)
    try:
        rows = [[float(word) for word in line.split()] for line in text.split("\n") if line.strip()]
        (focal, x, y), origin = rows[0][:3], (rows[1][0], rows[1][1], rows[1][2])
        height, width = rows[3]
        inverse = len(rows) > 4 and bool(rows[4][0])
    except (ValueError, IndexError) as error:
        wanted = "focal cx cy 0 / three numbers of the origin / scale / height width"
        raise UserError(f"{path} must have the lines {wanted}") from error
    if not np.isfinite([focal, x, y, *origin, height, width]).all():
        raise UserError(f"{path} has values that are not finite numbers")
    if focal <= 0 or height <= 0 or width <= 0:
        given = f"{focal:g}, {height:g} x {width:g}"
        raise UserError(f"{path}: the focal length and the size must be positive, not {given}")
    scale = size[1] / width
    if abs(size[0] / height / scale - 1) > 0.01:
        raise UserError(f"{path} is for images of {width:g}x{height:g} pixels, they have {size[1]}x{size[0]}")
    return _Intrinsics(focal * scale, (x * scale, y * scale), origin, inverse)


# npz ------------------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, box: _Box) -> Scene:
    count, height, width, _ = npz_images(path).shape
    found = read_arrays(path, "cam_poses", optional=("focal", "data"))
    poses = found["cam_poses"]
    if poses.shape != (count, 4, 4) or poses.dtype.kind != "f":
        raise UserError(f"{path}: {count} `images` go with `cam_poses` ({count}, 4, 4), not {poses.shape}")
    focal: Any = width / 2 / math.tan(NPZ_FIELD / 2)
    if "focal" in found:
        focal = found["focal"].squeeze()
        if focal.shape not in ((), (count,)) or not np.isfinite(focal).all() or (focal <= 0).any():
            raise UserError(f"{path}: `focal` must be one positive number of pixels, or one a view")
    exact = [_pose(f"{path}: pose {number}", pose) for number, pose in enumerate(poses.astype(np.float64))]
    return Scene(
        place=path,
        views=_views(exact, focal, (width / 2, height / 2), (height, width)),
        up=box.up,
        radius=box.radius or NPZ_RADIUS,
        centre=box.centre or (0.0, 0.0, 0.0),
        cloud=path if "data" in found else None,
    )


# NeRF-synthetic -------------------------------------------------------------------------------------------------------


def _tables(folder: Path) -> list[Path]:
    """The files of transforms in a folder: one for all views, or one a part; [] where the layout is another."""
    if (folder / "transforms.json").is_file():
        return [folder / "transforms.json"]
    files = [folder / f"transforms_{part}.json" for part in ("train", "val", "test")]
    return [path for path in files if path.is_file()]


def _read_transforms(path: Path, box: _Box) -> Scene:
    """The object in a folder, or the views of it that one file lists."""
    tables, folder = ([path], path.parent) if path.is_file() else (_tables(path), path)
    files, poses, lenses = [], [], []
    for table in tables:
        content = read_json(table)
        frames = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(frames, list) or not frames:
            raise UserError(f"{table} needs `frames`, a list that is not empty")
        for number, frame in enumerate(frames):
            where = f"{table}, frame {number}"
            try:
                named = frame["file_path"]
                named = folder / (named if (folder / named).is_file() else named.replace("\\", "/"))  # of Windows
                pose = np.array(frame["transform_matrix"], dtype=np.float64)
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                raise UserError(f"{where}: needs `file_path` and `transform_matrix`") from error
            if not Path(os.path.abspath(named)).is_relative_to(os.path.abspath(box.top)):
                raise UserError(f"{where}: {named} lies outside of the folder of data and is not read")
            if pose.shape not in ((3, 4), (4, 4)):
                raise UserError(f"{where}: `transform_matrix` must be 4 x 4, not {pose.shape}")
            files.append(_image_file(table, named))
            poses.append(_pose(f"{table}: frame {number}", pose))
            lenses.append((where, content | frame))
    size = common_size(files)
    focal, centres = zip(*(_lens(where, given, size) for where, given in lenses), strict=True)
    return Scene(
        place=folder,
        views=_views(poses, focal, centres, size),
        up=box.up,
        radius=box.radius,
        centre=box.centre,
        files=files,
        cloud=_points_file(folder),
        remark=next(filter(None, (_distortion(where, given) for where, given in lenses)), ""),
    )


def _image_file(table: Path, named: Path) -> Path:
    """The file of a frame, whose ending may be left out."""
    paths = [named.with_name(named.name + ending) for ending in EXTENSIONS]
    for path in [named, *paths] if named.suffix.lower() in EXTENSIONS else paths:
        if path.is_file():
            return path
    raise UserError(f"{table}: there is no image {named}")


def _distortion(where: str, given: dict[str, Any]) -> str:
    """What to say of lens distortion; "" where there is none."""
    found = [f"{key} = {given[key]:g}" for key in _COEFFICIENTS if _is_number(given.get(key)) and given[key] != 0]
    return f"{where}: lens distortion ({', '.join(found)}) is not undone; undistort the images first" if found else ""


def _lens(where: str, given: dict[str, Any], size: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """Focal length and principal point in pixels of an image of this size."""
    height, width = size
    model = "OPENCV_FISHEYE" if given.get("is_fisheye") else given.get("camera_model", "PINHOLE")
    if str(model).upper() not in _PINHOLES:
        raise UserError(f"{where}: {model} is no pinhole camera; allowed are {', '.join(_PINHOLES)}")
    keys = ("camera_angle_x", "fl_x", "fl_y", "cx", "cy", "w", "h")
    if wrong := [key for key in keys if key in given and not _is_number(given[key])]:
        raise UserError(f"{where}: `{wrong[0]}` must be a number, not {given[wrong[0]]!r}")
    given_width = given.get("w", width)
    if given_width <= 0:
        raise UserError(f"{where}: `w` must be positive, not {given_width}")
    scale = width / given_width
    if "fl_x" in given:
        x, y = given["fl_x"], given.get("fl_y", given["fl_x"])
        if abs(y - x) > 0.01 * abs(x):
            raise UserError(f"{where}: pixels must be square, `fl_x` is {x:g} and `fl_y` {y:g}")
        focal = x * scale
    elif "camera_angle_x" in given:
        angle = given["camera_angle_x"]
        if not 0 < angle < math.pi:
            raise UserError(f"{where}: `camera_angle_x` is in radians, between 0 and pi, not {angle:g}")
        focal = width / 2 / math.tan(angle / 2)
    else:
        raise UserError(f"{where}: needs `camera_angle_x` or `fl_x`")
    if focal <= 0:
        raise UserError(f"{where}: the focal length must be positive, not {focal:g}")
    return focal, (given.get("cx", given_width / 2) * scale, given.get("cy", height / scale / 2) * scale)
