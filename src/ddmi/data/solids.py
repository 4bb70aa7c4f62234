"""What a mesh encloses: which points are inside, and the points of its boundary.

Meshes of users are seldom watertight: parts run into one another, faces lie hidden inside, sheets have no thickness.
The generalised winding number is defined for all of them (Jacobson et al. 2013, Robust inside-outside segmentation
using generalized winding numbers; fast evaluation: Barill et al. 2018, Fast winding numbers for soups and clouds).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ddmi.base.errors import missing_extra
from ddmi.data.meshes import Rejected

if TYPE_CHECKING:
    import trimesh

STEP = 5e-4
"""Distance on either side of a face at which the inside is evaluated, in a frame of [-1, 1]; thinner is a sheet."""
MOST_SHEETS = 0.3
"""Of the surface that can be seen: sheets without thickness enclose nothing, and would be missing from the shape."""
FIRST_LOOK = 4000
"""Points of the surface that decide whether the rest is worth the time."""


def winding(mesh: trimesh.Trimesh, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """How often a mesh winds around each point: 1 inside a closed surface, 0 outside, -1 in one turned inside out."""
    os.environ.setdefault("IGL_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))  # read at its first call
    try:
        import igl
    except ImportError as error:
        raise missing_extra("libigl", "mesh") from error

    vertices = np.ascontiguousarray(mesh.vertices, np.float64)
    faces = np.ascontiguousarray(mesh.faces, np.int64)
    return np.asarray(igl.fast_winding_number(vertices, faces, np.ascontiguousarray(points, np.float64)))


def enclosed(winding_numbers: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether points of these winding numbers are inside; surfaces turned inside out enclose as others do."""
    return np.abs(winding_numbers) > 0.5


def ambiguous(winding_numbers: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether it is open on which side points of these winding numbers are: the surface has holes."""
    size = np.abs(winding_numbers)
    return (size > 0.2) & (size < 0.8)


def boundary(
    mesh: trimesh.Trimesh, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """`count` points where inside and outside meet, uniform by area, and unit normals there, outwards; float32.

    Of all points of the faces these are the ones with the inside on one side alone.

    Raises:
        Rejected: more than `MOST_SHEETS` of what can be seen are sheets, or hardly any of the surface is a boundary.
    """
    from trimesh.sample import sample_surface

    normals_of = np.asarray(mesh.face_normals)
    points, normals = [], []
    sampled = hidden = sheets = found = 0
    while found < count:
        ask = int((count - found) / (found / sampled) * 1.05) + 64 if sampled else FIRST_LOOK
        at, face = sample_surface(mesh, ask, seed=rng)
        order = np.argsort(face, kind="stable")  # neighbours after one another: a third faster to evaluate
        at, normal = np.asarray(at)[order], normals_of[face[order]]
        before, behind = (enclosed(winding(mesh, at + step * normal)) for step in (STEP, -STEP))
        meets = before != behind
        points.append(at[meets])
        normals.append(np.where(before[meets, None], -normal[meets], normal[meets]))
        sampled, found = sampled + ask, found + int(meets.sum())
        hidden, sheets = hidden + int((before & behind).sum()), sheets + int((~before & ~behind).sum())
        if sheets > MOST_SHEETS * (sampled - hidden):
            raise Rejected(f"{sheets / (sampled - hidden):.0%} of its surface are sheets without thickness")
        if found < 0.05 * sampled:
            raise Rejected(f"only {found / sampled:.1%} of its surface separate inside from outside")
    chosen = rng.permutation(found)[:count]
    at, normal = np.concatenate(points)[chosen], np.concatenate(normals)[chosen]
    return at.astype(np.float32), normal.astype(np.float32)


def near(points: Float[np.ndarray, "n 3"], count: int, rng: np.random.Generator) -> Float[np.ndarray, "m 3"]:
    """`count` points of [-1, 1]^3 close to those of a surface: Gaussian noise of 0.02 for a half, of 0.08 for the rest.

    What would leave the cube is folded back at its wall.
    """
    chosen = points[rng.integers(len(points), size=count)].astype(np.float64)
    scale = np.where(np.arange(count) % 2 == 0, 0.02, 0.08)[:, None]
    moved = chosen + scale * rng.standard_normal((count, 3))
    return np.abs((moved + 3) % 4 - 2) - 1
