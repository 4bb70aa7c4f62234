"""Volume rendering (NeRF, Mildenhall et al. 2020): what rays gather from a field of colours and densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ddmi.base.coordinates import check_size
from ddmi.base.errors import UserError, WorkError
from ddmi.rendering.cameras import Camera
from ddmi.rendering.grid import grid_slabs

Query = Callable[[Tensor, Tensor], Tensor]
"""Points (..., n, 3) and unit directions (..., n, 3) of light -> colours in [0, 1], then density >= 0: (..., n, 4)."""

CHUNK = 1 << 18
"""Samples of rays that are held at once: about 100 bytes each, beside what the field needs."""

BLOCK = 16
"""Samples of a ray that are evaluated together, before it is known whether light gets any further."""

DARK = 1e-4
"""A ray that lets no more light through than this is not followed further."""

HAZE = 1 / 255 / (2 * math.sqrt(3))
"""Density that is taken for empty: a ray through the whole box loses less than 1/255 to it."""

FLOOR = 0.02
"""Weight that is spread evenly over a ray when its fine samples are placed; what was found has at most about 1."""

STEP = 0.01
"""Half the distance between the densities whose difference makes a normal."""

NAN = "the field gave NaN: nothing can be rendered"


@dataclass(frozen=True)
class Quadrature:
    """How a ray is sampled.

    Args:
        samples: evenly spread ones. fine: as many again or other, where those found something (NeRF, section 5.2).
        background: what is behind the box: 1 white, 0 black.
    """

    samples: int = 64
    fine: int = 64
    background: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.fine < 0:
            raise UserError(f"a ray has 1 sample or more, and 0 fine ones or more, not {self.samples} and {self.fine}")
        if not 0 <= self.background <= 1:
            raise UserError(f"a background is between 0 (black) and 1 (white), not {self.background}")


@dataclass(frozen=True, eq=False)
class Composite:
    """What rays see.

    Args:
        colour: in [0, 1], times the opacity. opacity: in [0, 1].
        depth: mean distance along the ray of what is seen; 0 where that is nothing.
        weights: part of each sample in the above, near to far; they sum to the opacity.
    """

    colour: Float[Tensor, "*n 3"]
    opacity: Float[Tensor, "*n"]
    depth: Float[Tensor, "*n"]
    weights: Float[Tensor, "*n s"]

    def over(self, background: float) -> Float[Tensor, "*n 3"]:
        """Colours in front of a background."""
        return self.colour + (1 - self.opacity)[..., None] * background


def box_range(
    origins: Float[Tensor, "*n 3"], directions: Float[Tensor, "*n 3"], low: float = -1.0, high: float = 1.0
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Distances at which rays enter and leave the box [low, high]^3, in lengths of their directions.

    A ray that starts inside enters at 0. Where a ray misses the box, or has it behind, both are 0.
    """
    steps = torch.where(directions == 0, torch.ones_like(directions), directions)
    one, two = (low - origins) / steps, (high - origins) / steps
    between = (origins >= low) & (origins <= high)  # what a ray along two faces stays, or never gets
    inside = torch.where(between, -math.inf, math.inf).to(one.dtype)
    first = torch.where(directions == 0, inside, torch.minimum(one, two))
    last = torch.where(directions == 0, -inside, torch.maximum(one, two))
    near, far = first.amax(dim=-1).clamp(min=0), last.amin(dim=-1)
    met = far > near
    return torch.where(met, near, 0), torch.where(met, far, 0)


def stratified(
    near: Float[Tensor, "*n"], far: Float[Tensor, "*n"], count: int, jitter: Float[Tensor, "*n s"] | None = None
) -> Float[Tensor, "*n s"]:
    """One distance in each of `count` equal parts of [near, far] (NeRF eq. 2), ascending.

    Args:
        jitter: in [0, 1), where in its part each one is; None: in the middle.
    """
    return near[..., None] + (far - near)[..., None] * _spread(count, near, jitter)


def _spread(count: int, like: Tensor, jitter: Float[Tensor, "*n s"] | None) -> Float[Tensor, "*_ s"]:
    """One number in each of `count` equal parts of [0, 1]."""
    parts = torch.arange(count, dtype=like.dtype, device=like.device)
    return (parts + (0.5 if jitter is None else jitter)) / count


def borders(
    depths: Float[Tensor, "*n s"], near: Float[Tensor, "*n"], far: Float[Tensor, "*n"]
) -> Float[Tensor, "*n s+1"]:
    """[near, far] cut half-way between neighbours of ascending distances: each sample stands for its own part."""
    between = (depths[..., 1:] + depths[..., :-1]) / 2
    return torch.cat([near[..., None], between, far[..., None]], dim=-1)


def importance(
    edges: Float[Tensor, "*n e"],
    weights: Float[Tensor, "*n s"],
    count: int,
    jitter: Float[Tensor, "*n k"] | None = None,
) -> Float[Tensor, "*n k"]:
    """Distances sampled from a piecewise constant density, by inversion (NeRF section 5.2), ascending.

    Args:
        edges: ascending, one more than weights.
        weights: of the parts between edges, >= 0; where all are 0, parts count by their lengths.
        count: of the distances; one is sampled from each of `count` equal parts of the probability.
        jitter: in [0, 1), where in its part each one is; None: in the middle.
    """
    edges, weights = edges.detach(), weights.detach()
    total = weights.sum(dim=-1, keepdim=True)
    shares = torch.where(total > 0, weights / total.clamp(min=torch.finfo(weights.dtype).tiny), edges.diff(dim=-1))
    heights = F.pad(shares.cumsum(dim=-1), (1, 0))
    wanted = _spread(count, edges, jitter).expand(*edges.shape[:-1], count) * heights[..., -1:]
    above = torch.searchsorted(heights, wanted.contiguous(), right=True).clamp(1, edges.shape[-1] - 1)
    (x0, x1), (y0, y1) = ((of.gather(-1, above - 1), of.gather(-1, above)) for of in (edges, heights))
    part = (wanted - y0) / (y1 - y0).clamp(min=torch.finfo(edges.dtype).tiny)
    return x0 + (x1 - x0) * part.clamp(0, 1)


def composite(
    colour: Float[Tensor, "*n s 3"],
    density: Float[Tensor, "*n s"],
    deltas: Float[Tensor, "*n s"],
    depths: Float[Tensor, "*n s"],
) -> Composite:
    """The integral along rays of samples from near to far, each of which stands for a length `deltas` (NeRF eq. 3)."""
    weights = _weights(density * deltas)
    opacity = weights.sum(dim=-1)
    depth = (weights * depths).sum(dim=-1) / opacity.clamp(min=1e-6)
    return Composite((weights[..., None] * colour).sum(dim=-2), opacity, depth, weights)


def _weights(thickness: Float[Tensor, "*n s"]) -> Float[Tensor, "*n s"]:
    """T_i (1 - exp(-sigma_i delta_i)) of samples of these optical thicknesses."""
    before = F.pad(thickness[..., :-1].cumsum(dim=-1), (1, 0))
    return torch.exp(-before) * -torch.expm1(-thickness)


def march(
    query: Query,
    origins: Float[Tensor, "*b r 3"],
    directions: Float[Tensor, "*b r 3"],
    quadrature: Quadrature,
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Composite:
    """What rays see of a field in the box [-1, 1]^3; differentiable in what the field answers.

    Evenly spread samples come first, then as the weights of those say the fine ones; all of them, in order, make the
    result. Rays that miss the box see exactly nothing, but are evaluated as all others are.

    Args:
        query: called once for all evenly spread samples and once for all fine ones, (*b, r * samples, 3) points, and
            directions, near to far along a ray, ray after ray.
        directions: of length 1, away from the camera.
        generator: jitters the samples, as training needs, one for all or one for each entry of the first axis; None:
            the same samples every time.

    Returns:
        (*b, r, ...); the weights are those of all samples in order of distance.
    """

    def values(depths: Float[Tensor, "*b r s"]) -> Float[Tensor, "*b r s 4"]:
        points = origins[..., None, :] + depths[..., None] * directions[..., None, :]
        there = directions[..., None, :].expand_as(points)
        return query(points.flatten(-3, -2), there.flatten(-3, -2)).to(depths.dtype).unflatten(-2, depths.shape[-2:])

    return _gathered(values, *box_range(origins, directions), quadrature, generator)


def _gathered(
    values: Callable[[Tensor], Tensor],
    near: Float[Tensor, "*n"],
    far: Float[Tensor, "*n"],
    quadrature: Quadrature,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Composite:
    """`values`: distances along the rays (*n, s) -> colours and densities there (*n, s, 4)."""

    def jitter(count: int) -> Tensor | None:
        if generator is None:
            return None
        if isinstance(generator, torch.Generator):
            return torch.rand((*near.shape, count), generator=generator, device=generator.device).to(near)
        rows = [torch.rand((*near.shape[1:], count), generator=own, device=own.device) for own in generator]
        return torch.stack(rows).to(near)

    depths = stratified(near, far, quadrature.samples, jitter(quadrature.samples))
    found = values(depths)
    if quadrature.fine:
        edges = borders(depths, near, far)
        more = importance(edges, _blurred(found[..., 3], edges), quadrature.fine, jitter(quadrature.fine))
        depths, order = torch.cat([depths, more], dim=-1).sort(dim=-1)
        found = torch.cat([found, values(more)], dim=-2).gather(-2, order[..., None].expand(*order.shape, 4))
    return composite(found[..., :3], found[..., 3], borders(depths, near, far).diff(dim=-1), depths)


@torch.no_grad()
def _blurred(density: Float[Tensor, "*n s"], edges: Float[Tensor, "*n e"]) -> Float[Tensor, "*n s"]:
    """Weights for the fine samples: what is found between two even ones may belong to either (mip-NeRF, eq. 18)."""
    lengths = edges.diff(dim=-1)
    weights = F.pad(_weights(density * lengths), (1, 1))
    pairs = torch.maximum(weights[..., 1:], weights[..., :-1])
    whole = (edges[..., -1:] - edges[..., :1]).clamp(min=torch.finfo(edges.dtype).tiny)
    return (pairs[..., 1:] + pairs[..., :-1]) / 2 + FLOOR * lengths / whole


class Occupancy:
    """Where a field is empty: the largest density in and around each cell of a coarse grid.

    The field is evaluated at the cells' centres. A cell counts as empty when neither its own density nor that of any
    of the 26 cells around is more than `threshold`; what lies between the centres is missed.

    Args:
        field: (coordinates (n, 3), periods, directions (n, 3)) -> (n, 4), colour and density as for `render_field`.
        cells: along each axis of [-1, 1]^3.
        threshold: density, per unit of length.

    Raises:
        UserError: the number of cells is none.
        WorkError: the field gave NaN.
    """

    def __init__(self, field: Callable[..., Tensor], cells: int = 64, threshold: float = HAZE) -> None:
        check_size(cells, 1)

        def density(points: Tensor, periods: Tensor | None) -> Tensor:
            return field(points, periods, points.new_tensor([[0.0, 0.0, -1.0]]).expand(len(points), 3))[:, 3:]

        with torch.no_grad():
            slabs = list(grid_slabs(density, (cells,) * 3, (-1.0,) * 3 + (1.0,) * 3, slab=CHUNK))
            grid = torch.cat(slabs)[..., 0].float()
            if grid.isnan().any():
                raise WorkError(NAN)
            self.cells = cells
            self.occupied = F.max_pool3d(grid[None], 3, stride=1, padding=1)[0] > threshold

    @property
    def share(self) -> float:
        """The part of the box that is not empty."""
        return self.occupied.float().mean().item()

    def skip(self, points: Float[Tensor, "*n 3"]) -> Bool[Tensor, "*n"]:
        """Which points of the box are in empty cells."""
        cell = ((points + 1) * (self.cells / 2)).long().clamp_(0, self.cells - 1)
        x, y, z = cell.unbind(dim=-1)
        return ~self.occupied.to(points.device)[z, y, x]


@dataclass(frozen=True, eq=False)
class View:
    """An image of a field, row by row from the top.

    Args:
        colour: in [0, 1], in front of the background. opacity: in [0, 1].
        depth: mean distance from the camera of what is seen; 0 where that is nothing.
        normals: of length 1, in the world's axes, outwards; 0 where nothing is seen; None when not wanted.
    """

    colour: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    normals: Float[Tensor, "h w 3"] | None = None


@torch.no_grad()
def render_field(
    field: Callable[..., Tensor],
    camera: Camera,
    quadrature: Quadrature | None = None,
    *,
    occupancy: Occupancy | None = None,
    normals: bool = False,
    chunk: int = CHUNK,
) -> View:
    """What a camera sees of a field in the box [-1, 1]^3. Deterministic.

    Args:
        field: (coordinates (n, 3), periods, directions (n, 3)) -> (n, 4), colour in [0, 1] and density >= 0.
        quadrature: None: the default one.
        occupancy: of this field; where it says empty the field is not evaluated.
        normals: from differences of the density, at the depth.
        chunk: samples held at once.

    Returns:
        The view, on the camera's device.

    Raises:
        WorkError: the field gave NaN.
    """
    quadrature = quadrature or Quadrature()
    height, width = camera.size
    device = camera.pose.device
    colour = torch.full((height * width, 3), quadrature.background, device=device)
    opacity, depth = torch.zeros(height * width, device=device), torch.zeros(height * width, device=device)
    facing = torch.zeros(height * width, 3, device=device) if normals else None
    rays = max(1, chunk // (quadrature.samples + quadrature.fine))
    for pixels in torch.arange(height * width, device=device).split(chunk):
        lines = _Rays.through(camera, pixels)
        lines = lines.only(lines.far > lines.near)
        if occupancy is not None:
            lines = lines.only(torch.cat([part.meet(occupancy) for part in lines.split(rays)]))
        for part in lines.split(rays):
            seen = _gathered(partial(part.values, field, occupancy), part.near, part.far, quadrature)
            colour[part.pixels], opacity[part.pixels] = seen.over(quadrature.background), seen.opacity
            depth[part.pixels] = seen.depth
            if facing is not None:
                at = seen.opacity > 0.5 / 255
                facing[part.pixels[at]] = _normals(field, part.at(seen.depth[:, None])[at, 0], part.directions[at])
    if colour.isnan().any():
        raise WorkError(NAN)
    images = (colour.unflatten(0, camera.size), opacity.view(camera.size), depth.view(camera.size))
    return View(*images, None if facing is None else facing.unflatten(0, camera.size))


class _Rays(NamedTuple):
    """Rays of an image."""

    pixels: Int[Tensor, "n"]
    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    near: Float[Tensor, "n"]
    far: Float[Tensor, "n"]

    @staticmethod
    def through(camera: Camera, pixels: Int[Tensor, "n"]) -> _Rays:
        origins, directions = camera.rays(pixels)
        return _Rays(pixels, origins, directions, *box_range(origins, directions))

    def only(self, which: Bool[Tensor, "n"] | Int[Tensor, "k"]) -> _Rays:
        return _Rays(*(values[which] for values in self))

    def split(self, count: int) -> list[_Rays]:
        return [_Rays(*part) for part in zip(*(values.split(count) for values in self), strict=True)]

    def at(self, depths: Float[Tensor, "n s"]) -> Float[Tensor, "n s 3"]:
        return self.origins[:, None] + depths[..., None] * self.directions[:, None]

    def meet(self, occupancy: Occupancy) -> Bool[Tensor, "n"]:
        """Which rays come through a cell that is not empty."""
        return ~occupancy.skip(self.at(stratified(self.near, self.far, 2 * occupancy.cells))).all(dim=1)

    def values(
        self, field: Callable[..., Tensor], occupancy: Occupancy | None, depths: Float[Tensor, "n s"]
    ) -> Float[Tensor, "n s 4"]:
        """Colours and densities at the distances; 0 where the field is empty or light does not get any more."""
        found = depths.new_zeros(*depths.shape, 4)
        lengths = borders(depths, self.near, self.far).diff(dim=1)
        passed = depths.new_zeros(len(depths))  # optical thickness so far
        alive = torch.arange(len(depths), device=depths.device)
        for start in range(0, depths.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            points = self.only(alive).at(depths[alive, block])
            if occupancy is None:
                rows, columns = torch.ones_like(points[..., 0], dtype=torch.bool).nonzero(as_tuple=True)
            else:
                rows, columns = (~occupancy.skip(points)).nonzero(as_tuple=True)
            if not len(rows):
                continue
            given = field(points[rows, columns], None, self.directions[alive[rows]])
            found[alive[rows], start + columns] = given.to(found)
            passed[alive] += (found[alive, block, 3] * lengths[alive, block]).sum(dim=1)
            alive = alive[passed[alive] < -math.log(DARK)]
        return found


def _normals(
    field: Callable[..., Tensor], points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """Where the density falls fastest, from central differences; outside the box there is none."""
    steps = STEP * torch.cat([torch.eye(3), -torch.eye(3)]).to(points)
    around = (points[:, None] + steps).flatten(0, 1)
    density = field(around, None, directions.repeat_interleave(6, dim=0))[:, 3].to(points)
    density = density * (around.abs() <= 1).all(dim=1)
    solid = -torch.expm1(-2 * STEP * density).view(-1, 2, 3)  # opacity of a step: the same slope, but no wilder within
    return F.normalize(solid[:, 1] - solid[:, 0], dim=1)
