"""The layout of SRN (Sitzmann et al. 2019), a folder an object: `rgb/`, `pose/` and `intrinsics.txt`.

`rgb/000000.png`, `pose/000000.txt` (16 numbers, camera-to-world, axes of OpenCV), `intrinsics.txt` (lines: focal cx cy
0, origin, scale, height width, and 1 where poses are world-to-camera). z points up, and the box is [-0.5, 0.5]^3:
objects have a diagonal of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddmi.base.errors import UserError
from ddmi.base.storage import read_text
from ddmi.data.pictures import EXTENSIONS
from ddmi.domains.nerf.views.facts import Facts
from ddmi.domains.nerf.views.files import Files, beside
from ddmi.domains.nerf.views.pixels import common_size
from ddmi.domains.nerf.views.scene import upright, views_of

RADIUS = 0.5
"""Half the side of the box in the units of the poses, where nothing else is told."""

_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def is_here(folder: Path) -> bool:
    """Whether a folder is an object in this layout, or was meant to be."""
    return (folder / "rgb").is_dir() or (folder / "pose").is_dir()


def read(folder: Path, facts: Facts) -> Files:
    """The object in a folder.

    Raises:
        UserError: something is missing, damaged or does not fit together; the file is named.
    """
    if not (folder / "rgb").is_dir():
        raise UserError(f"{folder / 'rgb'} is missing: there are poses without pictures")
    if not (folder / "pose").is_dir():
        raise UserError(f"{folder / 'pose'} is missing: there are pictures without poses")
    files = sorted(path for path in _shown(folder / "rgb") if path.suffix.lower() in EXTENSIONS)
    texts = {path.stem: path for path in _shown(folder / "pose") if path.suffix == ".txt"}
    if not files:
        raise UserError(f"{folder / 'rgb'} holds no pictures: they end in {', '.join(EXTENSIONS)}")
    if len(files) != len(texts):
        raise UserError(f"{folder}: {len(files)} pictures in rgb, {len(texts)} poses in pose")
    if missing := [path for path in files if path.stem not in texts]:
        raise UserError(f"{folder / 'pose' / missing[0].stem}.txt is missing: {missing[0]} has no pose")
    size = common_size(files)
    given = _intrinsics(folder / "intrinsics.txt", size)
    poses = []
    for file in files:
        path = texts[file.stem]
        numbers = _numbers(path)
        if len(numbers) not in (12, 16):
            raise UserError(f"{path}: a pose has 16 numbers, row by row, not {len(numbers)}")
        pose = upright(path, "the pose", np.array(numbers).reshape(-1, 4))
        poses.append((np.linalg.inv(pose) if given.inverse else pose) @ _OPENCV)
    return Files(
        place=folder,
        views=views_of(np.stack(poses), given.focal, given.centre, size),
        up=facts.up,
        radius=facts.radius or RADIUS,
        centre=facts.centre or given.origin,
        files=files,
        cloud=beside(folder),
    )


def _shown(folder: Path) -> list[Path]:
    """What is in a folder without hidden files, such as the `._000000.png` that macOS leaves in archives."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _numbers(path: Path) -> list[float]:
    try:
        return [float(word) for word in read_text(path).split()]
    except ValueError as error:
        raise UserError(f"{path} holds something that is not a number") from error


@dataclass(frozen=True)
class _Intrinsics:
    focal: float
    centre: tuple[float, float]
    origin: tuple[float, float, float]
    inverse: bool


def _intrinsics(path: Path, size: tuple[int, int]) -> _Intrinsics:
    """What `intrinsics.txt` says, for pictures of this size."""
    lines = [line.split() for line in read_text(path).split("\n") if line.strip()]
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
