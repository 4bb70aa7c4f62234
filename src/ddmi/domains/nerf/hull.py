"""The coloured visual hull of posed images: the largest object whose silhouettes are those of the images.

Laurentini (1994). It contains the object, and fills what no view can tell is empty, such as the inside of a bowl. Grids
are over [-1, 1]^3, in array order (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8

from ddmi.base.errors import missing_extra
from ddmi.domains.nerf.posed import Views

try:
    from scipy import ndimage
    from scipy.spatial import cKDTree
except ImportError as error:
    raise missing_extra("scipy", "mesh") from error

HULL = 1
"""Goes up when the same images give another hull: those that were kept are then not used."""
PLAIN = 24
"""Levels of 255 that a pixel of a plain background may be off white or black."""
SLACK = 0.5
"""Pixels that the middle of a cell may lie outside of a silhouette: a pixel stands for all that it shows."""
HIGHLIGHT = 0.01
"""Share of a silhouette up to which a hole in it is closed."""
SEEN = 1 / 3
"""Share of the views that must see a cell."""
FEWEST = 4
"""Cells a side of the hull at its first, coarse level is the final number divided by this."""


class NoHull(Exception):
    """Why no hull can be carved, in one line that does not name the file."""


@dataclass(frozen=True)
class Backdrop:
    """The plain colour that images without alpha stand on."""

    colour: int
    """Of all three channels: 0 or 255."""
    tolerance: int
    """Levels that pixels of it are off."""


def backdrop(images: UInt8[np.ndarray, "n h w c"]) -> Backdrop | None:
    """White or black, whichever most pixels at the borders are; None where those are fewer than half, or with alpha."""
    if _transparent(images):
        return None
    rgb = images[..., :3].astype(np.int16)
    border = np.concatenate([rgb[:, [0, -1]].reshape(-1, 3), rgb[:, 1:-1, [0, -1]].reshape(-1, 3)])
    off = {colour: np.abs(border - colour).max(axis=1) for colour in (255, 0)}
    colour = max(off, key=lambda colour: (off[colour] <= PLAIN).mean())
    plain = off[colour] <= PLAIN
    if plain.mean() < 0.5:
        return None
    return Backdrop(colour, int(np.quantile(off[colour][plain], 0.99)) + 1)


def silhouettes(images: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n h w"] | None:
    """Which pixels show the object: by alpha, else by what differs from a plain white or black background.

    In the latter case holes that are smaller than a hundredth of the object are taken for highlights, and filled. None
    where there is neither.
    """
    if _transparent(images):
        return images[..., 3] > 127
    back = backdrop(images)
    if back is None:
        return None
    off = np.abs(images[..., :3].astype(np.int16) - back.colour).max(axis=3)
    return np.stack([_filled(mask) for mask in off > back.tolerance])


def _filled(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """A silhouette without its small holes: highlights, as light as the background."""
    holes, count = ndimage.label(~mask)
    if count < 2:
        return mask
    border = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    small = np.bincount(holes.ravel()) <= HIGHLIGHT * mask.sum()
    small[border] = False
    return np.asarray(mask | small[holes])


def _transparent(images: UInt8[np.ndarray, "n h w c"]) -> bool:
    return images.shape[3] == 4 and bool((images[..., 3] < 128).any())


def widened(mask: Bool[np.ndarray, "h w"], pixels: int) -> Bool[np.ndarray, "h w"]:
    """A mask and so many pixels around it, to all sides."""
    return np.asarray(ndimage.maximum_filter(mask, 2 * pixels + 1))


def carve(
    views: Views, masks: Bool[np.ndarray, "n h w"], resolution: int = 128, *, misses: float = 0.03
) -> Bool[np.ndarray, "z y x"]:
    """Which cells lie in the silhouettes of all views that see their middle, and of a third of all views.

    A view may be wrong: a cell stays when it lies outside of at most the share `misses` of all silhouettes, rounded
    down. Cells are divided where it is still open, so that no structure is lost that is thinner than a coarse cell.

    Args:
        views: in the signal's coordinates.
        masks: which pixels show the object.
        resolution: cells a side, a multiple of 4.
    """
    if resolution % FEWEST:
        raise ValueError(f"a resolution is a multiple of {FEWEST}, not {resolution}")
    bounds = _signed(masks)
    allowed = int(misses * len(views) + 1e-9)
    side = resolution // FEWEST
    corners = _offsets(side)
    inside = np.zeros((resolution,) * 3, dtype=bool)
    while True:
        half = 1 / side
        centres = (corners + 0.5) * (2 * half) - 1
        final = side == resolution
        kept, sure = _test(views, bounds, centres, allowed, 0.0 if final else half * np.sqrt(3))
        if final:
            x, y, z = corners[kept].T
            inside[z, y, x] = True
            return inside
        times = resolution // side
        x, y, z = (times * corners[sure, None] + _offsets(times)).reshape(-1, 3).T
        inside[z, y, x] = True
        corners = (2 * corners[kept & ~sure, None] + _offsets(2)).reshape(-1, 3)
        side *= 2


def _offsets(times: int) -> Int[np.ndarray, "m 3"]:
    """Of the cells that a cell `times` as wide consists of."""
    return np.indices((times, times, times)).reshape(3, -1).T


def _signed(masks: Bool[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Distance of the middle of each pixel from the edge of the silhouette in pixels; negative inside."""
    distance = ndimage.distance_transform_edt
    far = float(sum(masks.shape[1:]))
    signed = np.empty(masks.shape, dtype=np.float32)
    for view, mask in enumerate(masks):
        if mask.all() or not mask.any():
            signed[view] = -far if mask.all() else far
        else:
            signed[view] = np.where(mask, 0.5 - distance(mask), distance(~mask) - 0.5)
    return signed


def _test(
    views: Views,
    bounds: Float32[np.ndarray, "n h w"],
    centres: Float64[np.ndarray, "m 3"],
    allowed: int,
    radius: float,
) -> tuple[Bool[np.ndarray, "m"], Bool[np.ndarray, "m"]]:
    """Which balls of this radius may reach into the hull, and which surely lie in it. Of points: which are in it."""
    missed = np.zeros(len(centres), dtype=np.int32)
    seen = np.zeros(len(centres), dtype=np.int32)
    sure = np.ones(len(centres), dtype=bool)
    active = np.arange(len(centres))
    for view in range(len(views)):
        pixel, depth, shown = views.project(view, centres[active])
        there = active[shown]
        signed = _sample(bounds[view], pixel[shown])
        nearest = np.maximum(depth[shown] - radius, 1e-3)
        wide = views.focal[view] * radius / nearest
        missed[there[signed > wide + SLACK]] += 1
        seen[there] += 1
        sure[active[~shown]] = False
        sure[there[signed > SLACK - wide]] = False
        active = active[missed[active] <= allowed]
    kept = missed <= allowed
    if radius == 0:
        kept &= seen >= SEEN * len(views)
    return kept, sure & kept


def _sample(grid: Float32[np.ndarray, "h w"], pixel: Float64[np.ndarray, "m 2"]) -> Float32[np.ndarray, "m"]:
    """Bilinear values at (column, row); pixels have their values at their centres."""
    return ndimage.map_coordinates(grid, pixel.T[::-1] - 0.5, order=1, mode="nearest", output=np.float32)


def surface(
    inside: Bool[np.ndarray, "z y x"], count: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """Random points on the faces between the inside and the outside, and unit normals that point outwards.

    The normals are those of the blurred solid, so that they do not step with the cells.
    """
    size = len(inside)
    padded = np.pad(inside, 1)
    cells, steps = [], []
    for axis in range(3):
        for way in (-1, 1):
            bare = inside & ~np.roll(padded, -way, axis=2 - axis)[1:-1, 1:-1, 1:-1]
            found = np.argwhere(bare)[:, ::-1]
            cells.append(found)
            steps.append(np.broadcast_to(way * np.eye(3)[axis], found.shape))
    cell, step = np.concatenate(cells), np.concatenate(steps)
    chosen = rng.choice(len(cell), count, replace=count > len(cell))
    cell, step = cell[chosen], step[chosen]
    offset = np.where(step == 0, rng.uniform(-0.5, 0.5, cell.shape), 0.5 * step)
    points = (cell + 0.5 + offset) * (2 / size) - 1

    blurred = ndimage.gaussian_filter(np.pad(inside, 3).astype(np.float32), 1.5)
    at = (cell + 3 + offset).T[::-1]
    slopes = [ndimage.map_coordinates(-np.gradient(blurred, axis=2 - axis), at, order=1) for axis in range(3)]
    normals = np.stack(slopes, axis=1).astype(np.float64)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return points, np.where(lengths > 1e-6, normals / np.maximum(lengths, 1e-6), step)


def colours(
    points: Float64[np.ndarray, "n 3"],
    normals: Float64[np.ndarray, "n 3"],
    views: Views,
    images: UInt8[np.ndarray, "v h w c"],
    masks: Bool[np.ndarray, "v h w"],
    spacing: float,
) -> UInt8[np.ndarray, "n 3"]:
    """The colour of each point in the views that see it best: from the front, from near, not at the edge of the object.

    A point is hidden where another of the points lies in front of it. What no view sees takes the colour of the nearest
    point that one does.

    Args:
        points: points of a whole surface, dense enough to hide what is behind it.
        spacing: how far apart they may be.

    Raises:
        NoHull: no view shows any of them.
    """
    total = np.zeros((len(points), 3))
    weight = np.zeros(len(points))
    bounds = _signed(masks)
    for view in range(len(views)):
        pixel, depth, shown = views.project(view, points)
        there = np.flatnonzero(shown)
        if len(there) == 0:
            continue
        at, far = pixel[there], depth[there]
        wide = max(1.0, spacing * views.focal[view] / float(np.median(far)))
        away = views.eyes[view] - points[there]
        facing = (away * normals[there]).sum(axis=1) / np.linalg.norm(away, axis=1)
        open_ = (facing > 0.05) & (far <= _front(at, far, views.size, wide) + 2 * spacing)
        there, at, far, facing = there[open_], at[open_], far[open_], facing[open_]
        share, rgb = _object_colour(images[view], masks[view], at)
        edge = np.clip((0.5 - _sample(bounds[view], at)) / 2, 0.02, 1)  # 1 from a pixel and a half within
        score = np.where(share > 0.1, (facing * edge / far**2) ** 4, 0)  # the best view weighs most by far
        total[there] += score[:, None] * rgb
        weight[there] += score
    known = weight > 0
    if not known.any():
        raise NoHull("no view sees its surface")
    found = total[known] / weight[known, None]
    out = np.empty((len(points), 3))
    out[known] = found
    if not known.all():
        out[~known] = found[cKDTree(points[known]).query(points[~known])[1]]
    return np.clip(out.round(), 0, 255).astype(np.uint8)


def _object_colour(
    image: UInt8[np.ndarray, "h w c"], mask: Bool[np.ndarray, "h w"], pixel: Float64[np.ndarray, "m 2"]
) -> tuple[Float32[np.ndarray, "m"], Float32[np.ndarray, "m 3"]]:
    """Bilinear colours of those neighbours that show the object, and how much these count."""
    share = _sample(mask.astype(np.float32), pixel)
    rgb = [_sample(image[..., channel] * mask.astype(np.float32), pixel) for channel in range(3)]
    return share, np.stack(rgb, axis=1) / np.maximum(share, 1e-3)[:, None]


def _front(
    pixel: Float64[np.ndarray, "m 2"], depth: Float64[np.ndarray, "m"], size: tuple[int, int], wide: float
) -> Float64[np.ndarray, "m"]:
    """The smallest depth near each point, in tiles of `wide` pixels and the eight around each."""
    tiles = np.floor(pixel / wide).astype(int)[:, ::-1]
    nearest = np.full((int(size[0] / wide) + 1, int(size[1] / wide) + 1), np.inf)
    np.minimum.at(nearest, tuple(tiles.T), depth)
    return ndimage.minimum_filter(nearest, 3, mode="nearest")[tuple(tiles.T)]


def coloured_hull(
    views: Views,
    images: UInt8[np.ndarray, "n h w c"],
    rng: np.random.Generator,
    *,
    count: int = 30_000,
    resolution: int = 128,
) -> tuple[Float32[np.ndarray, "m 3"], UInt8[np.ndarray, "m 3"]]:
    """Points of the surface of the visual hull, in [-1, 1], and their colours.

    Args:
        views: in the signal's coordinates.
        images: RGB or RGBA of the views' size; those of nothing but background are left out.
        count: how many points.
        resolution: cells a side, 64 to 128.

    Raises:
        NoHull: the images have neither alpha nor a plain background, or the hull is empty.
    """
    masks = silhouettes(images)
    if masks is None:
        raise NoHull("the images have neither alpha nor a plain white or black background")
    if not masks.any():
        raise NoHull("the images show nothing but background")
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    views, images, masks = views.only(shown), images[shown], masks[shown]
    inside = carve(views, masks, resolution)
    if not inside.any():
        raise NoHull("no part of the box [-1, 1]^3 lies in the silhouettes of the views")
    points, normals = surface(inside, count, rng)
    return points.astype(np.float32), colours(points, normals, views, images, masks, 2 / resolution)
