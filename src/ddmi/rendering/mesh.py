"""Surfaces of a scalar function as closed meshes: coarse to fine, asking only near the surface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ddmi.base.coordinates import axis, check_size, check_window
from ddmi.base.errors import Empty, UserError, WorkError, missing_extra
from ddmi.base.storage import aside

if TYPE_CHECKING:
    import trimesh

log = logging.getLogger(__name__)

CHUNK = 1 << 16
"""Points at which the function is evaluated at once."""

LARGEST = 1024
"""Cells a side of the largest volume: 4 GiB of float32."""

MESHES = (".glb", ".ply", ".obj", ".stl")

UNKNOWN = np.float32(1e30)
"""Stands, with the sign of coarser samples, where the function was not evaluated; values are clamped below it."""

EMPTY = "nothing above the threshold"

Function = Callable[[Float[Tensor, "n 3"]], Tensor]
Volume = Float[np.ndarray, "_ _ _"]
"""(z, y, x): function less level at the cell centres of a grid, within one layer of "outside" on all sides."""


def iso_surface(
    value: Function,
    size: int,
    *,
    level: float = 0.0,
    window: Sequence[float] | None = None,
    coarsest: int = 32,
) -> trimesh.Trimesh:
    """The surface value = level, around all that is above, with few queries.

    A coarse grid is queried everywhere. Each finer grid has twice the cells a side, is queried where the coarser one's
    interpolated values change their sign, and where two values of it head for a change that the third does not show;
    elsewhere it takes the sign of the interpolation. Then the surface is followed: wherever a cube of eight samples has
    both signs, all of it is queried, until nothing new is found. A component that is connected to one that was seen is
    therefore that of a grid queried everywhere (`coarsest=size`) to the last digit, however thin it is; one that lies
    between the coarse samples is missed when their values do not tell.

    Args:
        value: (n, 3) coordinates -> (n,) or (n, 1) values, float; > level is inside.
        size: cells along each axis of the window; any number, not just powers of two.
        window: low corner, then high corner, x first; None for [-1, 1] along each axis. The mesh is closed by the
            window's own faces where the inside meets them.
        coarsest: the coarse grid has at least so many cells a side (and fewer than twice as many).

    Returns:
        A watertight mesh with outward normals, without faces when nothing is above the level;
        `metadata["queries"]` is the number of points queried.

    Raises:
        UserError: the size is no positive number or beyond 1024, the window leaves [-1, 1], or a package is missing.
        WorkError: the function gave NaN, or not one number a point.
    """
    probe = _Probe(value, size, level, window)
    return _closed(_refined(probe, size, coarsest), probe)


def inside(
    value: Function,
    size: int,
    *,
    level: float = 0.0,
    window: Sequence[float] | None = None,
    coarsest: int = 32,
) -> Bool[np.ndarray, "z y x"]:
    """Which cell centres of the grid lie above the level; arguments, errors and what may be missed as `iso_surface`."""
    volume = _refined(_Probe(value, size, level, window), size, coarsest)
    return volume[1:-1, 1:-1, 1:-1] > 0


def _refined(probe: _Probe, size: int, coarsest: int) -> Volume:
    """The volume of size^3 cells, coarse to fine."""
    if coarsest < 1:
        raise UserError(f"coarsest is at least 1, not {coarsest}")
    sizes = [size]
    while -(-sizes[-1] // 2) >= max(coarsest, 2):
        sizes.append(-(-sizes[-1] // 2))
    volume = probe.everywhere(sizes.pop())
    while sizes:
        volume = _finer(volume, sizes.pop(), probe)
    return volume


class _Probe:
    """The function less the level over a window; counts the points at which it was evaluated."""

    def __init__(self, value: Function, size: int, level: float, window: Sequence[float] | None):
        check_size(size, 3)
        if size > LARGEST:
            raise UserError(f"a surface of {size} cells a side does not fit into memory: at most {LARGEST}")
        corners = check_window(window, 3)
        self.value, self.level = value, level
        self.low, self.high = np.array(corners[:3]), np.array(corners[3:])
        self.queries = 0

    def everywhere(self, size: int) -> Volume:
        """A volume of size^3 cells, all of it evaluated."""
        volume = np.full((size + 2,) * 3, -UNKNOWN)
        layers = max(1, CHUNK // size**2)  # evaluated together: few calls, and indices of a part of the volume alone
        for first in range(0, size, layers):
            z, y, x = np.indices((min(layers, size - first), size, size)).reshape(3, -1) + 1
            self.evaluate(volume, ((z + first) * (size + 2) + y) * (size + 2) + x)
        return volume

    @torch.no_grad()
    def evaluate(self, volume: Volume, at: Int[np.ndarray, "n"]) -> None:
        """Fill in the samples with these (flat) indices."""
        cells, flat = len(volume) - 2, volume.reshape(-1)
        lines = [axis(cells, float(low), float(high)) for low, high in zip(self.low, self.high, strict=True)]
        for start in range(0, len(at), CHUNK):
            part = at[start : start + CHUNK]
            z, y, x = (torch.from_numpy(index - 1) for index in np.unravel_index(part, volume.shape))
            given = self.value(torch.stack([lines[0][x], lines[1][y], lines[2][z]], dim=1))
            if given.numel() != len(part):
                raise WorkError(f"the function gave {given.numel()} numbers for {len(part)} points, not one a point")
            values = given.detach().reshape(-1).to("cpu", torch.float32).numpy() - np.float32(self.level)
            if np.isnan(values).any():
                raise WorkError("the function gave NaN: it has no surface")
            values[values == 0] = -np.finfo(np.float32).tiny  # exactly on the level is outside, as `>` says
            flat[part] = values.clip(-UNKNOWN / 10, UNKNOWN / 10)
        self.queries += len(at)


def _finer(coarse: Volume, size: int, probe: _Probe) -> Volume:
    """The volume of size^3 cells, evaluated where the coarser one's values put the surface, then along it.

    Between coarse samples values are interpolated. Where their sign changes, both sides are evaluated; so are samples
    of another sign than the coarse sample whose cell they lie in, and those next to which a thin part may slip.
    """
    known = torch.from_numpy(coarse[1:-1, 1:-1, 1:-1])[None, None]
    inside = np.pad((F.interpolate(known, (size,) * 3, mode="trilinear")[0, 0] > 0).numpy(), 1)
    volume = np.where(inside, UNKNOWN, -UNKNOWN)
    parent = np.arange(size) * (len(coarse) - 2) // size + 1  # of the coarse cell that the sample lies in
    cell = np.ix_(parent, parent)
    thin = np.zeros(coarse.shape, dtype=bool)
    thin.reshape(-1)[_slips_between(coarse)] = True
    near, queried = _near_a_change(inside), []
    for z, above in enumerate(parent, start=1):
        other = inside[z, 1:-1, 1:-1] != (coarse[above] > 0)[cell]
        y, x = np.nonzero(near[z, 1:-1, 1:-1] | other | thin[above][cell])
        queried.append((z * (size + 2) + y + 1) * (size + 2) + x + 1)
    frontier = np.concatenate(queried)
    while len(frontier):
        frontier = _follow(volume, frontier, probe)
    return volume


def _near_a_change(inside: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Samples with another sign among their 26 neighbours."""
    some, every = inside.copy(), inside.copy()
    for k in range(3):
        for found, join in ((some, np.logical_or), (every, np.logical_and)):
            line = np.moveaxis(found, k, 0)
            wide = line.copy()
            join(wide[1:], line[:-1], out=wide[1:])
            join(wide[:-1], line[1:], out=wide[:-1])
            line[...] = wide
    return some & ~every


def _slips_between(volume: Volume) -> Int[np.ndarray, "n"]:
    """Samples (flat indices) between which a thin plate or gap may lie.

    Of three in a line, the first two tend to the level so that they would pass it by the third, but it has their sign.
    """
    flat, side = volume.reshape(-1), len(volume)
    known = np.flatnonzero(np.abs(flat) < UNKNOWN)
    values, found = flat[known], []
    for step in (1, -1, side, -side, side**2, -(side**2)):
        before, after = flat[known - step], flat[known + step]
        inside = values > 0
        passes = ((2 * values - before > 0) != inside) & ((after > 0) == inside) & (np.abs(before) < UNKNOWN)
        found += [known[passes], known[passes] + step]
    return np.concatenate(found)


def _follow(volume: Volume, frontier: Int[np.ndarray, "n"], probe: _Probe) -> Int[np.ndarray, "m"]:
    """Evaluate the frontier; the next one is what is unknown of the cubes with both signs around what has changed sign.

    A sample that kept the sign it was given opens no new cube: where given signs differ, both sides are evaluated.
    """
    flat, side = volume.reshape(-1), len(volume)
    before = flat[frontier] > 0
    probe.evaluate(volume, frontier)
    changed = frontier[(flat[frontier] > 0) != before]
    corners = np.array([(z * side + y) * side + x for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    cubes = np.unique(changed[:, None] - corners)  # by their lowest corner
    samples = cubes[:, None] + corners
    inside = flat[samples] > 0
    samples = samples[inside.any(axis=1) & ~inside.all(axis=1)]
    found = np.unique(samples[np.abs(flat[samples]) == UNKNOWN])
    at = np.stack(np.unravel_index(found, volume.shape))
    return found[((at > 0) & (at < side - 1)).all(axis=0)]  # beyond the window all is known to be outside


def _closed(volume: Volume, probe: _Probe) -> trimesh.Trimesh:
    """Marching cubes (Lewiner et al. 2003). The layer around is a mirror image, so that it closes on the border."""
    try:
        import trimesh
    except ImportError as error:
        raise missing_extra("trimesh", "mesh") from error
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise missing_extra("scikit-image", "mesh") from error
    for k in range(3):
        line = np.moveaxis(volume, k, 0)
        line[0], line[-1] = -np.abs(line[1]), -np.abs(line[-2])
    if volume.max() > 0:
        # x, y, z of what is z, y, x: a reflection, which turns the faces over once more
        vertices, faces, *_ = marching_cubes(volume, 0.0, gradient_direction="descent")
        cells = len(volume) - 2
        vertices = probe.low + (probe.high - probe.low) * (vertices[:, ::-1].astype(np.float64) - 0.5) / cells
    else:
        vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    return trimesh.Trimesh(vertices, faces, process=False, metadata={"queries": probe.queries})


def simplified(mesh: trimesh.Trimesh, faces: int, *, quietly: bool = False) -> trimesh.Trimesh:
    """About so many faces, by collapsing the edges that matter least (quadric errors); colours are not kept.

    A mesh with no more faces than that is returned as it is. A watertight mesh that loses that is warned of, but
    not `quietly`: a mesh that is only looked at may be open.

    Raises:
        UserError: fewer than 4 faces are wanted, or the package is missing.
    """
    if faces < 4:
        raise UserError(f"a closed mesh has at least 4 faces, not {faces}")
    if len(mesh.faces) <= faces:
        return mesh
    try:
        import trimesh
        from fast_simplification import simplify
    except ImportError as error:
        raise missing_extra("fast-simplification", "mesh") from error
    points, triangles = simplify(mesh.vertices, np.asarray(mesh.faces, dtype=np.int64), target_count=faces)
    smaller = trimesh.Trimesh(points, triangles, process=False, metadata=dict(mesh.metadata))
    smaller.remove_unreferenced_vertices()
    if not quietly and mesh.is_watertight and not smaller.is_watertight:
        log.warning("the mesh of %d faces is no longer watertight: ask for more than %d", len(smaller.faces), faces)
    return smaller


def write_mesh(mesh: trimesh.Trimesh, path: Path | str) -> None:
    """Write a mesh, aside first, in the format of the name's ending: .glb (with normals), .ply, .obj or .stl.

    Raises:
        UserError: the name has another ending. Empty: the mesh has no faces.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in MESHES:
        raise UserError(f"{path}: a mesh is written as {', '.join(MESHES)}, by the ending of its name")
    if not len(mesh.faces):
        raise Empty(f"{path}: {EMPTY}: no mesh to write")
    with aside(path) as scratch, scratch.open("wb") as file:
        if ending == ".glb":
            _write_glb(mesh, file)
        else:
            mesh.export(file, file_type=ending[1:])


def _write_glb(mesh: trimesh.Trimesh, file: BinaryIO) -> None:
    """With normals, and a material that is no metal: its base colour is CLAY, or white beneath colours of vertices.

    Colours of a glTF file are linear, ours are as displayed; eight bits would be too few for dark linear ones.
    """
    import trimesh
    from trimesh.visual.color import srgb_to_linear

    from ddmi.rendering.materials import CLAY

    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, process=False)
    base = srgb_to_linear(np.array(CLAY) / 255).tolist()
    visual: Any = mesh.visual
    if visual.kind in ("vertex", "face"):
        base = [1.0, 1.0, 1.0]
        plain.vertex_attributes["_colour"] = srgb_to_linear(visual.vertex_colors[:, :3] / 255).astype(np.float32)

    def finish(tree: dict[str, Any]) -> None:
        colour = {"baseColorFactor": [*base, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
        tree["materials"] = [{"pbrMetallicRoughness": colour}]
        (part,) = tree["meshes"][0]["primitives"]
        part["material"] = 0
        if "_colour" in part["attributes"]:
            part["attributes"]["COLOR_0"] = part["attributes"].pop("_colour")

    plain.export(file, file_type="glb", include_normals=True, tree_postprocessor=finish)
