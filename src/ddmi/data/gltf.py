"""Binary glTF 2.0 as its specification has it, with the extensions that change geometry or base colours.

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html. What cannot be read is refused by its name. Hand-written, as
trimesh misreads normalised and sparse numbers, fans, instances, colours of vertices and transforms of textures.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float, Int

from ddmi.base.errors import UserError

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

log = logging.getLogger(__name__)

COLOUR = "COLOR_0"
"""The vertex attribute with the base colours of a mesh: linear RGBA, those of the vertices times the material's."""

_COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
_APPLIED = (
    "EXT_mesh_gpu_instancing",
    "EXT_texture_webp",
    "KHR_lights_punctual",  # no geometry
    "KHR_materials_",  # all but specular-glossiness, which is applied, leave the base colour as it is
    "KHR_mesh_quantization",
    "KHR_texture_transform",
)
_NUMBERS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def scene(content: bytes, most: int, beside: Callable[[str], bytes] | None = None) -> trimesh.Scene:
    """The meshes of a .glb file where its default scene puts them.

    A mesh with a material or colours of vertices has the attribute `COLOUR`, its texture as `visual.material`, and
    `visual.uv` as that texture is laid on; without a material it has the plain visual of trimesh.

    Args:
        most: faces that are allowed, of all meshes in all their places.
        beside: gives the bytes of another file that a texture is in; None leaves all textures and colours out.

    Raises:
        UserError: it is compressed, needs an extension that is unknown here, keeps its geometry in another file, or has
            too many faces; any error of struct, json and numpy: it is damaged.
    """
    import trimesh

    file = _File(content)
    made = trimesh.Scene()
    meshes: dict[int, list[str]] = {}
    faces = 0
    for place, (number, matrix) in enumerate(file.placed()):
        if number not in meshes:
            meshes[number] = []
            for k, (vertices, triangles, visual) in enumerate(file.primitives(number, beside)):
                meshes[number].append(f"{number}-{k}")
                made.geometry[f"{number}-{k}"] = trimesh.Trimesh(vertices, triangles, process=False, **visual)
        for name in meshes[number]:
            faces += len(made.geometry[name].faces)
            if faces > most:
                raise UserError(f"has more than {most:,} faces, at most {most:,} are allowed")
            made.graph.update(frame_to=f"{place:07d}-{name}", matrix=matrix, geometry=name)
    return made


class _File:
    """The document of a .glb file and the numbers that it points to."""

    def __init__(self, content: bytes) -> None:
        magic, version, _ = struct.unpack_from("<4sII", content)
        if magic != b"glTF":
            raise ValueError("it does not begin with glTF")
        if version != 2:
            raise ValueError(f"it is glTF {version}, not 2")
        self._size = len(content)
        chunks: dict[bytes, bytes] = {}
        at = 12
        while at + 8 <= len(content):
            length, kind = struct.unpack_from("<I4s", content, at)
            chunks.setdefault(kind, content[at + 8 : at + 8 + length])
            at += 8 + length
        self._binary = chunks.get(b"BIN\0")
        self.document: dict[str, Any] = json.loads(chunks[b"JSON"])
        for name in self.document.get("extensionsRequired", []):
            _check_compression(name)
            if not name.startswith(_APPLIED):
                raise UserError(f"needs the extension {name}, which is not read: export it without")

    def bytes_of(self, number: int) -> bytes:
        """Those of a buffer view."""
        view = self.document["bufferViews"][number]
        _check_compression(*view.get("extensions", {}))
        uri = self.document["buffers"][view["buffer"]].get("uri")
        if uri is None:
            if view["buffer"] != 0 or self._binary is None:
                raise ValueError(f"buffer {view['buffer']} has no bytes")
            content = self._binary
        elif uri.startswith("data:"):
            content = base64.b64decode(uri.partition(",")[2])
        else:
            raise UserError(f"keeps its geometry in another file, {uri}: export it as one .glb")
        start = view.get("byteOffset", 0)
        found = content[start : start + view["byteLength"]]
        if len(found) < view["byteLength"]:
            raise ValueError(f"buffer view {number} goes beyond its buffer")
        return found

    def _strided(self, entry: dict[str, Any], number: int, count: int, size: int) -> np.ndarray:
        """(count, size) numbers of a type at `bufferView` and `byteOffset` of an entry."""
        kind = np.dtype(_NUMBERS[number])
        data, row = self.bytes_of(entry["bufferView"]), kind.itemsize * size
        stride = self.document["bufferViews"][entry["bufferView"]].get("byteStride", row)
        start = entry.get("byteOffset", 0)
        if stride < row or not 0 <= start + (count - 1) * stride + row <= len(data):
            raise ValueError("an accessor goes beyond its buffer view")
        return np.ndarray((count, size), kind, data, start, (stride, kind.itemsize)).copy()

    def values(self, number: int) -> np.ndarray:
        """(n, size) numbers of an accessor, sparse ones filled in, normalised integers as float32 in [-1, 1]."""
        accessor = self.document["accessors"][number]
        kind, size, count = accessor["componentType"], _SIZES[accessor["type"]], accessor["count"]
        if not 0 <= count <= self._size:  # of sparse ones nothing else bounds the memory
            raise ValueError(f"accessor {number} has {count} values, more than the file has bytes")
        if "bufferView" in accessor:
            found = self._strided(accessor, kind, count, size)
        elif "sparse" in accessor:
            found = np.zeros((count, size), _NUMBERS[kind])
        else:
            raise ValueError(f"accessor {number} has no numbers")
        if sparse := accessor.get("sparse"):
            where = self._strided(sparse["indices"], sparse["indices"]["componentType"], sparse["count"], 1)
            found[where[:, 0]] = self._strided(sparse["values"], kind, sparse["count"], size)
        if accessor.get("normalized") and found.dtype.kind in "iu":
            return np.maximum(found.astype(np.float32) / np.float32(np.iinfo(found.dtype).max), -1)
        return found

    def placed(self) -> Iterator[tuple[int, Float[np.ndarray, "4 4"]]]:
        """The number of a mesh, and its place in the world, for each node of the default scene that shows one."""
        nodes, scenes = self.document.get("nodes", []), self.document.get("scenes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        roots = scenes[self.document.get("scene", 0)].get("nodes", []) if scenes else set(range(len(nodes))) - children
        waiting, seen = [(root, np.eye(4)) for root in sorted(roots, reverse=True)], set()
        while waiting:
            number, above = waiting.pop()
            if number in seen:  # not allowed; a loop would never end
                continue
            seen.add(number)
            node = nodes[number]
            matrix = above @ _matrix(node)
            waiting += [(child, matrix) for child in reversed(node.get("children", []))]
            if "mesh" in node:
                instancing = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
                for own in [np.eye(4)] if instancing is None else self._instances(instancing["attributes"]):
                    yield node["mesh"], matrix @ own

    def _instances(self, attributes: dict[str, int]) -> Iterator[Float[np.ndarray, "4 4"]]:
        given = {name.lower(): self.values(number) for name, number in attributes.items() if not name.startswith("_")}
        for row in range(max(map(len, given.values()), default=0)):
            yield _matrix({name: values[row] for name, values in given.items()})

    def primitives(
        self, number: int, beside: Callable[[str], bytes] | None
    ) -> Iterator[tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], dict[str, Any]]]:
        """Vertices, triangles and visual of each part of a mesh; points and lines are passed over."""
        for part in self.document["meshes"][number]["primitives"]:
            attributes, mode = part["attributes"], part.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in attributes:
                continue
            if not {"bufferView", "sparse"} & self.document["accessors"][attributes["POSITION"]].keys():
                _check_compression(*part.get("extensions", {}))
            vertices = self.values(attributes["POSITION"]).astype(np.float64)
            order = self.values(part["indices"])[:, 0] if "indices" in part else np.arange(len(vertices))
            visual = {} if beside is None else self._visual(part, len(vertices), beside)
            yield vertices, _triangles(order.astype(np.int64), mode), visual

    def _visual(self, part: dict[str, Any], count: int, beside: Callable[[str], bytes]) -> dict[str, Any]:
        from trimesh.visual import TextureVisuals
        from trimesh.visual.material import PBRMaterial

        attributes = part["attributes"]
        if "material" not in part and COLOUR not in attributes:
            return {}
        material = self.document["materials"][part["material"]] if "material" in part else {}
        gloss = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        base, prefix = (material.get("pbrMetallicRoughness", {}), "baseColor") if gloss is None else (gloss, "diffuse")
        colours = np.ones((count, 4), np.float32)
        if COLOUR in attributes:
            own = self.values(attributes[COLOUR])
            if len(own) != count:
                raise ValueError(f"{COLOUR} has {len(own)} values for {count} vertices")
            colours[:, : own.shape[1]] = own
        colours *= np.asarray(base.get(f"{prefix}Factor", [1, 1, 1, 1]), np.float32)
        image = uv = None
        if texture := base.get(f"{prefix}Texture"):
            transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
            places = f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}"
            image = self._image(texture["index"], beside) if places in attributes else None
            if image is not None:
                uv = _moved(self.values(attributes[places]).astype(np.float64), transform)
                uv[:, 1] = 1 - uv[:, 1]  # trimesh's v points up
        mode = {"alphaMode": material.get("alphaMode"), "alphaCutoff": material.get("alphaCutoff")}
        visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=image, **mode))
        return {"visual": visual, "vertex_attributes": {COLOUR: colours}}

    def _image(self, number: int, beside: Callable[[str], bytes]) -> Image.Image | None:
        """The image of a texture; None, with a warning, where it cannot be read: the colour takes its place."""
        from PIL import Image

        texture = self.document["textures"][number]
        source = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source")
        try:
            if source is None:
                raise ValueError(f"it is only given as {', '.join(texture.get('extensions', {})) or 'nothing'}")
            image = self.document["images"][source]
            if "bufferView" in image:
                content = self.bytes_of(image["bufferView"])
            elif image["uri"].startswith("data:"):
                content = base64.b64decode(image["uri"].partition(",")[2])
            else:
                content = beside(unquote(image["uri"]))
            return Image.open(io.BytesIO(content))
        except (OSError, ValueError, KeyError) as error:
            log.warning("a texture is left out, its material's colour takes its place: %s", error)
            return None


def _check_compression(*extensions: str) -> None:
    """Raise the UserError for the first of these that compresses geometry."""
    for name in extensions:
        if name in _COMPRESSED:
            raise UserError(f"is compressed with {name}, which is not read: export it without compression")


def _matrix(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """A node's own transform: its matrix, or translation times rotation (x, y, z, w) times scale."""
    from trimesh.transformations import quaternion_matrix

    if "matrix" in node:
        return np.reshape(np.asarray(node["matrix"], np.float64), (4, 4)).T
    x, y, z, w = node.get("rotation", [0, 0, 0, 1])
    found = quaternion_matrix([w, x, y, z]) @ np.diag([*node.get("scale", [1, 1, 1]), 1])
    found[:3, 3] = node.get("translation", [0, 0, 0])
    return found


def _triangles(order: Int[np.ndarray, "n"], mode: int) -> Int[np.ndarray, "f 3"]:
    """The triangles of a list, a strip or a fan of vertices (section 3.7.2.1 of the specification)."""
    if mode == _TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    k = np.arange(max(len(order) - 2, 0))
    corners = (k, k + 1 + k % 2, k + 2 - k % 2) if mode == _STRIP else (k + 1, k + 2, np.zeros_like(k))
    return order[np.stack(corners, axis=1)]


def _moved(places: Float[np.ndarray, "v 2"], transform: dict[str, Any]) -> Float[np.ndarray, "v 2"]:
    """Places in a texture as KHR_texture_transform lays it: offset + rotation (scale places).

    The extension's words, its example and the viewers turn this way around; the matrix printed there is the inverse.
    """
    turn = transform.get("rotation", 0.0)
    sine, cosine = np.sin(turn), np.cos(turn)
    scaled = places * transform.get("scale", [1, 1])
    return np.asarray(scaled @ np.array([[cosine, -sine], [sine, cosine]]) + transform.get("offset", [0, 0]))
