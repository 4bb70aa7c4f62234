"""What cameras see of a field or of a mesh, and how two such images compare."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.domains.base import FieldLike
from ddmi.rendering.cameras import Camera
from ddmi.rendering.volume import Occupancy, Quadrature, render_field

if TYPE_CHECKING:
    from ddmi.rendering.shader import TracedMesh

RAYS = (48, 24)
"""Samples along a ray: evenly spread ones, and those where these found something."""
GRID = 32
"""Cells along each axis of the grid that tells where a field is empty: that of `render` costs more than an image."""
SPLAT = 1
"""A point of a cloud covers its pixel and as many more on each side."""
SOLID = 0.9
"""Opacity from which a pixel shows one point; and below 1 - SOLID it is empty."""
NEAR = 0.05
"""Two cameras see the same point where their distances to it differ by less: 2.5 % of the cube's side."""
SIDE = 2.0
"""Of the cube: the unit of depth errors."""


@dataclass(frozen=True, eq=False)
class CameraImage:
    """8-bit colours, opacity, and distance along the ray (0 where there is nothing), of a camera's size."""

    camera: Camera
    colour: UInt8[np.ndarray, "h w 3"]
    opacity: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]


def of_field(field: FieldLike, cameras: Iterable[Camera], background: float, finer: int = 1) -> list[CameraImage]:
    """What cameras see of a field, with `finer` rays along a pixel's side."""
    found = []
    quadrature, occupancy = Quadrature(*RAYS, background), Occupancy(field, GRID)
    for camera in cameras:
        height, width = camera.size
        fine = camera.resized((height * finer, width * finer)).to(occupancy.occupied.device)
        view = render_field(field, fine, quadrature, occupancy=occupancy)
        far = view.opacity * view.depth
        values = torch.cat([view.colour, view.opacity[..., None], far[..., None]], dim=2).permute(2, 0, 1).cpu()
        *colour, opacity, far = F.avg_pool2d(values[None], finer)[0]
        found.append(CameraImage(camera, to_bits(torch.stack(colour, dim=2)), opacity, far / opacity.clamp(min=1e-6)))
    return found


def of_mesh(mesh: TracedMesh, camera: Camera) -> CameraImage:
    """What a camera sees of a mesh."""
    from ddmi.rendering.shader import render_view

    seen = render_view(mesh, camera)
    return CameraImage(camera, seen.colour, torch.from_numpy(seen.opacity), torch.from_numpy(seen.depth))


def of_cloud(cloud: Float[Tensor, "n 6"], camera: Camera, background: float) -> UInt8[np.ndarray, "h w 3"]:
    """A cloud of points (xyz, then rgb in [-1, 1]) as squares of a few pixels, near ones in front of far ones."""
    (height, width), (places, distances) = camera.size, project(camera, cloud[:, :3])
    order = distances.argsort(descending=True)
    order = order[distances[order] > 0]
    line = torch.arange(-SPLAT, SPLAT + 1)
    around = torch.cartesian_prod(line, line)
    column, row = (places[order].floor().long()[:, None] + around).flatten(0, 1).T.numpy()
    there = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    colours = to_bits((cloud[order, 3:] + 1) / 2).repeat(len(around), axis=0)
    image = np.full((height, width, 3), round(255 * background), np.uint8)
    image[row[there], column[there]] = colours[there]  # of those at one place the last, the nearest, stays
    return image


def to_bits(colours: Float[Tensor, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """[0, 1] to 8 bits."""
    return (255 * colours.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()


def project(camera: Camera, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """(column, row) of points in an image, and their distance from the camera, negative for those behind it."""
    pose = camera.pose.to(points)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ahead = -local[:, 2]
    x, y = camera.middle
    across = local[:, :2] / torch.where(ahead == 0, 1e-9, ahead)[:, None] * camera.focal
    places = torch.stack([x + across[:, 0], y - across[:, 1]], dim=1)
    return places, local.norm(dim=1) * ahead.sign()


def orbited(camera: Camera, degrees: float) -> Camera:
    """The camera moved around the origin, about the axis that points upwards in its image, and turned with it."""
    x, y, z = (math.radians(degrees) * camera.pose[:3, 1].double()).tolist()
    around = torch.eye(4, dtype=torch.float64)
    around[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    return replace(camera, pose=(around @ camera.pose.double()).to(camera.pose))


class Agreement(NamedTuple):
    """Of two cameras: mean absolute difference of colours in 8-bit levels, and the share of points both see."""

    difference: float
    share: float


def agreement(one: CameraImage, other: CameraImage) -> Agreement | None:
    """Colours of the points that one camera sees, in the other's image; None where no point is in both."""
    origins, directions = one.camera.rays()
    seen = one.opacity.flatten() > SOLID
    points = (origins + one.depth.flatten()[:, None] * directions)[seen]
    places, distances = project(other.camera, points)
    height, width = other.camera.size
    where = 2 * places / places.new_tensor([width, height]) - 1
    there = (where.abs() <= 1).all(dim=1) & (distances > 0)
    known = [torch.from_numpy(other.colour).float(), other.opacity[..., None], other.depth[..., None]]
    values = torch.cat(known, dim=2).permute(2, 0, 1)[None]
    found = F.grid_sample(values, where[None, None], align_corners=False)[0, :, 0].T
    both = there & (found[:, 3] > SOLID) & ((found[:, 4] - distances).abs() < NEAR)
    if not both.any():
        return None
    mine = torch.from_numpy(one.colour).float().flatten(0, 1)[seen]
    difference = (found[both, :3] - mine[both]).abs().mean()
    return Agreement(float(difference), float(both.sum() / there.sum()))


def depth_error(rendered: CameraImage, true: CameraImage) -> dict[str, float]:
    """Mean absolute error of the depth in sides of the cube, and the share of true pixels without one."""
    solid = true.opacity > SOLID
    both = solid & (rendered.opacity > SOLID)
    missed = {"depth_missed": 1 - float(both.sum() / solid.sum())} if solid.any() else {}
    if not both.any():
        return missed
    return {"depth_error": float((rendered.depth - true.depth)[both].abs().mean() / SIDE), **missed}


def semi_transparent(opacity: Float[Tensor, "h w"]) -> float | None:
    """Share of the pixels that see something that see through it; None where all are empty."""
    seen = opacity > 1 - SOLID
    return float((opacity[seen] < SOLID).double().mean()) if seen.any() else None
