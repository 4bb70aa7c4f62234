"""Pictures of meshes by ray casting on the processor: a clay look, the same scale and light for all shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from ddmi.base.coordinates import check_size
from ddmi.base.errors import UserError, missing_extra
from ddmi.base.storage import aside
from ddmi.rendering.mesh import EMPTY

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

Colour = tuple[int, int, int]

CLAY: Colour = (126, 150, 178)
WHITE: Colour = (255, 255, 255)

DISTANCE = 5.5
"""From the camera to the origin. The shape spans [-1, 1]^3."""

EXTENT = 1.38
"""What the picture shows of the plane through the origin, from its middle to the nearer edge."""

SUBSAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Offsets of the rays of a pixel, in pixels."""

SKY = 56
"""Directions from which the sky's light is gathered; a ray of a pixel takes every fourth."""

GROUND = 72
"""Cells a side of the map of the ground's contact shadow, over [-REACH, REACH]^2."""

REACH = 1.8
LIFT = 2e-3
"""Secondary rays start so far above the surface."""

LIGHTS = ((-0.6, 1.15, 0.7), (0.9, 0.2, 0.6), (0.3, 0.5, -1.0))
"""Where the key, the fill and the rim light stand: right, up and back of a level camera."""

CREASE = math.cos(math.radians(40))
"""A corner is shaded smoothly when its face is turned less than 40 degrees away from the mean of its neighbours."""


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
    """A picture of a mesh that lies in [-1, 1]^3: perspective, y up, soft shadows, antialiased. Deterministic.

    Args:
        mesh: its own vertex or face colours are used where it has some.
        size: pixels, one number or (height, width).
        azimuth: degrees around y; 0 looks from +z, 90 from +x. The lights go round with the camera.
        elevation: degrees above the horizon, -90 to 90.
        colour: red, green, blue in 0-255, in place of the mesh's own or of the blue-grey.
        ground: whether there is a shadow on the ground below the mesh.

    Returns:
        An RGB picture; of a mesh without faces, one that says so.

    Raises:
        UserError: the package embreex is missing, or a number is out of its range.
    """
    view = _View(check_size(size, 2), azimuth, elevation, background, ground)
    return _picture(_Scene(mesh, colour) if len(mesh.faces) else None, view)


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
) -> list[Image.Image]:
    """Pictures from all around: frame k is `shaded` from azimuth + 360 k / frames; arguments and errors as there."""
    if frames < 1:
        raise UserError(f"a turntable has at least one frame, not {frames}")
    view = _View(check_size(size, 2), azimuth, elevation, background, ground)
    scene = _Scene(mesh, colour) if len(mesh.faces) else None
    return [_picture(scene, replace(view, azimuth=azimuth + 360.0 * k / frames)) for k in range(frames)]


def write_animation(frames: Sequence[Image.Image], path: Path | str, fps: float = 12.0) -> None:
    """Write pictures as an endless animation, aside first: .gif (one palette for all) or .webp, by the name's ending.

    Args:
        frames: of one size. fps: frames a second; a .gif rounds the time of a frame to 1/100 s.

    Raises:
        UserError: the name has another ending, there is no picture, or fps is not positive.
        WorkError: the disk is full or the place cannot be written; what stood there is untouched.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".gif", ".webp"):
        raise UserError(f"{path}: an animation is written as .gif or .webp, by the ending of its name")
    if not frames or fps <= 0:
        raise UserError(f"{path}: an animation has at least one frame and a positive fps, not {len(frames)} and {fps}")
    images, options = [frame.convert("RGB") for frame in frames], {}
    if ending == ".gif":
        images = _one_palette(images)
        options = {"disposal": 1, "optimize": False}
    else:
        options = {"quality": 85, "method": 4}
    with aside(path) as scratch:
        images[0].save(
            scratch,
            format=ending[1:].upper(),
            save_all=True,
            append_images=images[1:],
            duration=round(1000 / fps),
            loop=0,
            **options,
        )


def _one_palette(images: list[Image.Image]) -> list[Image.Image]:
    """The pictures in the 256 colours that suit some of them best, so that colours do not flicker."""
    from PIL import Image

    some = images[:: -(-len(images) // 8)]
    width, height = some[0].size
    strip = Image.new("RGB", (width, height * len(some)))
    for k, image in enumerate(some):
        strip.paste(image, (0, k * height))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


class _Scene:
    """A mesh in a ray tracer, what its corners look like, and the shadow below it: all that no camera changes."""

    def __init__(self, mesh: trimesh.Trimesh, colour: Colour | None):
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise missing_extra("embreex", "mesh") from error
        vertices, faces = np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces)
        self.tracer = EmbreeScene()
        TriangleMesh(self.tracer, vertices.astype(np.float32), faces.astype(np.int32))
        self.normals = _corner_normals(vertices, faces)
        self.colours = _corner_colours(mesh, colour)
        self.floor = float(vertices[faces, 1].min())

    def first(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> dict[str, np.ndarray]:
        """Face (-1: none), distance and place within the face of what each ray meets first."""
        return self.tracer.run(origins.astype(np.float32), directions.astype(np.float32), output=1)

    def free(self, origins: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """1 where a ray meets nothing, else 0."""
        hit = self.tracer.run(origins.astype(np.float32), directions.astype(np.float32), query="OCCLUDED")
        return (hit < 0).astype(np.float32)

    @cached_property
    def contact(self) -> Float[np.ndarray, "g g"]:
        """The part of the sky that each cell of the ground sees, (z, x), weighted by the cosine.

        The cells of a 3 x 3 block look in directions of their own, and the mean over such a block is taken.
        """
        line = REACH * (2 * np.arange(GROUND) + 1 - GROUND) / GROUND
        z, x = (v.reshape(-1) for v in np.meshgrid(line, line, indexing="ij"))
        origins = np.stack([x, np.full_like(x, self.floor - LIFT), z], axis=1)
        row, column = np.divmod(np.arange(GROUND**2), GROUND)
        angle = 2 * np.pi * (4 * (row % 3 * 3 + column % 3) % 9) / 9
        turned = np.stack([np.cos(angle), np.sin(angle)])
        seen = np.zeros(GROUND**2)
        for k in range(SKY):
            radius, around = math.sqrt((k + 0.5) / SKY), math.pi * (3 - math.sqrt(5)) * k  # even over the disc below
            flat = radius * np.array([[math.cos(around), -math.sin(around)], [math.sin(around), math.cos(around)]])
            dx, dz = flat @ turned
            seen += self.free(origins, np.stack([dx, np.full_like(dx, math.sqrt(1 - radius**2)), dz], axis=1))
        wide = np.pad((seen / SKY).reshape(GROUND, GROUND), 1, mode="edge")
        rows = wide[:-2] + wide[1:-1] + wide[2:]
        return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9

    def ground_light(self, x: Float[np.ndarray, "n"], z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The contact map, bilinear; 1 beyond it, with a smooth way there."""
        place = [np.clip((v / REACH + 1) * GROUND / 2 - 0.5, 0, GROUND - 1.001) for v in (z, x)]
        (row, down), (column, right) = ((v.astype(int), v % 1) for v in place)
        table = self.contact
        upper = table[row, column] * (1 - right) + table[row, column + 1] * right
        lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
        fade = np.clip(3 * (1 - np.hypot(x, z) / REACH), 0, 1)
        return 1 - (1 - upper * (1 - down) - lower * down) * fade


def _corner_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Unit normals of the faces' corners: the mean of the faces around, or the face's own where that is far from it."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)
    own = _unit(areas)
    around = np.stack(
        [np.bincount(faces.reshape(-1), np.repeat(areas[:, k], 3), minlength=len(vertices)) for k in range(3)], axis=1
    )
    mean = _unit(around)[faces]
    smooth = (mean * own[:, None]).sum(axis=2, keepdims=True) > CREASE
    return np.where(smooth, mean, own[:, None]).astype(np.float32)


def _corner_colours(mesh: trimesh.Trimesh, colour: Colour | None) -> Float[np.ndarray, "f 3 3"]:
    """Linear red, green, blue in [0, 1] of the faces' corners."""
    from trimesh.visual import ColorVisuals

    visual = mesh.visual
    if colour is None and isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        return _linear(np.asarray(visual.vertex_colors)[:, :3])[mesh.faces]
    if colour is None and isinstance(visual, ColorVisuals) and visual.kind == "face":
        return np.repeat(_linear(np.asarray(visual.face_colors)[:, None, :3]), 3, axis=1)
    return np.broadcast_to(_linear(np.array(CLAY if colour is None else colour)), (len(mesh.faces), 3, 3))


def _linear(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32) / 255) ** 2.2


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def _sphere(n: int) -> Float[np.ndarray, "n 3"]:
    """n directions spread evenly over the sphere: a Fibonacci lattice, from +y down."""
    y = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - math.sqrt(5)) * np.arange(n)
    across = np.sqrt(1 - y * y)
    return np.stack([across * np.cos(angle), y, across * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class _View:
    """What `shaded` is asked for; the size is (height, width)."""

    size: tuple[int, ...]
    azimuth: float
    elevation: float
    background: Colour
    ground: bool

    def __post_init__(self) -> None:
        if not -90 <= self.elevation <= 90:
            raise UserError(f"an elevation is between -90 and 90 degrees, not {self.elevation}")

    @property
    def frame(self) -> Float[np.ndarray, "3 3"]:
        """Rows: the camera's right, its up, and the way back from the origin to it."""
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        right = [math.cos(a), 0.0, -math.sin(a)]
        up = [-math.sin(a) * math.sin(e), math.cos(e), -math.cos(a) * math.sin(e)]
        back = [math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]
        return np.array([right, up, back])

    def rays(self, offset: tuple[float, float]) -> Float[np.ndarray, "n 3"]:
        """Unit directions from the camera through the pixels, off their middles by parts of a pixel, right and down."""
        height, width = self.size
        unit = 2 * EXTENT / min(self.size)  # of a pixel, on the plane through the origin
        x = (np.arange(width) + 0.5 + offset[0] - width / 2) * unit
        y = (height / 2 - np.arange(height) - 0.5 - offset[1]) * unit
        there = np.stack([*np.meshgrid(x, y), np.full((height, width), -DISTANCE)], axis=-1)
        return _unit(there.reshape(-1, 3) @ self.frame)


def _picture(scene: _Scene | None, view: _View) -> Image.Image:
    from PIL import Image

    if scene is None:
        return _note(EMPTY, view)
    total = np.zeros((math.prod(view.size), 3), dtype=np.float32)
    for turn, offset in enumerate(SUBSAMPLES):
        total += _pass(scene, view, view.rays(offset), turn)
    pixels = np.rint(total / len(SUBSAMPLES)).astype(np.uint8)
    return Image.fromarray(pixels.reshape(*view.size, 3))


def _pass(scene: _Scene, view: _View, rays: Float[np.ndarray, "n 3"], turn: int) -> Float[np.ndarray, "n 3"]:
    """Colours 0-255 of one ray a pixel; `turn` counts the passes."""
    eye = DISTANCE * view.frame[2]
    hits = scene.first(np.broadcast_to(eye, rays.shape), rays)
    seen = np.flatnonzero(hits["primID"] >= 0)
    colours = np.tile(np.array(view.background, dtype=np.float32), (len(rays), 1))
    if view.ground and eye[1] > scene.floor:
        down = np.flatnonzero((hits["primID"] < 0) & (rays[:, 1] < -1e-6))
        place = eye + rays[down] * ((scene.floor - eye[1]) / rays[down, 1])[:, None]
        near = np.hypot(place[:, 0], place[:, 2]) < REACH
        light = scene.ground_light(place[near, 0], place[near, 2])
        colours[down[near]] *= (1 - 0.7 * (1 - light))[:, None]
    if len(seen):
        met = {name: values[seen] for name, values in hits.items()}
        colours[seen] = _lit(scene, view, met, eye, rays[seen], turn)
    return colours


def _lit(
    scene: _Scene,
    view: _View,
    met: dict[str, np.ndarray],
    eye: Float[np.ndarray, "3"],
    rays: Float[np.ndarray, "n 3"],
    turn: int,
) -> Float[np.ndarray, "n 3"]:
    """Colours 0-255 of what rays meet: a key light with its shadow, a fill, a rim, and the sky as far as it is seen."""
    weights = np.stack([1 - met["u"] - met["v"], met["u"], met["v"]], axis=1)[:, None]
    albedo = (weights @ scene.colours[met["primID"]])[:, 0]
    flat, normal = _unit(met["Ng"].astype(np.float64)), _unit((weights @ scene.normals[met["primID"]])[:, 0])
    flat *= -np.sign((flat * rays).sum(axis=1, keepdims=True))  # both sides of a sheet are seen
    normal *= np.sign((normal * flat).sum(axis=1, keepdims=True))
    place = eye + rays * met["tfar"][:, None] + LIFT * flat

    def seen_from(direction: Float[np.ndarray, "3"], facing: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The cosine `facing` where it is positive and the way is free, else 0."""
        found, to = np.zeros(len(facing)), np.flatnonzero(facing > 0)
        found[to] = facing[to] * scene.free(place[to], np.broadcast_to(direction, (len(to), 3)))
        return found

    level = replace(view, elevation=0.0).frame  # lights go round with the camera, but do not rise with it
    key, fill, rim = (_unit(np.array(light)) @ level for light in LIGHTS)
    key = _unit(key + 0.12 * (np.array(SUBSAMPLES[turn]) @ level[:2]))  # a soft edge of its shadow
    direct = seen_from(key, (normal @ key) * (flat @ key > 0))
    sky = [(direction, flat @ direction) for direction in _sphere(SKY)[turn :: len(SUBSAMPLES)] @ level]
    most = sum(np.clip(facing, 0, None) for _, facing in sky)
    open_sky = sum(seen_from(direction, facing) for direction, facing in sky) / np.maximum(most, 1e-6)
    ambient = 0.16 + 0.21 * (1 + normal[:, 1]) + 0.16 * np.clip(normal @ fill, 0, 1) + 0.1 * np.clip(normal @ rim, 0, 1)
    light = 0.04 + 1.05 * direct + open_sky * ambient
    return (255 * np.clip(albedo * light[:, None], 0, 1) ** (1 / 2.2)).astype(np.float32)


def _note(text: str, view: _View) -> Image.Image:
    """An empty picture with these words in its middle, one below the other where they do not fit beside one another."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = view.size
    picture = Image.new("RGB", (width, height), view.background)
    font = ImageFont.load_default(max(8, min(height, width) / 13))
    draw = ImageDraw.Draw(picture)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > 0.9 * width:
            lines.append(word)
        else:
            lines[-1] = longer
    grey = (140, 140, 140) if sum(view.background) > 384 else (190, 190, 190)
    draw.multiline_text((width / 2, height / 2), "\n".join(lines), fill=grey, font=font, anchor="mm", align="center")
    return picture
