"""The colours of a mesh without light: textures, materials, and colours of its vertices or faces."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ddmi.base.errors import missing_extra

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]

CLAY: Colour = (126, 150, 178)
"""Of meshes that have no colours of their own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Surface:
    """The colours of one mesh; all in [0, 1] and as displayed, not linear."""

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
    def solid(self) -> Bool[np.ndarray, "#f"]:
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
    """Bilinear interpolation between the centres of texels, in [0, 1]."""
    try:
        from scipy.ndimage import map_coordinates
    except ImportError as error:
        raise missing_extra("scipy", "mesh") from error

    at = places[:, ::-1].T.astype(np.float64) - 0.5
    mode = "grid-wrap" if tiled else "nearest"
    channels = [map_coordinates(texture[..., c], at, output=np.float32, order=1, mode=mode) for c in range(4)]
    return np.stack(channels, axis=1) / 255


def surface_of(mesh: trimesh.Trimesh, corners: Float[np.ndarray, "f 3 3"], detail: float = 0.0) -> Surface:
    """What the colours, the material or the texture of a mesh say; clay where nothing does.

    Args:
        corners: places of the faces' corners, in the world.
        detail: a texture is blurred so that nothing smaller than this length shows; 0: as it is.
    """
    from trimesh.visual import ColorVisuals, TextureVisuals

    visual: Any = mesh.visual
    if isinstance(visual, TextureVisuals):
        return _textured(mesh, corners, detail)
    if isinstance(visual, ColorVisuals) and visual.kind in ("vertex", "face"):
        found = _rgba(visual.vertex_colors if visual.kind == "vertex" else visual.face_colors)
        if not found[:, 3].any():  # where all are fully transparent nobody meant it
            found[:, 3] = 1
        return Surface(colours=found[np.asarray(mesh.faces)] if visual.kind == "vertex" else found[:, None])
    return plain(CLAY)


def plain(colour: Colour) -> Surface:
    """One colour for all."""
    return Surface(colours=_rgba(np.array(colour, np.uint8))[None, None])


def _textured(mesh: trimesh.Trimesh, corners: Float[np.ndarray, "f 3 3"], detail: float) -> Surface:
    """The surface of a material: its image where it has one and the corners have places in it, times a colour."""
    visual: Any = mesh.visual
    faces = np.asarray(mesh.faces)
    material = _material(visual.material)
    uv, painted = visual.uv, mesh.vertex_attributes.get("COLOR_0")
    image = _read(material.image) if material.image is not None and uv is not None and len(uv) > faces.max() else None
    colours = material.plain if image is None else material.tint
    if painted is not None:  # of glTF: linear, times the material's
        colours = colours * _displayed(np.asarray(painted, np.float32))[faces]
        if material.solid:
            colours[..., 3] = 1
    if image is None:
        return Surface(colours=colours, cutoff=material.cutoff)
    places = np.nan_to_num(np.asarray(uv, np.float64)[faces])
    places[..., 1] = 1 - places[..., 1]  # v points up
    tiled = bool(places.min() < -1e-3 or places.max() > 1 + 1e-3)
    if tiled:
        places -= np.floor(places.min(axis=1, keepdims=True))  # float32 is too coarse far from 0
    texture = _blurred(image, places, corners, detail)
    if material.solid or not texture[..., 3].any():  # where all is fully transparent nobody meant it
        texture[..., 3] = 255
    places = (places * texture.shape[1::-1]).astype(np.float32)
    return Surface(colours=colours, texture=texture, places=places, tiled=tiled, cutoff=material.cutoff)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Material:
    """What a material says, whichever format it comes from."""

    image: Image.Image | None
    tint: Float[np.ndarray, "1 1 4"]  # times the image
    plain: Float[np.ndarray, "1 1 4"]  # where there is no image
    solid: bool = False  # nothing is transparent, whatever the image says
    cutoff: float | None = None


def _material(material: Any) -> _Material:
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    if isinstance(material, PBRMaterial):  # of glTF: the image times a factor, which is linear
        given = material.baseColorFactor
        factor = _displayed(_rgba([255] * 4 if given is None else given)[None, None])
        mode = material.alphaMode or "OPAQUE"
        if mode == "OPAQUE":
            factor[..., 3] = 1
        cutoff = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
        return _Material(
            image=material.baseColorTexture,
            tint=factor,
            plain=factor,
            solid=mode == "OPAQUE",
            cutoff=cutoff if mode == "MASK" else None,
        )
    if not isinstance(material, SimpleMaterial):  # none, or several for one mesh
        material = SimpleMaterial(diffuse=CLAY)
    colour = _rgba(material.main_color)[None, None]
    colour[..., 3] *= _dissolve(material.kwargs)
    tint = colour.copy()
    tint[..., :3] = 1  # of OBJ: the image in place of the colour, which many programs write black then
    return _Material(image=material.image, tint=tint, plain=colour)


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
    except Exception as error:  # image readers raise nearly every kind of error on a broken file
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
