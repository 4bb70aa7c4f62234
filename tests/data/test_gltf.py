"""Binary glTF: each feature gives the mesh that the same file gives without it, or is refused by its name."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from ddmi.data import meshes
from ddmi.data.meshes import Model, Rejected, load, read

BOX = trimesh.creation.box((1, 1, 1))
KINDS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class Glb:
    """A document and its bytes, put together by hand."""

    def __init__(self):
        self.tree = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": [], "scenes": [{"nodes": [0]}]}
        self.tree |= {"nodes": [{"mesh": 0}]}
        self.bytes = b""

    def view(self, content: bytes, **more) -> int:
        self.tree["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.bytes), "byteLength": len(content), **more}
        )
        self.bytes += content + bytes(-len(content) % 4)
        return len(self.tree["bufferViews"]) - 1

    def values(self, array, kind: str = "f4", **more) -> int:
        array = np.asarray(array)
        array = array.reshape(len(array), -1).astype(f"<{kind}")
        accessor = {"componentType": KINDS[kind], "count": len(array), "type": SHAPES[array.shape[1]]}
        self.tree["accessors"].append(accessor | {"bufferView": self.view(array.tobytes())} | more)
        return len(self.tree["accessors"]) - 1

    def mesh(self, attributes: dict, faces=BOX.faces, **more) -> Glb:
        indices = {} if faces is None else {"indices": self.values(np.ravel(faces), "u2")}
        self.tree["meshes"] = [{"primitives": [{"attributes": attributes, **indices, **more}]}]
        return self

    def save(self, path):
        self.tree["buffers"] = [{"byteLength": len(self.bytes)}]
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        body = (
            struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(self.bytes), b"BIN\0") + self.bytes
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        return path


def plain() -> Glb:
    glb = Glb()
    return glb.mesh({"POSITION": glb.values(BOX.vertices)})


def test_normalised_integers_are_positions_within_one(tmp_path):
    """KHR_mesh_quantization: rows of 8 bytes, 6 of them used; the node's scale makes up for it."""
    glb = Glb()
    rows = np.zeros((8, 4), "<i2")
    rows[:, :3] = np.rint(BOX.vertices * 2 * 32767)
    view = glb.view(rows.tobytes(), byteStride=8)
    glb.tree["accessors"].append(
        {"bufferView": view, "componentType": 5122, "normalized": True, "count": 8, "type": "VEC3"}
    )
    glb.mesh({"POSITION": 0}).tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    glb.tree["nodes"] = [{"mesh": 0, "scale": [3, 3, 3], "translation": [0, 7, 0]}]
    found = read(glb.save(tmp_path / "a.glb"))
    assert np.allclose(found.vertices, BOX.vertices * 6 + [0, 7, 0], atol=1e-6)
    assert np.array_equal(found.faces, BOX.faces)


@pytest.mark.parametrize("based", [True, False])
def test_sparse_values_are_filled_in(tmp_path, based):
    glb = Glb()
    where = np.array([1, 6])
    wrong = BOX.vertices.copy() if based else np.zeros((8, 3))
    wrong[where] = 9
    changed = where if based else np.arange(8)
    position = glb.values(wrong)
    if not based:
        del glb.tree["accessors"][position]["bufferView"]
    glb.tree["accessors"][position]["sparse"] = {
        "count": len(changed),
        "indices": {"bufferView": glb.view(changed.astype("u1").tobytes()), "componentType": 5121},
        "values": {"bufferView": glb.view(BOX.vertices[changed].astype("<f4").tobytes())},
    }
    assert np.allclose(read(glb.mesh({"POSITION": position}).save(tmp_path / "a.glb")).vertices, BOX.vertices)


def test_instances_are_meshes_of_their_own(tmp_path):
    glb = plain()
    moves, half = np.array([[0, 0, 0], [5, 0, 0], [0, 0, -9.0]]), np.sqrt(0.5)
    attributes = {
        "TRANSLATION": glb.values(moves),
        "ROTATION": glb.values(
            np.rint(127 * np.array([[0, 0, 0, 1], [0, 0, half, half], [0, 0, 0, 1]])), "i1", normalized=True
        ),
        "SCALE": glb.values([[1, 1, 1], [2, 1, 1], [1, 1, 1]]),
    }
    glb.tree["nodes"] = [
        {"children": [1], "translation": [0, 100, 0]},
        {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}},
    ]
    glb.tree["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    found = read(glb.save(tmp_path / "a.glb"))
    # the second is twice as long along x, which a quarter turn around z makes y
    expected = [BOX.vertices, BOX.vertices @ [[0, 2, 0], [-1, 0, 0], [0, 0, 1]], BOX.vertices]
    expected = np.concatenate([one + move + [0, 100, 0] for one, move in zip(expected, moves, strict=True)])
    assert np.allclose(found.vertices, expected, atol=1e-5) and len(found.faces) == 36
    assert found.volume == pytest.approx(4, rel=1e-5)


def test_strips_and_fans_are_triangles_of_the_same_side(tmp_path):
    """A square, its normal towards z, as both."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    for mode, order in ((5, [0, 1, 2, 3]), (6, [0, 1, 3, 2])):
        glb = Glb()
        glb.mesh({"POSITION": glb.values(corners)}, order, mode=mode)
        found = read(glb.save(tmp_path / "a.glb"))
        assert found.area == pytest.approx(1) and np.allclose(found.face_normals, [[0, 0, 1]] * 2)


def test_a_mirrored_part_keeps_its_outside(tmp_path):
    glb = plain()
    glb.tree["nodes"] = [{"mesh": 0, "scale": [-1, 1, 1]}]
    assert read(glb.save(tmp_path / "a.glb")).volume == pytest.approx(1)


def compressed(glb: Glb, name: str) -> None:
    """As KHR_draco_mesh_compression and EXT_meshopt_compression are used, with bytes that stand for compressed ones."""
    if name == "KHR_draco_mesh_compression":
        glb.tree["meshes"][0]["primitives"][0]["extensions"] = {name: {"bufferView": 0, "attributes": {"POSITION": 0}}}
        del glb.tree["accessors"][0]["bufferView"]
    elif "meshopt" in name:
        glb.tree["bufferViews"][0]["extensions"] = {name: {"buffer": 0, "mode": "ATTRIBUTES"}}


UNREAD = ["KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"]


@pytest.mark.parametrize(("name", "listed"), [*((n, yes) for n in UNREAD for yes in (True, False)), ("ACME_x", True)])
def test_what_cannot_be_read_is_refused_by_its_name(tmp_path, name, listed):
    glb = plain()
    compressed(glb, name)
    if listed:
        glb.tree["extensionsRequired"] = [name]
    with pytest.raises(Rejected, match=rf"a\.glb .*{name}.*export it without"):
        read(glb.save(tmp_path / "a.glb"))


def test_geometry_in_another_file_is_refused(tmp_path):
    glb = plain()
    path = glb.save(tmp_path / "a.glb")
    content = path.read_bytes()
    glb.tree["buffers"][0]["uri"] = "other.bin"
    text = json.dumps(glb.tree).encode()
    path.write_bytes(content[:12] + struct.pack("<I4s", len(text), b"JSON") + text)
    with pytest.raises(Rejected, match=r"keeps its geometry in another file, other\.bin"):
        read(path)


@pytest.mark.parametrize("stride", [None, 0, 4])
def test_no_memory_is_spent_on_what_the_file_has_not(tmp_path, stride):
    """A million vertices in a file of a kilobyte: sparse ones, or rows that lie on top of one another."""
    glb = plain()
    accessor = glb.tree["accessors"][0]
    accessor["count"] = 1_000_000 if stride != 4 else 20
    if stride is None:
        del accessor["bufferView"]
        view = {"bufferView": glb.view(bytes(12)), "byteOffset": 0}
        accessor["sparse"] = {"count": 1, "indices": view | {"componentType": 5125}, "values": view}
    else:
        glb.tree["bufferViews"][0]["byteStride"] = stride
    with pytest.raises(Rejected, match=r"more than the file has bytes|goes beyond its buffer view"):
        read(glb.save(tmp_path / "a.glb"))


def test_instances_count_as_faces(tmp_path, monkeypatch):
    glb = plain()
    attributes = {"TRANSLATION": glb.values(np.arange(30).reshape(10, 3))}
    glb.tree["nodes"] = [{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}]
    monkeypatch.setattr(meshes, "MOST_FACES", 119)
    with pytest.raises(Rejected, match="more than 119 faces"):
        read(glb.save(tmp_path / "a.glb"))


def test_nodes_in_a_ring_end(tmp_path):
    glb = plain()
    glb.tree["nodes"] = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    assert len(read(glb.save(tmp_path / "a.glb")).faces) == 12


# colours --------------------------------------------------------------------------------------------------------------

SHOWN = np.array([200, 20, 90])
LINEAR = np.where(SHOWN / 255 <= 0.04045, SHOWN / 255 / 12.92, ((SHOWN / 255 + 0.055) / 1.055) ** 2.4)


def colour(path) -> np.ndarray:
    """The displayed colour of the middle of the square, without the light."""
    pytest.importorskip("embreex")
    from ddmi.domains.nerf.photography import upright
    from ddmi.rendering.shader import TracedMesh

    subject = TracedMesh(upright(load(Model(name="a", file=path), coloured=True)))
    weights = np.full((1, 3), 1 / 3, np.float32)
    return 255 * subject._surfaces[0].at(np.array([0]), weights)[0]


@pytest.mark.parametrize("material", [None, {}, {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}])
@pytest.mark.parametrize("kind", ["f4", "u2", "u1"])
def test_colours_of_vertices_are_linear_and_times_the_material(tmp_path, material, kind):
    top = {"f4": 1, "u2": 65535, "u1": 255}[kind]
    glb = Glb()
    own = glb.values(np.tile(np.rint(LINEAR * top) if top > 1 else LINEAR, (8, 1)), kind, normalized=top > 1)
    glb.mesh({"POSITION": glb.values(BOX.vertices), "COLOR_0": own})
    factor = 1.0
    if material is not None:
        glb.tree["materials"] = [material]
        glb.tree["meshes"][0]["primitives"][0]["material"] = 0
        factor = material.get("pbrMetallicRoughness", {}).get("baseColorFactor", [1])[0]
    light = factor * LINEAR[0]
    expected = [255 * (1.055 * light ** (1 / 2.4) - 0.055), *SHOWN[1:]]
    # eight bits of light are 13 steps of displayed red near black
    assert colour(glb.save(tmp_path / "a.glb"))[:3] == pytest.approx(expected, abs=5 if kind == "u1" else 0.1)


def test_the_diffuse_factor_of_specular_glossiness_is_the_base_colour(tmp_path):
    glb = plain()
    gloss = {"diffuseFactor": [*LINEAR, 1.0], "specularFactor": [1, 1, 1]}
    glb.tree["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": gloss}}]
    glb.tree["meshes"][0]["primitives"][0]["material"] = 0
    assert colour(glb.save(tmp_path / "a.glb"))[:3] == pytest.approx(SHOWN, abs=0.1)


def atlas() -> bytes:
    """Four quarters: red, green above; blue, white below."""
    file = io.BytesIO()
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(pixels.repeat(32, 0).repeat(32, 1)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (None, [255, 0, 0]),
        ({"offset": [0.5, 0]}, [0, 255, 0]),
        ({"scale": [1, 3]}, [0, 0, 255]),  # 0.25 becomes 0.75
        ({"offset": [0, 1], "rotation": np.pi / 2}, [0, 0, 255]),  # (u, v) becomes (v, 1 - u)
        ({"texCoord": 1}, [255, 255, 255]),
    ],
)
def test_a_texture_lies_as_its_transform_says(tmp_path, transform, expected):
    glb = Glb()
    places = {"TEXCOORD_0": glb.values(np.full((8, 2), 0.25)), "TEXCOORD_1": glb.values(np.full((8, 2), 0.75))}
    glb.mesh({"POSITION": glb.values(BOX.vertices), **places}, material=0)
    glb.tree["images"], glb.tree["textures"] = [{"bufferView": glb.view(atlas())}], [{"source": 0}]
    texture = {"index": 0}
    if transform is not None:
        texture["extensions"] = {"KHR_texture_transform": transform}
    glb.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture}}]
    assert colour(glb.save(tmp_path / "a.glb"))[:3] == pytest.approx(expected, abs=1)


def test_a_texture_that_cannot_be_read_is_told_and_the_colour_stays(tmp_path, caplog):
    glb = Glb()
    glb.mesh({"POSITION": glb.values(BOX.vertices), "TEXCOORD_0": glb.values(np.full((8, 2), 0.25))}, material=0)
    glb.tree["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    base = {"baseColorTexture": {"index": 0}, "baseColorFactor": [*LINEAR, 1]}
    glb.tree["materials"] = [{"pbrMetallicRoughness": base}]
    assert colour(glb.save(tmp_path / "a.glb"))[:3] == pytest.approx(SHOWN, abs=0.1)
    assert "only given as KHR_texture_basisu" in caplog.text
