"""Photographs of coloured meshes by ray casting: a point has one colour, from wherever it is looked at.

What a radiance field learns from needs views that agree. So the light stands still in the world and is scattered evenly
(Lambert), nothing shines or throws a shadow, and textures are blurred once, in themselves, not in the picture.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ddmi.base.errors import UserError, missing_extra
from ddmi.rendering.cameras import Camera
from ddmi.rendering.shading import CLAY, CREASE, WHITE, Colour

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

log = logging.getLogger(__name__)

FOV = 40.0
"""Angle of view of the cameras of `sphere`, degrees."""
RADIUS = 1.575
"""Of the ball about the origin that these cameras just see: a box whose longest side is 2 / 1.1 is never cut off."""

GAMMA = 2.2
AMBIENT, SKY, KEY, FILL = 0.33, 0.13, 0.40, 0.14
"""Of the light, at the most about 0.85, so that white stays apart from white paper: from everywhere, from above, and
from the two lamps."""
KEY_FROM, FILL_FROM = (0.45, 0.70, 0.55), (-0.80, 0.15, -0.58)
"""Where the lamps stand, in the world."""

LAYERS = 24
"""Of transparent surfaces, one behind the other; what is behind them is not seen."""
FAINT = 1 / 512
"""A ray that carries less than this on is at its end."""
LIFT = 1e-4
"""A ray goes on so far behind the surface that it has passed."""
AROUND = 48
"""Directions from which a point of the surface may be seen."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Photograph:
    """One picture and what a ray caster knows about it."""

    colour: UInt8[np.ndarray, "h w 3"]  # composited on the background
    opacity: Float[np.ndarray, "h w"]  # 0 to 1: the share of the pixel's rays, and of their light, that is stopped
    depth: Float[np.ndarray, "h w"]  # from the camera along the ray, mean of what is met; 0 where that is nothing

    def straight(self, background: Colour = WHITE) -> UInt8[np.ndarray, "h w 4"]:
        """RGBA as PNG files have it, colour not multiplied by opacity; on this background it is `colour` again.

        Args:
            background: the one that the photograph was taken on; it also fills what is fully transparent.
        """
        opacity = np.rint(255 * self.opacity)[..., None]
        behind = np.array(background, np.float32)
        own = behind + (self.colour - behind) * (255 / np.maximum(opacity, 1))
        return np.concatenate([np.rint(np.clip(own, 0, 255)), opacity], axis=2).astype(np.uint8)


def photograph(
    mesh: trimesh.Trimesh | trimesh.Scene | Subject,
    camera: Camera,
    *,
    background: Colour = WHITE,
    supersampling: int = 2,
) -> Photograph:
    """What a camera sees of a mesh with its textures, materials, or colours of faces or vertices. Deterministic.

    Args:
        mesh: a `Subject` when there are many pictures of one mesh.
        background: red, green, blue in 0-255.
        supersampling: along each side of a pixel, how many rays.

    Raises:
        UserError: a package is missing, there are no faces, or supersampling is not positive.
    """
    if supersampling < 1:
        raise UserError(f"supersampling must be 1 or more rays along a pixel's side, not {supersampling}")
    subject = mesh if isinstance(mesh, Subject) else Subject(mesh, detail=spacing(camera, supersampling))
    height, width = camera.size
    origins, directions = camera.resized((height * supersampling, width * supersampling)).rays()
    seen = subject.seen(origins.numpy(), directions.numpy())
    rays = seen.reshape(height, supersampling, width, supersampling, 5)
    which = np.ndindex(supersampling, supersampling)
    mean = np.sum([rays[:, row, :, column] for row, column in which], axis=0) / supersampling**2
    opacity = mean[..., 3]
    colour = 255 * mean[..., :3] + (1 - opacity[..., None]) * np.array(background, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(opacity > 0, mean[..., 4] / opacity, np.float32(0))
    return Photograph(colour=np.rint(np.clip(colour, 0, 255)).astype(np.uint8), opacity=opacity, depth=depth)


def spacing(camera: Camera, supersampling: int = 2) -> float:
    """How far apart its rays are at the distance of the origin: the detail that a picture can show."""
    return float(camera.pose[:3, 3].norm()) / camera.focal / supersampling


def sphere(
    count: int,
    *,
    size: int | tuple[int, int] = 128,
    elevation: tuple[float, float] = (-10.0, 80.0),
    fov: float = FOV,
    radius: float = RADIUS,
    seed: int = 0,
) -> list[Camera]:
    """Cameras spread evenly over a zone of the sphere around the origin (a Fibonacci lattice), all at one distance.

    Args:
        elevation: degrees, lowest and highest; (-90, 90) is the whole sphere.
        fov: degrees, across the shorter side of the picture.
        radius: of the ball about the origin that just fits into the picture.
        seed: of how the lattice is turned around y and moved along the zone, and of the order of the cameras.

    Raises:
        UserError: no camera, or a range that is none.
    """
    low, high = elevation
    if count < 1:
        raise UserError(f"there must be at least one view, not {count}")
    if not -90 <= low <= high <= 90:
        raise UserError(f"elevations go from -90 up to 90 degrees, not from {low} to {high}")
    if not (0 < fov < 180 and radius > 0):
        raise UserError(f"an angle of view is between 0 and 180 degrees and a radius positive, not {fov} and {radius}")
    rng = np.random.default_rng(seed)
    turn, shift = rng.random(2)
    bottom, top = math.sin(math.radians(low)), math.sin(math.radians(high))  # equal heights have equal areas
    return [
        Camera.orbit(
            math.degrees(math.pi * (3 - math.sqrt(5)) * k) + 360 * turn,
            math.degrees(math.asin(bottom + (top - bottom) * (k + shift) / count)),
            distance=radius / math.sin(math.radians(fov / 2)),
            fov=fov,
            size=size,
        )
        for k in rng.permutation(count)  # the first few are spread too
    ]


def lit(colours: Float[np.ndarray, "*n 3"], normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Colours in [0, 1] of surfaces with these unit normals, towards the eye, as photographs show them."""
    return np.asarray(colours * _shade(normals)[..., None], np.float32)


def _shade(normals: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """What the light makes of a displayed colour: (c^g L)^(1/g) = c L^(1/g)."""
    key, fill = (np.array(lamp) / np.linalg.norm(lamp) for lamp in (KEY_FROM, FILL_FROM))
    light = AMBIENT + SKY * (1 + normals[..., 1]) / 2
    light = light + KEY * np.clip(normals @ key, 0, None) + FILL * np.clip(normals @ fill, 0, None)
    return np.asarray(np.clip(light, 0, 1) ** (1 / GAMMA), np.float32)


class Subject:
    """A mesh, or the meshes of a scene, in a ray tracer with their colours: all that no camera changes.

    Args:
        detail: textures are blurred so that nothing smaller than this length shows (see `spacing`); 0: as they are.

    Raises:
        UserError: a package is missing, or there are no faces.
    """

    def __init__(self, mesh: trimesh.Trimesh | trimesh.Scene, *, detail: float = 0.0):
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise missing_extra("embreex", "mesh") from error
        found = [(vertices, np.asarray(part.faces), part) for vertices, part in parts(mesh) if len(part.faces)]
        if not found:
            raise UserError("a mesh without faces cannot be photographed")
        self._surfaces = [_surface(vertices[faces], part, detail) for vertices, faces, part in found]
        self._first = np.cumsum([0, *(len(faces) for _, faces, _ in found)])  # of the faces of each surface
        shifts = np.cumsum([0, *(len(vertices) for vertices, _, _ in found)])
        vertices = np.concatenate([vertices for vertices, _, _ in found])
        faces = np.concatenate([faces + shift for (_, faces, _), shift in zip(found, shifts, strict=False)])
        self.corners = vertices[faces].astype(np.float32)  # (f, 3, 3)
        across = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
        self.areas = np.linalg.norm(across, axis=1) / 2
        self.normals = _unit(across).astype(np.float32)
        smooth = _smooth(across, _joined(vertices, faces))
        self._shades = np.stack([_shade(smooth), _shade(-smooth)])  # (side, f, 3): the face's front, its back
        self._clear = any(surface.clear for surface in self._surfaces)
        solid = self._solid()
        self._all = EmbreeScene()
        TriangleMesh(self._all, vertices.astype(np.float32), faces.astype(np.int32))
        self._solids = self._all
        if not solid.all():
            self._solids = EmbreeScene()
            hiding = faces[solid] if solid.any() else faces[:1]
            TriangleMesh(self._solids, vertices.astype(np.float32), hiding.astype(np.int32))

    def _solid(self) -> Bool[np.ndarray, "f"]:
        """Which faces hide what is behind them."""
        counts = np.diff(self._first)
        return np.concatenate([np.broadcast_to(s.solid, n) for s, n in zip(self._surfaces, counts, strict=True)])

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
            hits = self._all.run(origins, directions, output=1)
            met = np.flatnonzero(hits["primID"] >= 0)
            if not len(met):
                break
            face, u, v, far = (hits[name][met] for name in ("primID", "u", "v", "tfar"))
            rays, left, gone, directions = rays[met], left[met], gone[met] + far, directions[met]
            back = (np.einsum("nd,nd->n", self.normals[face], directions) > 0).astype(np.intp)
            found = self.colours(face, np.stack([1 - u - v, u, v], axis=1), back)
            stopped = left * found[:, 3]
            out[rays, :3] += stopped[:, None] * found[:, :3]
            out[rays, 3] += stopped
            out[rays, 4] += stopped * gone
            left = left - stopped
            on = np.flatnonzero(left > FAINT)
            if not len(on):
                break
            gone = gone + LIFT
            origins = origins[met][on] + (far[on] + LIFT)[:, None] * directions[on]
            rays, left, gone, directions = rays[on], left[on], gone[on], directions[on]
        return out

    def colours(
        self, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n 3"], back: Int[np.ndarray, "n"]
    ) -> Float[np.ndarray, "n 4"]:
        """Colours in the light, and opacities, of points given by their faces and the weights of the three corners.

        Args:
            back: 1 where the face is seen from behind, else 0.
        """
        if len(self._surfaces) == 1:
            found = self._surfaces[0].at(face, weights)
        else:
            found = np.empty((len(face), 4), np.float32)
            which = self._first.searchsorted(face, side="right") - 1
            for index in np.unique(which):
                own = np.flatnonzero(which == index)
                found[own] = self._surfaces[index].at(face[own] - self._first[index], weights[own])
        found[:, :3] *= np.einsum("nk,nk->n", weights, self._shades[back, face])[:, None]
        return found

    def cloud(self, count: int, rng: np.random.Generator) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
        """Points of the surface that can be seen from outside, uniform by area, and their colours in the light.

        Of transparent surfaces there are as many points as they are opaque; of a sheet that is seen from both
        sides a point has the colour of one of them.

        Raises:
            UserError: hardly anything of the surface can be seen.
        """
        bound = np.cumsum(self.areas, dtype=np.float64)
        points, colours = [], []
        found = drawn = 0
        while found < count:
            share = found / drawn if drawn else 1.0
            ask = math.ceil((count - found) / share * 1.05) + 64 if drawn else 4000
            face = np.minimum(bound.searchsorted(rng.random(ask) * bound[-1], side="right"), len(bound) - 1)
            root, along = np.sqrt(rng.random(ask)), rng.random(ask)  # Osada et al. 2002, eq. 1
            weights = np.stack([1 - root, root * (1 - along), root * along], axis=1).astype(np.float32)
            at = np.einsum("nk,nkd->nd", weights, self.corners[face])
            side = self._side(at, self.normals[face], rng)
            shown = self.colours(face, weights, np.maximum(side, 0))
            kept = (side >= 0) & (rng.random(ask) < shown[:, 3])
            points.append(at[kept])
            colours.append(np.rint(255 * shown[kept, :3]).astype(np.uint8))
            drawn, found = drawn + ask, found + int(kept.sum())
            if found < 0.005 * drawn:
                raise UserError(f"only {found / drawn:.1%} of its surface can be seen")
        chosen = rng.permutation(found)[:count]
        return np.concatenate(points)[chosen], np.concatenate(colours)[chosen]

    def _side(
        self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], rng: np.random.Generator
    ) -> Int[np.ndarray, "n"]:
        """From which side of their faces points are seen from far away: 0 the front, 1 the back, -1 from none."""
        height = 1 - (2 * np.arange(AROUND) + 1) / AROUND
        angle, across = np.pi * (3 - math.sqrt(5)) * np.arange(AROUND), np.sqrt(1 - height**2)
        views = np.stack([across * np.cos(angle), height, across * np.sin(angle)], axis=1).astype(np.float32)
        begin = rng.integers(AROUND, size=len(points))  # else all points of a sheet would show the same side
        side = np.full(len(points), -1)
        left = np.arange(len(points))
        for turn in range(AROUND):
            towards = views[(begin[left] + 7 * turn) % AROUND]
            back = np.einsum("nd,nd->n", normals[left], towards) < 0
            origins = points[left] + LIFT * np.where(back, -1, 1)[:, None] * normals[left]
            free = self._solids.run(origins.astype(np.float32), towards, query="OCCLUDED") < 0
            side[left[free]] = back[free]
            left = left[~free]
            if not len(left):
                break
        return side


@dataclass(frozen=True, eq=False, kw_only=True)
class _Surface:
    """The colours of one mesh without the light; all in [0, 1] and as displayed, not linear."""

    colours: Float[np.ndarray, "#f #k 4"]  # of the faces' corners, or one for all
    texture: UInt8[np.ndarray, "h w 4"] | None = None  # times these
    places: Float[np.ndarray, "f 3 2"] | None = None  # of the corners in the texture, in texels: x, y from its top
    tiled: bool = True  # whether the texture repeats beyond its borders
    cutoff: float | None = None  # what is less opaque is not there at all, all else is solid

    @property
    def clear(self) -> bool:
        """Whether light may go through it."""
        return bool(self.colours[..., 3].min() < 1 or (self.texture is not None and self.texture[..., 3].min() < 255))

    @property
    def solid(self) -> Bool[np.ndarray, "f"]:
        """Which faces hide what is behind them."""
        return self.colours[..., 3].min(axis=1) >= 0.5

    def at(self, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
        """Red, green, blue, opacity of points given by the weights of a face's corners."""
        if self.colours.shape[1] > 1:
            found = np.einsum("nk,nkc->nc", weights, self.colours[face])
        else:
            found = self.colours[face if len(self.colours) > 1 else np.zeros_like(face), 0]
        if self.texture is not None and self.places is not None:
            found = found * _looked_up(self.texture, np.einsum("nk,nkc->nc", weights, self.places[face]), self.tiled)
        if self.cutoff is not None:
            found[:, 3] = found[:, 3] >= self.cutoff
        return np.asarray(found, np.float32)


def _looked_up(
    texture: UInt8[np.ndarray, "h w 4"], places: Float[np.ndarray, "n 2"], tiled: bool
) -> Float[np.ndarray, "n 4"]:
    """Bilinear interpolation between the middles of texels, in [0, 1]."""
    size = np.array(texture.shape[1::-1])
    low = np.floor(places - 0.5)
    part = (places - 0.5 - low).astype(np.float32)
    near = low.astype(np.int64)

    def fold(texels: np.ndarray) -> np.ndarray:
        return texels % size if tiled else np.clip(texels, 0, size - 1)

    (x0, y0), (x1, y1) = fold(near).T, fold(near + 1).T
    x, y = part[:, :1], part[:, 1:]
    upper = texture[y0, x0] * (1 - x) + texture[y0, x1] * x
    lower = texture[y1, x0] * (1 - x) + texture[y1, x1] * x
    return (upper * (1 - y) + lower * y) / 255


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


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def _surface(corners: Float[np.ndarray, "f 3 3"], mesh: trimesh.Trimesh, detail: float) -> _Surface:
    from trimesh.visual import ColorVisuals, TextureVisuals

    visual, faces = mesh.visual, np.asarray(mesh.faces)
    if isinstance(visual, TextureVisuals):
        return _textured(corners, mesh, detail)
    if isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        return _Surface(colours=_visible(np.asarray(visual.vertex_colors))[faces])
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        return _Surface(colours=_visible(np.asarray(visual.face_colors))[:, None])
    return _Surface(colours=_rgba(CLAY)[None, None])


def _textured(corners: Float[np.ndarray, "f 3 3"], mesh: trimesh.Trimesh, detail: float) -> _Surface:
    """The surface of a material: its image where it has one and the corners have places in it, times a colour."""
    visual: Any = mesh.visual
    faces = np.asarray(mesh.faces)
    made = _material(visual.material)
    uv, painted = visual.uv, mesh.vertex_attributes.get("COLOR_0")
    image = _read(made.image) if made.image is not None and uv is not None and len(uv) > faces.max() else None
    colours = made.plain if image is None else made.tint
    if painted is not None:  # of glTF: linear, times the material's
        colours = colours * _displayed(np.asarray(painted, np.float32))[faces]
        if made.solid:
            colours[..., 3] = 1
    if image is None:
        return _Surface(colours=colours, cutoff=made.cutoff)
    places = np.nan_to_num(np.asarray(uv, np.float64)[faces])
    places[..., 1] = 1 - places[..., 1]  # v points up
    tiled = bool(places.min() < -1e-3 or places.max() > 1 + 1e-3)
    if tiled:
        places -= np.floor(places.min(axis=1, keepdims=True))  # float32 is too coarse far from 0
    texture = _blurred(image, places, corners, detail)
    if made.solid or not texture[..., 3].any():  # where all is fully transparent nobody meant it
        texture[..., 3] = 255
    places = (places * texture.shape[1::-1]).astype(np.float32)
    return _Surface(colours=colours, texture=texture, places=places, tiled=tiled, cutoff=made.cutoff)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Made:
    """What a material says, whichever format it comes from."""

    image: Image.Image | None
    tint: Float[np.ndarray, "1 1 4"]  # times the image
    plain: Float[np.ndarray, "1 1 4"]  # where there is no image
    solid: bool = False  # nothing is transparent, whatever the image says
    cutoff: float | None = None


def _material(material: Any) -> _Made:
    from trimesh.visual.material import PBRMaterial

    if isinstance(material, PBRMaterial):  # of glTF: the image times a factor, which is linear
        factor = _rgba([255] * 4 if material.baseColorFactor is None else material.baseColorFactor)[None, None]
        factor = _displayed(factor)
        mode = material.alphaMode or "OPAQUE"
        if mode == "OPAQUE":
            factor[..., 3] = 1
        cutoff = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
        return _Made(
            image=material.baseColorTexture,
            tint=factor,
            plain=factor,
            solid=mode == "OPAQUE",
            cutoff=cutoff if mode == "MASK" else None,
        )
    plain = _rgba(getattr(material, "main_color", CLAY))[None, None]
    plain[..., 3] *= _dissolve(getattr(material, "kwargs", {}))
    tint = plain.copy()
    tint[..., :3] = 1  # of OBJ: the image in place of the colour, which many programs write black then
    return _Made(image=getattr(material, "image", None), tint=tint, plain=plain)


def _rgba(colours: Any) -> Float[np.ndarray, "*n 4"]:
    """Colours as numbers in [0, 1], from bytes or such numbers, opaque where nothing is said."""
    values = np.asarray(colours)
    whole = values.dtype.kind in "ui"
    values = values[..., :4].astype(np.float32) / (255 if whole else 1)
    wide = np.ones((*values.shape[:-1], 4), np.float32)
    wide[..., : values.shape[-1]] = values
    return wide


def _displayed(colours: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Linear colours as sRGB shows them, opacity as it is."""
    from trimesh.visual.color import linear_to_srgb

    shown = np.clip(colours, 0, 1)
    shown[..., :3] = linear_to_srgb(shown[..., :3])
    return shown


def _visible(colours: UInt8[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Colours in [0, 1]; where all are fully transparent nobody meant it."""
    found = _rgba(colours)
    if not found[:, 3].any():
        found[:, 3] = 1
    return found


def _dissolve(settings: dict[str, Any]) -> float:
    """The opacity that a material of an MTL file has: `d`, or 1 - `Tr`."""
    try:
        if "d" in settings:
            return float(np.clip(float(settings["d"][-1]), 0, 1))
        return 1 - float(np.clip(float(settings["tr"][-1]), 0, 1)) if "tr" in settings else 1.0
    except (TypeError, ValueError, IndexError):
        return 1.0


def _read(image: Image.Image) -> Image.Image | None:
    try:
        return image.convert("RGBA")
    except Exception as error:  # readers of pictures raise nearly every kind of error on a broken file
        log.warning("a texture cannot be read, its material's colour takes its place: %s", error)
        return None


def _blurred(
    image: Image.Image, places: Float[np.ndarray, "f 3 2"], corners: Float[np.ndarray, "f 3 3"], detail: float
) -> UInt8[np.ndarray, "h w 4"]:
    """The texture with as many texels as can be told apart, on the mean of its faces."""
    from PIL import Image

    a, b = places[:, 1] - places[:, 0], places[:, 2] - places[:, 0]
    there = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    here = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    texels = detail * math.sqrt(there * image.width * image.height / max(here, 1e-30))  # a length of `detail` has
    if texels > 1:
        size = (max(1, round(image.width / texels)), max(1, round(image.height / texels)))
        image = image.resize(size, Image.Resampling.BOX)
    return np.array(image)
