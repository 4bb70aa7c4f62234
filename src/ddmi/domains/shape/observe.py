"""Partial scans and cross-sections as observations: points of the surface, of the inside, and of empty space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import read_arrays
from ddmi.model.observed import Observations

NOISE = 1e-4
"""Small: the slope of the likelihood vanishes where the field is surely wrong and noise can explain it."""
MOST = 4096
"""Points that count; of more, a random part."""
AHEAD = (0.15, 0.3, 0.5, 0.7, 0.85)
"""Where on the way from a point of the surface to the scanner space is known to be empty, beyond the margin."""


def observations(path: str | Path, eye: tuple[float, ...] | None, margin: float) -> Observations:
    """What a file tells of a shape in the cube [-1, 1]^3.

    Args:
        path: .npz with `points` (n, 3) and `occupancies` (n,), e.g. of cross-sections; or points of the surface:
            `points` of an .npz, or a point cloud or mesh (.ply, .obj, .off, .stl), with normals where it has some.
        eye: where the scanner stood: what lies between it and the points is empty. None: nothing is known of that.
        margin: from the surface to the nearest points that are inside or outside.
    """
    points, normals, inside = _read(Path(path))
    if not len(points):
        raise UserError(f"--points {path} holds no points")
    if inside is not None:
        if eye is not None:
            raise UserError("--eye goes with points of a surface, and these have occupancies")
        return Observations(points, inside[:, None], NOISE).thinned(MOST)
    outside = int((points.abs() > 1).any(1).sum())
    if outside:
        raise UserError(f"--points {path}: {outside} of {len(points)} points lie outside of the cube [-1, 1]")
    if normals is None:
        at, values = [points], [torch.full((len(points), 1), 0.5)]
    else:
        at = [points - margin * normals, points + margin * normals]
        values = [torch.ones(len(points), 1), torch.zeros(len(points), 1)]
    if eye is not None:
        way = torch.tensor(eye) - points
        length = way.norm(dim=1, keepdim=True).clamp(min=1e-6)
        for share in AHEAD:
            at.append(points + way * ((2 * margin + share * (length - 2 * margin).clamp(min=0, max=2)) / length))
            values.append(torch.zeros(len(points), 1))
    place, known = torch.cat(at), torch.cat(values)
    within = (place.abs() <= 1).all(1)
    return Observations(place[within], known[within], NOISE).thinned(MOST)


def _read(path: Path) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None, Float[Tensor, "n"] | None]:
    """Points, and their normals or occupancies where the file has some."""
    if not path.exists():
        raise UserError(f"--points {path} does not exist")
    normals: np.ndarray | None = None
    inside: np.ndarray | None = None
    if path.suffix == ".npz":
        arrays = read_arrays(path, "points", optional=("normals", "occupancies"))
        points, normals, inside = arrays["points"], arrays.get("normals"), arrays.get("occupancies")
        if inside is not None and inside.dtype == np.uint8 and len(inside) * 8 >= len(points) > len(inside):
            inside = np.unpackbits(inside)[: len(points)]  # Occupancy Networks pack them
    else:
        try:
            import trimesh
        except ImportError as error:
            raise missing_extra("trimesh", "mesh") from error
        try:
            read: Any = trimesh.load(path, process=False)
            read = read.to_geometry() if isinstance(read, trimesh.Scene) else read
            points = np.asarray(read.vertices)
            stored = read.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
            cloud = not isinstance(read, trimesh.Trimesh)
            normals = None if cloud else read.vertex_normals
            if cloud and stored is not None and {"nx", "ny", "nz"} <= set(stored.dtype.names or ()):
                normals = np.stack([stored[name] for name in ("nx", "ny", "nz")], axis=-1).reshape(-1, 3)
        except Exception as error:  # readers raise nearly every kind of error on a broken file
            raise UserError(f"--points {path} is no point cloud and no mesh") from error
    for name, given in (("points", points), ("normals", normals)):
        if given is not None and (given.ndim != 2 or given.shape != (len(points), 3)):
            raise UserError(f"--points {path}: `{name}` must be (n, 3), not {given.shape}")
    if inside is not None and inside.shape != (len(points),):
        raise UserError(f"--points {path}: `occupancies` must be one for each of {len(points)} points")
    known = None if inside is None else torch.from_numpy(np.array(inside, np.float32))
    if normals is None:
        return torch.from_numpy(np.array(points, np.float32)), None, known
    outwards = torch.nn.functional.normalize(torch.from_numpy(np.array(normals, np.float32)), dim=1)
    return torch.from_numpy(np.array(points, np.float32)), outwards, known
