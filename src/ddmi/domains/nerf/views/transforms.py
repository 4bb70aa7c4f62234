"""The layout of NeRF-synthetic (Mildenhall et al. 2020): `transforms.json`, or one for each of train, val and test.

`transforms.json`, or `transforms_train.json`, `_val`, `_test`, all views of one object: `frames` of `file_path` and
`transform_matrix` (camera-to-world, axes of OpenGL), `camera_angle_x` in radians, or `fl_x`, `cx`, `cy`, `w`, `h` in
pixels. Cameras are pinholes: any other `camera_model` is refused, and lens distortion is not undone. z points up; the
box is around the point where the optical axes meet, and as large as the ball that (nearly) all views show whole.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddmi.base.errors import UserError
from ddmi.base.storage import read_json
from ddmi.data.pictures import EXTENSIONS
from ddmi.domains.nerf.views.contents import is_number
from ddmi.domains.nerf.views.facts import Facts
from ddmi.domains.nerf.views.files import Files, beside
from ddmi.domains.nerf.views.pixels import common_size
from ddmi.domains.nerf.views.scene import upright, views_of


def tables(folder: Path) -> list[tuple[str | None, Path]]:
    """The files of transforms in a folder, each with the part that it is; [] where the layout is another."""
    if (folder / "transforms.json").is_file():
        return [(None, folder / "transforms.json")]
    files = [(part, folder / f"transforms_{part}.json") for part in ("train", "val", "test")]
    return [(part, path) for part, path in files if path.is_file()]


def read(path: Path, facts: Facts) -> Files:
    """The object in a folder, or the views of it that one file lists.

    Raises:
        UserError: something is missing, damaged or does not fit together; the file and the frame are named.
    """
    found = [(None, path)] if path.is_file() else tables(path)
    folder = path.parent if path.is_file() else path
    files: list[Path] = []
    parts: list[str] = []
    poses, lenses = [], []
    for part, table in found:
        content = read_json(table)
        frames = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(frames, list) or not frames:
            raise UserError(f"{table} needs `frames`, a list that is not empty")
        for number, frame in enumerate(frames):
            where = f"frame {number}"
            try:
                named = frame["file_path"]
                named = folder / (named if (folder / named).is_file() else named.replace("\\", "/"))  # of Windows
                pose = np.array(frame["transform_matrix"], dtype=np.float64)
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                raise UserError(f"{table}, {where}: needs `file_path` and `transform_matrix`") from error
            if not Path(os.path.abspath(named)).is_relative_to(os.path.abspath(facts.top or folder)):
                raise UserError(f"{table}, {where}: {named} lies outside of the folder of data and is not read")
            files.append(_picture(table, named))
            if pose.shape not in ((3, 4), (4, 4)):
                raise UserError(f"{table}, {where}: `transform_matrix` must be 4 x 4, not {pose.shape}")
            poses.append(upright(table, where, pose))
            lenses.append((f"{table}, {where}", content | frame))
            parts += [part] if part else []
    size = common_size(files)
    seen = [_lens(place, given, size) for place, given in lenses]
    views = views_of(np.stack(poses), [focal for focal, _ in seen], [centre for _, centre in seen], size)
    return Files(
        place=folder,
        views=replace(views, parts=tuple(parts) if parts else None),
        up=facts.up,
        radius=facts.radius,
        centre=facts.centre,
        files=files,
        cloud=beside(folder),
        remark=next(filter(None, (_distortion(place, given) for place, given in lenses)), ""),
    )


def _picture(table: Path, named: Path) -> Path:
    """The file of a frame, whose ending may be left out."""
    if named.suffix.lower() in EXTENSIONS and named.is_file():
        return named
    for ending in EXTENSIONS:
        if (path := named.with_name(named.name + ending)).is_file():
            return path
    raise UserError(f"{table}: there is no picture {named}")


_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
"""Camera models of COLMAP and nerfstudio that are a pinhole but for their distortion."""
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def _distortion(place: str, given: dict[str, Any]) -> str:
    """What to say of lens distortion; "" where there is none."""
    found = [f"{key} = {given[key]:g}" for key in _COEFFICIENTS if is_number(given.get(key)) and given[key] != 0]
    return f"{place}: lens distortion ({', '.join(found)}) is not undone; undistort the images first" if found else ""


def _lens(place: str, given: dict[str, Any], size: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """Focal length and principal point in pixels of a picture of this size."""
    height, width = size
    model = "OPENCV_FISHEYE" if given.get("is_fisheye") else given.get("camera_model", "PINHOLE")
    if str(model).upper() not in _PINHOLES:
        raise UserError(f"{place}: {model} is no pinhole camera; allowed are {', '.join(_PINHOLES)}")
    keys = ("camera_angle_x", "fl_x", "fl_y", "cx", "cy", "w", "h")
    if wrong := [key for key in keys if key in given and not is_number(given[key])]:
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
