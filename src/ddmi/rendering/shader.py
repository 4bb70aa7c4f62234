"""Images of meshes by ray casting on the CPU, in one of two lights.

- `render_view`: what radiance fields learn from, so a point has one colour from wherever it is seen. The light stands
  still in the world and is scattered evenly (Lambert), nothing shines or casts a shadow.
- `shaded` and `turntable`: shapes for a person to look at. The lights go round with the camera and cast soft shadows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from ddmi.base.coordinates import check_size
from ddmi.base.errors import UserError, missing_extra
from ddmi.rendering.cameras import Camera, lattice
from ddmi.rendering.clip import Clip
from ddmi.rendering.materials import Colour, plain, surface_of
from ddmi.rendering.mesh import EMPTY

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

WHITE: Colour = (255, 255, 255)

CREASE = math.cos(math.radians(40))
"""A corner is shaded smoothly across edges of less than 40 degrees."""

LAYERS = 24
"""Of transparent surfaces, one behind the other; what is behind them is not seen."""
FAINT = 1 / 512
"""A ray that carries less than this on is at its end."""
BEHIND = 1e-4
"""A ray goes on so far behind the surface that it has passed."""
AROUND = 48
"""Directions from which a point of the surface may be seen."""

GAMMA = 2.2
AMBIENT, SKY, KEY, FILL = 0.33, 0.13, 0.40, 0.14
"""Light of `render_view`, at the most about 0.85, so that white stays apart from a white background: from everywhere,
from above, and from the two lamps."""
KEY_FROM, FILL_FROM = (0.45, 0.70, 0.55), (-0.80, 0.15, -0.58)
"""Where the lamps of `render_view` stand, in the world."""

LIGHTS = ((-0.6, 1.15, 0.7), (0.9, 0.2, 0.6), (0.3, 0.5, -1.0))
"""Where the key, the fill and the rim light of `shaded` stand: right, up and back of a level camera."""
SUBSAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Offsets of the rays of a pixel of `shaded`, in pixels."""
SKY_RAYS = 56
"""Directions from which the sky's light is gathered; a ray of a pixel takes every fourth."""
GROUND, REACH = 72, 1.8
"""Cells a side of the map of the ground's contact shadow, over [-REACH, REACH]^2."""
ABOVE = 2e-3
"""Rays to the light start so far above the surface."""


class TracedMesh:
    """A mesh, or the meshes of a scene, in a ray tracer with their colours: all that no camera changes.

    Args:
        detail: textures are blurred so that nothing smaller than this length shows (see `spacing`); 0: as they are.
        colour: in place of the mesh's own colours; red, green, blue in 0-255.

    Raises:
        UserError: a package is missing, or there are no faces.
    """

    def __init__(
        self, mesh: trimesh.Trimesh | trimesh.Scene, *, detail: float = 0.0, colour: Colour | None = None
    ) -> None:
        found = [(vertices, np.asarray(part.faces), part) for vertices, part in parts(mesh) if len(part.faces)]
        if not found:
            raise UserError("a mesh without faces cannot be rendered")
        self._surfaces = [
            surface_of(part, vertices[faces], detail) if colour is None else plain(colour)
            for vertices, faces, part in found
        ]
        counts = [len(faces) for _, faces, _ in found]
        self._first = np.cumsum([0, *counts])  # of the faces of each surface
        shifts = np.cumsum([0, *(len(vertices) for vertices, _, _ in found)])
        vertices = np.concatenate([vertices for vertices, _, _ in found])
        faces = np.concatenate([faces + shift for (_, faces, _), shift in zip(found, shifts, strict=False)])
        self.corners = vertices[faces].astype(np.float32)  # (f, 3, 3)
        self.floor = float(vertices[faces, 1].min())
        across = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
        self.areas = np.linalg.norm(across, axis=1) / 2
        self.normals = _unit(across).astype(np.float32)
        self.smooth = _smooth(across, _joined(vertices, faces))  # (f, 3, 3), of the corners
        self._clear = any(surface.clear for surface in self._surfaces)
        solid = np.concatenate([np.broadcast_to(s.solid, n) for s, n in zip(self._surfaces, counts, strict=True)])
        self._all = _tracer(vertices, faces)
        hiding = faces[solid] if solid.any() else faces[:1]
        self._solids = self._all if solid.all() else _tracer(vertices, hiding)

    def hits(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> dict[str, np.ndarray]:
        """Face `primID` (-1: none), distance `tfar` and place `u`, `v` in the face of what each ray meets first."""
        return self._all.run(*(np.ascontiguousarray(v, np.float32) for v in (origins, directions)), output=1)

    def free(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> np.ndarray:
        """Which rays meet no face that hides what is behind it."""
        rays = (np.ascontiguousarray(v, np.float32) for v in (origins, directions))
        return self._solids.run(*rays, query="OCCLUDED") < 0

    def seen(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 5"]:
        """Colour in [0, 1], opacity and distance of what rays meet, colour and distance multiplied by the opacity.

        Args:
            origins: where the rays begin.
            directions: of unit length.
        """
        out = np.zeros((len(origins), 5), np.float32)
        rays = np.arange(len(origins))
        left = np.ones(len(origins), np.float32)  # of the light that a ray carries
        gone = np.zeros(len(origins), np.float32)  # how far it has come
        origins, directions = (np.ascontiguousarray(v, np.float32) for v in (origins, directions))
        for _ in range(LAYERS if self._clear else 1):
            hits = self.hits(origins, directions)
            met = np.flatnonzero(hits["primID"] >= 0)
            if not len(met):
                break
            face, u, v, far = (hits[name][met] for name in ("primID", "u", "v", "tfar"))
            rays, left, gone, directions = rays[met], left[met], gone[met] + far, directions[met]
            back = (np.einsum("nd,nd->n", self.normals[face], directions) > 0).astype(np.intp)
            found = self.lit(face, np.stack([1 - u - v, u, v], axis=1), back)
            stopped = left * found[:, 3]
            out[rays, :3] += stopped[:, None] * found[:, :3]
            out[rays, 3] += stopped
            out[rays, 4] += stopped * gone
            left = left - stopped
            on = np.flatnonzero(left > FAINT)
            if not len(on):
                break
            gone = gone + BEHIND
            origins = origins[met][on] + (far[on] + BEHIND)[:, None] * directions[on]
            rays, left, gone, directions = rays[on], left[on], gone[on], directions[on]
        return out

    def colours(self, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
        """Colours without light, and opacities, of points given by their faces and the weights of the three corners."""
        if len(self._surfaces) == 1:
            return self._surfaces[0].at(face, weights)
        found = np.empty((len(face), 4), np.float32)
        which = self._first.searchsorted(face, side="right") - 1
        for index in np.unique(which):
            own = np.flatnonzero(which == index)
            found[own] = self._surfaces[index].at(face[own] - self._first[index], weights[own])
        return found

    def lit(
        self, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n 3"], back: Int[np.ndarray, "n"]
    ) -> Float[np.ndarray, "n 4"]:
        """`colours` in the light of `render_view`; `back` is 1 where the face is seen from behind, else 0."""
        found = self.colours(face, weights)
        found[:, :3] *= np.einsum("nk,nk->n", weights, self._shades[back, face])[:, None]
        return found

    @cached_property
    def _shades(self) -> Float[np.ndarray, "2 f 3"]:
        """The light on the corners of the faces' fronts, and of their backs."""
        return np.stack([_light(self.smooth), _light(-self.smooth)])

    def cloud(self, count: int, rng: np.random.Generator) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
        """Points of the surface that can be seen from outside, uniform by area, and their colours in the light.

        Of transparent surfaces there are as many points as they are opaque; of a sheet that is seen from both
        sides a point has the colour of one of them.

        Raises:
            UserError: hardly anything of the surface can be seen.
        """
        bound = np.cumsum(self.areas, dtype=np.float64)
        points, colours = [], []
        found = sampled = 0
        while found < count:
            number = math.ceil((count - found) * sampled / found * 1.05) + 64 if sampled else 4000
            face = np.minimum(bound.searchsorted(rng.random(number) * bound[-1], side="right"), len(bound) - 1)
            root, along = np.sqrt(rng.random(number)), rng.random(number)  # Osada et al. 2002, eq. 1
            weights = np.stack([1 - root, root * (1 - along), root * along], axis=1).astype(np.float32)
            at = np.einsum("nk,nkd->nd", weights, self.corners[face])
            side = self._side(at, self.normals[face], rng)
            shown = self.lit(face, weights, np.maximum(side, 0))
            kept = (side >= 0) & (rng.random(number) < shown[:, 3])
            points.append(at[kept])
            colours.append(np.rint(255 * shown[kept, :3]).astype(np.uint8))
            sampled, found = sampled + number, found + int(kept.sum())
            if found < 0.005 * sampled:
                raise UserError(f"only {found / sampled:.1%} of its surface can be seen")
        chosen = rng.permutation(found)[:count]
        return np.concatenate(points)[chosen], np.concatenate(colours)[chosen]

    def _side(
        self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], rng: np.random.Generator
    ) -> Int[np.ndarray, "n"]:
        """From which side of their faces points are seen from far away: 0 the front, 1 the back, -1 from none."""
        views = lattice(AROUND).astype(np.float32)
        begin = rng.integers(AROUND, size=len(points))  # else all points of a sheet would show the same side
        side = np.full(len(points), -1)
        left = np.arange(len(points))
        for turn in range(AROUND):
            towards = views[(begin[left] + 7 * turn) % AROUND]
            back = np.einsum("nd,nd->n", normals[left], towards) < 0
            free = self.free(points[left] + BEHIND * np.where(back, -1, 1)[:, None] * normals[left], towards)
            side[left[free]] = back[free]
            left = left[~free]
            if not len(left):
                break
        return side

    @cached_property
    def contact(self) -> Float[np.ndarray, "g g"]:
        """The part of the sky that each cell of the ground sees, (z, x), weighted by the cosine.

        The cells of a 3 x 3 block look in directions of their own, and the mean over such a block is taken.
        """
        line = REACH * (2 * np.arange(GROUND) + 1 - GROUND) / GROUND
        z, x = (v.reshape(-1) for v in np.meshgrid(line, line, indexing="ij"))
        origins = np.stack([x, np.full_like(x, self.floor - ABOVE), z], axis=1)
        row, column = np.divmod(np.arange(GROUND**2), GROUND)
        angle = 2 * np.pi * (4 * (row % 3 * 3 + column % 3) % 9) / 9
        turned = np.stack([np.cos(angle), np.sin(angle)])
        seen = np.zeros(GROUND**2)
        for k in range(SKY_RAYS):
            radius, around = math.sqrt((k + 0.5) / SKY_RAYS), math.pi * (3 - math.sqrt(5)) * k  # even over a disc
            flat = radius * np.array([[math.cos(around), -math.sin(around)], [math.sin(around), math.cos(around)]])
            dx, dz = flat @ turned
            seen += self.free(origins, np.stack([dx, np.full_like(dx, math.sqrt(1 - radius**2)), dz], axis=1))
        wide = np.pad((seen / SKY_RAYS).reshape(GROUND, GROUND), 1, mode="edge")
        return np.lib.stride_tricks.sliding_window_view(wide, (3, 3)).mean(axis=(2, 3))

    def ground_light(self, x: Float[np.ndarray, "n"], z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The contact map, bilinear; 1 beyond it, with a smooth way there."""
        from scipy.ndimage import map_coordinates

        cells = [(v / REACH + 1) * GROUND / 2 - 0.5 for v in (z, x)]
        fade = np.clip(3 * (1 - np.hypot(x, z) / REACH), 0, 1)
        return 1 - (1 - map_coordinates(self.contact, cells, order=1, mode="nearest")) * fade


def _tracer(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]):  # type: ignore[no-untyped-def]  # embreex has no types
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise missing_extra("embreex", "mesh") from error
    tracer = EmbreeScene()
    TriangleMesh(tracer, vertices.astype(np.float32), faces.astype(np.int32))
    return tracer


def parts(mesh: trimesh.Trimesh | trimesh.Scene) -> Iterator[tuple[Float[np.ndarray, "v 3"], trimesh.Trimesh]]:
    """The meshes of a scene with their vertices in the world; paths and clouds of points are passed over."""
    import trimesh

    if isinstance(mesh, trimesh.Trimesh):
        yield np.asarray(mesh.vertices, np.float64), mesh
        return
    for node in sorted(mesh.graph.nodes_geometry):
        matrix, name = mesh.graph[node]
        part = mesh.geometry[name]
        if isinstance(part, trimesh.Trimesh):
            yield np.asarray(part.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3], part


def _joined(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "f 3"]:
    """The same faces with one vertex a place: textures and materials cut surfaces that are smooth."""
    scale = 1e5 / max(float(np.ptp(vertices, axis=0).max()), 1e-30)
    places = np.rint((vertices - vertices.min(axis=0)) * scale).astype(np.int64) @ [1, 1 << 20, 1 << 40]
    return np.unique(places, return_inverse=True)[1].reshape(-1)[faces]


def _smooth(across: Float[np.ndarray, "f 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Unit normals of the faces' corners: the mean of the faces that go around the corner without a crease.

    Args:
        across: normals of the faces, as long as twice their areas.
    """
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components
    except ImportError as error:
        raise missing_extra("scipy", "mesh") from error

    own, corner = _unit(across), np.arange(faces.size).reshape(-1, 3)
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)  # of the edges, three a face
    corners = np.stack([corner, np.roll(corner, -1, axis=1)], axis=2).reshape(-1, 2)
    corners = np.take_along_axis(corners, ends.argsort(axis=1), axis=1)
    key = ends.min(axis=1) * (faces.max() + 1) + ends.max(axis=1)
    order = key.argsort(kind="stable")
    key, corners, normals = key[order], corners[order], own[order // 3]
    links = []
    for step in (1, 2, 3):  # of a sheet with two layers, four faces have one edge
        same = np.flatnonzero(key[step:] == key[:-step])
        same = same[np.einsum("nd,nd->n", normals[same], normals[same + step]) > CREASE]
        links.append(np.stack([corners[same], corners[same + step]]).reshape(2, -1))
    one, other = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(faces.size, faces.size))
    count, group = connected_components(graph, directed=False)
    sums = [np.bincount(group, np.repeat(across[:, axis], 3), minlength=count) for axis in range(3)]
    mean = _unit(np.stack(sums, axis=1))[group].reshape(-1, 3, 3)
    near = np.einsum("fkd,fd->fk", mean, own)[..., None] > CREASE  # a tip has no normal of its own
    return np.where(near, mean, own[:, None])


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


# the light of data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class MeshView:
    """An image of a mesh and what a ray caster knows about it."""

    colour: UInt8[np.ndarray, "h w 3"]  # composited on the background
    opacity: Float[np.ndarray, "h w"]  # 0 to 1: the share of the pixel's rays, and of their light, that is stopped
    depth: Float[np.ndarray, "h w"]  # from the camera along the ray, mean of what is met; 0 where that is nothing

    def rgba(self, background: Colour = WHITE) -> UInt8[np.ndarray, "h w 4"]:
        """As PNG files have it, colour not multiplied by opacity; on this background it is `colour` again.

        Args:
            background: the one that it was rendered on; it also fills what is fully transparent.
        """
        opacity = np.rint(255 * self.opacity)[..., None]
        behind = np.array(background, np.float32)
        own = behind + (self.colour - behind) * (255 / np.maximum(opacity, 1))
        return np.concatenate([np.rint(np.clip(own, 0, 255)), opacity], axis=2).astype(np.uint8)


def render_view(
    mesh: trimesh.Trimesh | trimesh.Scene | TracedMesh,
    camera: Camera,
    *,
    background: Colour = WHITE,
    supersampling: int = 2,
) -> MeshView:
    """What a camera sees of a mesh with its textures, materials, or colours of faces or vertices. Deterministic.

    Args:
        mesh: a `TracedMesh` when there are many views of one mesh.
        background: red, green, blue in 0-255.
        supersampling: along each side of a pixel, how many rays.

    Raises:
        UserError: a package is missing, there are no faces, or supersampling is not positive.
    """
    if supersampling < 1:
        raise UserError(f"supersampling must be 1 or more rays along a pixel's side, not {supersampling}")
    traced = mesh if isinstance(mesh, TracedMesh) else TracedMesh(mesh, detail=spacing(camera, supersampling))
    height, width = camera.size
    origins, directions = camera.resized((height * supersampling, width * supersampling)).rays()
    seen = traced.seen(origins.numpy(), directions.numpy())
    rays = seen.reshape(height, supersampling, width, supersampling, 5)
    which = np.ndindex(supersampling, supersampling)
    mean = np.sum([rays[:, row, :, column] for row, column in which], axis=0) / supersampling**2
    opacity = mean[..., 3]
    colour = 255 * mean[..., :3] + (1 - opacity[..., None]) * np.array(background, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(opacity > 0, mean[..., 4] / opacity, np.float32(0))
    return MeshView(colour=np.rint(np.clip(colour, 0, 255)).astype(np.uint8), opacity=opacity, depth=depth)


def spacing(camera: Camera, supersampling: int = 2) -> float:
    """How far apart its rays are at the distance of the origin: the detail that a view can show."""
    return float(camera.pose[:3, 3].norm()) / camera.focal / supersampling


def lit(colours: Float[np.ndarray, "*n 3"], normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Colours in [0, 1] of surfaces with these unit normals, towards the eye, as `render_view` shows them."""
    return np.asarray(colours * _light(normals)[..., None], np.float32)


def _light(normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """What the light makes of a displayed colour: (c^g L)^(1/g) = c L^(1/g)."""
    key, fill = (np.array(lamp) / np.linalg.norm(lamp) for lamp in (KEY_FROM, FILL_FROM))
    light = AMBIENT + SKY * (1 + normals[..., 1]) / 2
    light = light + KEY * np.clip(normals @ key, 0, None) + FILL * np.clip(normals @ fill, 0, None)
    return np.asarray(np.clip(light, 0, 1) ** (1 / GAMMA), np.float32)


# the light of pages ---------------------------------------------------------------------------------------------------


def shaded(
    mesh: trimesh.Trimesh,
    size: int | tuple[int, int] = 256,
    *,
    azimuth: float = 35.0,
    elevation: float = 20.0,
    colour: Colour | None = None,
    background: Colour = WHITE,
    ground: bool = True,
) -> Image.Image:
    """An image of a mesh that lies in [-1, 1]^3: perspective, y up, soft shadows, antialiased. Deterministic.

    Args:
        mesh: its own colours are used where it has some.
        size: pixels, one number or (height, width).
        azimuth: degrees around y; 0 looks from +z, 90 from +x. The lights go round with the camera.
        elevation: degrees above the horizon, -90 to 90.
        colour: red, green, blue in 0-255, in place of the mesh's own or of the blue-grey.
        ground: whether there is a shadow on the ground below the mesh.

    Returns:
        An RGB image; of a mesh without faces, one that says so.

    Raises:
        UserError: the package embreex is missing, or a number is out of its range.
    """
    return turntable(
        mesh, size, 1, azimuth=azimuth, elevation=elevation, colour=colour, background=background, ground=ground
    ).image(0)


def turntable(
    mesh: trimesh.Trimesh,
    size: int | tuple[int, int] = 192,
    frames: int = 24,
    *,
    azimuth: float = 35.0,
    elevation: float = 20.0,
    colour: Colour | None = None,
    background: Colour = WHITE,
    ground: bool = True,
    fps: float = 12.0,
) -> Clip:
    """A mesh turning once: frame k is `shaded` from azimuth + 360 k / frames; arguments and errors as there."""
    if frames < 1:
        raise UserError(f"a turntable has at least one frame, not {frames}")
    height, width = check_size(size, 2)
    first = Camera.orbit(azimuth, elevation, size=(height, width))  # raises for an elevation out of range
    traced = TracedMesh(mesh, colour=colour) if len(mesh.faces) else None

    def frame(k: int) -> UInt8[np.ndarray, "h w 3"]:
        if traced is None:
            return _note(EMPTY, first.size, background)
        turn = azimuth + 360.0 * k / frames
        return _shaded(traced, turn, elevation, first.size, background, ground)

    return Clip(frame, frames, (height, width), fps)


def _shaded(
    traced: TracedMesh, azimuth: float, elevation: float, size: tuple[int, int], background: Colour, ground: bool
) -> UInt8[np.ndarray, "h w 3"]:
    camera = Camera.orbit(azimuth, elevation, size=size)
    eye = camera.pose[:3, 3].numpy()
    level = Camera.orbit(azimuth, 0.0).pose[:3, :3].T.numpy()  # lights go round with the camera, but not up with it
    total = np.zeros((math.prod(size), 3), np.float32)
    for turn, (right, down) in enumerate(SUBSAMPLES):
        x, y = camera.middle
        rays = replace(camera, centre=(x - right, y - down)).rays()[1].double().numpy()
        hits = traced.hits(np.broadcast_to(eye, rays.shape), rays)
        colours = np.tile(np.array(background, np.float32), (len(rays), 1))
        seen = hits["primID"] >= 0
        if ground and eye[1] > traced.floor:
            below = np.flatnonzero(~seen & (rays[:, 1] < -1e-6))
            place = eye + rays[below] * ((traced.floor - eye[1]) / rays[below, 1])[:, None]
            near = np.hypot(place[:, 0], place[:, 2]) < REACH
            light = traced.ground_light(place[near, 0], place[near, 2])
            colours[below[near]] *= (1 - 0.7 * (1 - light))[:, None]
        if seen.any():
            met = {name: values[seen] for name, values in hits.items()}
            colours[seen] = _clay(traced, met, eye, rays[seen], level, turn)
        total += colours
    return np.rint(total / len(SUBSAMPLES)).astype(np.uint8).reshape(*size, 3)


def _clay(
    traced: TracedMesh,
    met: dict[str, np.ndarray],
    eye: Float[np.ndarray, "3"],
    rays: Float[np.ndarray, "n 3"],
    level: Float[np.ndarray, "3 3"],
    turn: int,
) -> Float[np.ndarray, "n 3"]:
    """Colours 0-255 of what rays meet: a key light with its shadow, a fill, a rim, and the sky as far as it is seen.

    Args:
        level: rows: right, up and back of the camera when it stands level; turn: number of the subsample.
    """
    face = met["primID"]
    weights = np.stack([1 - met["u"] - met["v"], met["u"], met["v"]], axis=1)
    albedo = traced.colours(face, weights)[:, :3] ** GAMMA
    flat, normal = traced.normals[face].astype(np.float64), _unit(np.einsum("nk,nkd->nd", weights, traced.smooth[face]))
    flat *= -np.sign((flat * rays).sum(axis=1, keepdims=True))  # both sides of a sheet are seen
    normal *= np.sign((normal * flat).sum(axis=1, keepdims=True))
    place = eye + rays * met["tfar"][:, None] + ABOVE * flat

    def seen_from(direction: Float[np.ndarray, "3"], facing: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The cosine `facing` where it is positive and the way is free, else 0."""
        found, to = np.zeros(len(facing)), np.flatnonzero(facing > 0)
        found[to] = facing[to] * traced.free(place[to], np.broadcast_to(direction, (len(to), 3)))
        return found

    key, fill, rim = (_unit(np.array(light)) @ level for light in LIGHTS)
    key = _unit(key + 0.12 * (np.array(SUBSAMPLES[turn]) @ level[:2]))  # a soft edge of its shadow
    direct = seen_from(key, (normal @ key) * (flat @ key > 0))
    sky = [(direction, flat @ direction) for direction in lattice(SKY_RAYS)[turn :: len(SUBSAMPLES)] @ level]
    most = sum(np.clip(facing, 0, None) for _, facing in sky)
    open_sky = sum(seen_from(direction, facing) for direction, facing in sky) / np.maximum(most, 1e-6)
    ambient = 0.16 + 0.21 * (1 + normal[:, 1]) + 0.16 * np.clip(normal @ fill, 0, 1) + 0.1 * np.clip(normal @ rim, 0, 1)
    light = 0.04 + 1.05 * direct + open_sky * ambient
    return (255 * np.clip(albedo * light[:, None], 0, 1) ** (1 / GAMMA)).astype(np.float32)


def _note(text: str, size: tuple[int, int], background: Colour) -> UInt8[np.ndarray, "h w 3"]:
    """An empty image with these words in its middle, one below the other."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    image = Image.new("RGB", (width, height), background)
    grey = (140, 140, 140) if sum(background) > 384 else (190, 190, 190)
    font = ImageFont.load_default(max(8, min(size) / 13))
    words = text.replace(" ", "\n")
    at = (width / 2, height / 2)
    ImageDraw.Draw(image).multiline_text(at, words, fill=grey, font=font, anchor="mm", align="center")
    return np.asarray(image)
