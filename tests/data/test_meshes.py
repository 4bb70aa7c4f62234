"""Meshes of users: every format and container, our frame, and a reason for each that is refused."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ddmi.base.errors import UserError
from ddmi.data import catalogues, meshes
from ddmi.data.catalogues import entries, properties, unpacked
from ddmi.data.meshes import LONGEST, Model, Rejected, find, load, normalised, read
from ddmi.data.solids import ambiguous, boundary, enclosed, near, winding

BOX = (1.0, 2.0, 0.5)


def box(extents=BOX, at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(at)
    return mesh


def names(root: Path) -> list[str]:
    return [model.name for model in find(root)]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def obj(mesh: trimesh.Trimesh) -> bytes:
    return mesh.export(file_type="obj").encode()


@pytest.mark.parametrize("ending", ["obj", "glb", "ply", "off", "stl"])
def test_every_format_comes_into_the_frame(tmp_path, ending):
    far = box(np.array(BOX) * 2540, at=(1e5, -3, 8))  # units and place do not matter
    far.export(tmp_path / f"a.{ending}")
    mesh = normalised(read(tmp_path / f"a.{ending}"))
    assert np.allclose(mesh.bounds, np.array([[-0.5, -1, -0.25], [0.5, 1, 0.25]]) * LONGEST / 2, atol=1e-6)
    assert mesh.volume == pytest.approx(np.prod(np.array(BOX) * LONGEST / 2), rel=1e-5)


def test_z_up_is_turned_not_mirrored():
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    turned = normalised(mesh, up="z")
    assert mesh.volume > 0 and turned.volume > 0
    scale = LONGEST / 4
    # x stays, z goes up, and y goes away from the viewer
    expected = np.array([[0, 0, 0], [1, 0, 0], [0, 0, -2], [0, 4, 0]]) * scale
    assert np.allclose(turned.vertices - turned.vertices[0], expected)


def test_parts_of_a_scene_stand_where_the_scene_puts_them(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(box((1, 1, 1)), transform=trimesh.transformations.translation_matrix([-2, 0, 0]))
    scene.add_geometry(box((1, 1, 1)), transform=trimesh.transformations.translation_matrix([2, 0, 0]))
    scene.export(tmp_path / "two.glb")
    assert np.allclose(read(tmp_path / "two.glb").extents, [5, 1, 1])


def test_names_are_the_folders_without_words_that_say_nothing(tmp_path):
    for name in (
        "chair/1a2b/models/model_normalized.obj",
        "chair/3c/model.obj",
        "table/5d.obj",
        "table/5d.ply",
        "table/old oak/5d.obj",
        "armchair/armchair.obj",
        "table/.hidden.obj",
        ".cache/x/y.obj",
        "table/notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(obj(box()))
    # armchair/armchair.obj has no class, and joins those that have none
    assert names(tmp_path) == [
        "chair/1a2b",
        "chair/3c",
        "other/armchair",
        "table/5d-obj",
        "table/5d-ply",
        "table/old-oak-5d",
    ]
    assert names(tmp_path / "chair") == ["1a2b", "3c"]
    assert names(tmp_path / "table" / "5d.obj") == ["5d"]


def test_names_stay_apart_whatever_is_done_to_them(tmp_path):
    for name in ("a b.obj", "a-b.obj", "a+b.obj", "a_b.obj", "a-b-obj.obj"):
        (tmp_path / name).touch()
    found = names(tmp_path)
    assert len(set(found)) == 5 and all("/" not in name and " " not in name for name in found)


def test_an_archive_is_read_member_by_member(tmp_path):
    (tmp_path / "set").mkdir()
    zipped(tmp_path / "set" / "02.zip", {"chair/x/model.obj": obj(box()), "chair/x/t.png": b"", "__MACOSX/b.obj": b""})
    zipped(tmp_path / "set" / "flat.zip", {"y.obj": obj(box((1, 1, 1)))})
    found = {model.name: model for model in find(tmp_path)}
    assert list(found) == ["chair/x", "set/flat-y"]
    assert np.allclose(read(found["chair/x"]).extents, BOX)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["02.zip", "flat.zip", "set"]  # nothing is extracted


@pytest.mark.parametrize("name", ["../x.obj", "/etc/x.obj", "a/../../x.obj", "C:/x.obj", "..\\x.obj", "\\x.obj"])
def test_a_member_that_climbs_out_is_refused(tmp_path, name):
    path = zipped(tmp_path / "bad.zip", {"fine.obj": obj(box())})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        archive.writestr(info, obj(box()))
    with pytest.raises(UserError, match=r"bad\.zip is refused: its member .* climbs out"):
        find(tmp_path)


def test_damaged_archives_and_members(tmp_path, caplog):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "junk.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match=r"junk\.zip is no zip archive"):
        find(tmp_path / "set")
    (tmp_path / "set" / "a.obj").touch()
    assert names(tmp_path / "set") == ["a"] and "junk.zip is no zip archive" in caplog.text  # the others are there
    path = zipped(tmp_path / "b.zip", {"x.obj": obj(box()) * 50})
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)  # in the middle of the compressed data; the directory at the end is whole
    path.write_bytes(content)
    (model,) = find(path)
    with pytest.raises(Rejected, match=r"b\.zip: x\.obj cannot be unpacked"):
        read(model)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path / "bomb.zip", {"x.obj": b"\n" * (3 << 20)})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(catalogues, "LARGEST_MEMBER", 2 << 20)
    with pytest.raises(UserError, match="unpacks to 3 MiB, at most 2 are read"):
        unpacked(path, "x.obj")


def test_properties_as_java_reads_them():
    text = "# no\n! no\n\na=1\nb : 2\n  c = x\\\n    y\nd\\=e=f\nprice=10 \\u20ac\nempty=\nname=caf\xe9\npath=a\\\\b\n"
    assert properties(text.encode("latin-1")) == {
        "a": "1",
        "b": "2",
        "c": "xy",
        "d=e": "f",
        "price": "10 €",
        "empty": "",
        "name": "café",
        "path": "a\\b",
    }


def library(path: Path, extra: str = "") -> Path:
    table = f"""
name=Kator Legaz catalog
license=CC-BY 3.0
id#1=Kator#tall-lamp
name#1=Floor Lamp
tags#1=Kator Legaz, Lamp, LED, Light
category#1=Living room
model#1=/kator/lamp/lamp.obj
modelRotation#1=1 0 0 0 0 1 0 -1 0
creator#1=Kator
id#2=TV
name#2=TV
tags#2=
category#2=
model#2=/kator/tv.obj
{extra}"""
    members = {
        "kator/lamp/lamp.obj": obj(box((1, 1, 4))),
        "kator/tv.obj": obj(box((3, 1, 1))),
        "kator/not-listed.obj": obj(box()),
    }
    return zipped(path, {"PluginFurnitureCatalog.properties": table.encode("latin-1"), "LICENSE.TXT": b"do", **members})


def test_a_furniture_library_names_and_turns_its_models(tmp_path):
    path = library(tmp_path / "a.sh3f")
    lamp, tv = find(tmp_path)
    assert (lamp.name, tv.name) == ("living-room/tall-lamp", "other/TV")
    # a tag that names the source or repeats the name says nothing
    assert lamp.captions == ("floor lamp", "floor lamp, LED, light") and tv.captions == ("TV",)
    assert lamp.credit == {
        "title": "Floor Lamp",
        "creator": "Kator",
        "license": "CC-BY 3.0",
        "source": "Kator Legaz catalog",
    }
    assert np.allclose(read(lamp).extents, [1, 4, 1])  # row by row: y' = z, z' = -y
    assert np.allclose(read(tv).extents, [3, 1, 1])
    assert catalogues.licences(path) == "do"
    assert entries(zipped(tmp_path / "plain.zip", {"a.obj": b""})) is None
    library(tmp_path / "bad.sh3f", "id#3=x\nmodel#3=x.obj\nmodelRotation#3=1 0 0\n")
    with pytest.raises(UserError, match=r"bad\.sh3f: modelRotation#3 must be 9 numbers"):
        find(tmp_path / "bad.sh3f")


def test_a_listed_model_that_is_missing_or_of_another_kind_is_rejected_by_name(tmp_path):
    library(tmp_path / "a.sh3f", "id#3=x\nmodel#3=x.dae\nid#4=y\nmodel#4=gone.obj\n")
    found = {model.name: model for model in find(tmp_path)}
    with pytest.raises(Rejected, match=r"x\.dae: a mesh ends in \.obj"):
        read(found["other/x"])
    with pytest.raises(Rejected, match=r"a\.sh3f has no member gone\.obj"):
        read(found["other/y"])


def test_nothing_to_find(tmp_path):
    with pytest.raises(UserError, match="no mesh in"):
        find(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.obj", b"", "no faces|damaged"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces|damaged"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "damaged"),
        ("a.obj", b"\x00\xff\xfe rubbish \x01", "no faces|damaged"),
        ("a.glb", b"glTF rubbish", "damaged"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 5\n", "damaged|no faces"),
        ("a.stl", b"solid nothing\nendsolid\n", "damaged|no faces"),
        ("a.off", b"OFF\n3 1 0\n", "damaged|no faces"),
        ("a.dae", b"<x/>", r"ends in \.obj, .*, not in \.dae"),
    ],
)
def test_files_that_are_no_mesh_say_so(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Rejected, match=reason) as raised:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)


def test_too_many_faces(tmp_path, monkeypatch):
    box().export(tmp_path / "a.ply")
    monkeypatch.setattr(meshes, "MOST_FACES", 11)
    with pytest.raises(Rejected, match="has 12 faces, at most 11"):
        read(Model(name="a", file=tmp_path / "a.ply"))


def with_vertex(value: float) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    vertices = np.array(mesh.vertices)
    vertices[0, 1] = value
    return trimesh.Trimesh(vertices, mesh.faces, process=False)


def together(*parts: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate(list(parts))


BAD = {
    "nan": (with_vertex(np.nan), "finite"),
    "infinite": (with_vertex(np.inf), "finite"),
    "one point": (trimesh.Trimesh(np.ones((3, 3)), [[0, 1, 2]], process=False), "one point"),
    "line": (trimesh.Trimesh([[0, 0, 0], [1, 1, 1], [2, 2, 2]], [[0, 1, 2]], process=False), "no area"),
    "flat": (trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]), "flat"),
    "huge triangle": (
        together(box(), trimesh.Trimesh([[-90, 0, 0], [90, 0, 1], [0, 90, 0]], [[0, 1, 2]])),
        "more than half of the area",
    ),
    "speck": (together(box((1, 1, 1)), box((0.02, 0.02, 0.02), (9, 0, 0))), "something small lies far away"),
}


@pytest.mark.parametrize("kind", BAD)
def test_geometry_that_makes_no_shape_says_why(kind):
    mesh, reason = BAD[kind]
    with pytest.raises(Rejected, match=reason):
        normalised(mesh)


def test_vertices_that_no_face_uses_do_not_decide_the_frame():
    mesh = trimesh.Trimesh(np.vstack([box().vertices, [[np.nan, 500, 0]]]), box().faces, process=False)
    assert np.allclose(normalised(mesh).extents, np.array(BOX) * LONGEST / 2)


def test_a_closed_surface_has_no_face_with_half_of_its_area():
    """The bound that refuses a huge triangle holds even for a nearly flat closed one."""
    spike = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 1e-4]], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]
    )
    assert len(normalised(spike).faces) == 4


def ball(radius: float = 0.6, subdivisions: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def test_inside_a_sphere_and_a_box_is_what_analysis_says():
    points = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
    radius = np.linalg.norm(points, axis=1)
    clear = np.abs(radius - 0.6) > 0.01
    assert (enclosed(winding(ball(), points)) == (radius < 0.6))[clear].all()
    gap = (np.abs(points) - np.array(BOX) / 2).max(1)
    clear = np.abs(gap) > 1e-3
    assert (enclosed(winding(box(), points)) == (gap < 0))[clear].all()
    assert not ambiguous(winding(box(), points)[clear]).any()


def test_a_mesh_inside_out_encloses_the_same():
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    turned = ball()
    turned.invert()
    assert (enclosed(winding(turned, points)) == enclosed(winding(ball(), points))).all()
    points, normals = boundary(turned, 300, np.random.default_rng(0))
    assert np.einsum("nd,nd->n", points / 0.6, normals).min() > 0.99  # outwards all the same


def test_a_cavity_is_outside():
    inner = ball(0.3)
    inner.invert()
    shell = together(ball(0.6), inner)
    assert enclosed(winding(shell, np.array([[0, 0, 0.0], [0.45, 0, 0], [0.7, 0, 0]]))).tolist() == [False, True, False]
    points, normals = boundary(shell, 2000, np.random.default_rng(0))
    radius = np.linalg.norm(points, axis=1)
    outwards = np.einsum("nd,nd->n", points / radius[:, None], normals)
    assert (outwards[radius > 0.45] > 0.99).all() and (outwards[radius < 0.45] < -0.99).all()
    assert (radius < 0.45).mean() == pytest.approx(0.2, abs=0.04)  # 0.3^2 / (0.3^2 + 0.6^2)


def test_an_open_surface_is_ambiguous():
    cut = box((1, 1, 1))
    open_box = trimesh.Trimesh(cut.vertices, cut.faces[cut.face_normals[:, 1] < 0.5])
    assert len(open_box.faces) == 10
    points = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
    assert ambiguous(winding(open_box, points)).mean() > 0.02


def test_the_boundary_leaves_out_faces_hidden_in_one_another():
    """A unit cube, and a bar that enters one of its sides: the hidden area is known."""
    joined = together(box((1, 1, 1)), box((1, 0.5, 0.5), (0.5, 0, 0)))
    points, normals = boundary(joined, 6000, np.random.default_rng(0))
    gaps = [(np.abs(points - at) - np.array(half)).max(1) for at, half in
            (((0, 0, 0), (0.5, 0.5, 0.5)), ((0.5, 0, 0), (0.5, 0.25, 0.25)))]  # fmt: skip
    assert min(gaps[0].min(), gaps[1].min()) > -1e-5  # strictly inside neither
    assert len(points) == len(normals) == 6000
    # uniform by area: the part of the bar that sticks out has 0.25 + 4 * 0.25 of 7
    assert (points[:, 0] > 0.5 + 1e-6).mean() == pytest.approx(1.25 / 7.0, abs=0.02)


def test_sheets_are_no_boundary():
    sheet = trimesh.Trimesh([[-1, 0.8, -1], [1, 0.8, -1], [1, 0.8, 1], [-1, 0.8, 1]], [[0, 1, 2], [0, 2, 3]])
    with pytest.raises(Rejected, match=r"% of its surface are sheets without thickness"):
        boundary(together(box((0.5, 0.5, 0.5)), sheet), 500, np.random.default_rng(0))
    little = trimesh.Trimesh(sheet.vertices * [0.2, 1, 0.2], sheet.faces)
    points, _ = boundary(together(box((0.7, 0.7, 0.7)), little), 500, np.random.default_rng(0))
    assert points[:, 1].max() < 0.5


def test_near_points_have_two_widths_and_stay_in_the_cube():
    points = np.zeros((10, 3), np.float32)
    close = near(points, 20_000, np.random.default_rng(0))
    assert close[::2].std() == pytest.approx(0.02, rel=0.03) and close[1::2].std() == pytest.approx(0.08, rel=0.03)
    edge = near(np.ones((1, 3), np.float32), 2000, np.random.default_rng(0))
    assert edge.max() <= 1 and (edge > 0.5).all()


# what files of other programs look like -------------------------------------------------------------------------------

CUBE = trimesh.creation.box((1, 1, 1))
QUADS = [
    [1, 3, 7, 5],
    [2, 6, 8, 4],
    [1, 5, 6, 2],
    [3, 4, 8, 7],
    [1, 2, 4, 3],
    [5, 7, 8, 6],
]  # trimesh's corners, from 1


def cube_obj(faces: list[list[int]] = QUADS) -> str:
    lines = [f"v {x} {y} {z}" for x, y, z in CUBE.vertices] + ["f " + " ".join(map(str, face)) for face in faces]
    return "\n".join(lines) + "\n"


def last(faces: list[list[int]]) -> list[list[int]]:
    return [[index - 9 for index in face] for face in faces]


OBJ = {
    "bom": b"\xef\xbb\xbf" + cube_obj().encode(),
    "windows": cube_obj().replace("\n", "\r\n").encode(),
    "old mac": cube_obj().replace("\n", "\r").encode(),
    "tabs": cube_obj().replace(" ", "\t").encode(),
    "indented": cube_obj().replace("\n", "  \n   ").encode(),
    "continued": cube_obj().replace("f 1 3 7", "f 1 3 \\\n7").encode(),
    "comments": cube_obj().replace("\n", " # caf\xe9\n").encode("latin-1"),
    "triangles": cube_obj([*([a, b, c] for a, b, c, _ in QUADS), *([a, c, d] for a, _, c, d in QUADS)]).encode(),
    "from the end": cube_obj(last(QUADS)).encode(),
    # the second half of the file counts from its own end: not from that of the file
    "in parts": (cube_obj(last(QUADS)) + "v 9 9 9\n").encode(),
}


@pytest.mark.parametrize("kind", OBJ)
def test_an_obj_of_any_program_is_the_same_cube(tmp_path, kind):
    (tmp_path / "a.obj").write_bytes(OBJ[kind])
    mesh = normalised(read(tmp_path / "a.obj"))
    assert len(mesh.faces) == 12 and mesh.volume == pytest.approx(LONGEST**3)


def test_an_obj_that_counts_from_zero_is_refused(tmp_path):
    for faces in ("f 0 2 6 4", "f 5/1/1 6/2/2 0/3/3", "f 7//1 0//1 3//1"):
        (tmp_path / "a.obj").write_text(cube_obj() + "vt 0 0\n" * 3 + faces + "\n")
        with pytest.raises(Rejected, match=r"a\.obj counts its vertices from 0"):
            read(tmp_path / "a.obj")
    (tmp_path / "a.obj").write_text(cube_obj().replace("f 1 ", "f 10 "))
    with pytest.raises(Rejected, match=r"a\.obj is damaged"):
        read(tmp_path / "a.obj")


L_SHAPE = [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]  # area 3, one corner turns the other way


@pytest.mark.parametrize("ending", ["obj", "off", "ply"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_polygon_that_is_not_convex_covers_what_it_should(tmp_path, ending, axis):
    """Begun at any corner, in any plane: a fan would have faces outside of the polygon."""
    for first in range(6):
        for turn in (1, -1):
            flat = np.roll(L_SHAPE, first, axis=0)[::turn]
            points = np.insert(flat.astype(float), axis, 0.0, axis=1)
            rows = "".join(f"{x} {y} {z}\n" for x, y, z in points)
            text = {
                "obj": rows.replace("\n", "\nv ").removesuffix("v ") + "f 1 2 3 4 5 6\n",
                "off": f"OFF\n6 1 0\n{rows}6 0 1 2 3 4 5\n",
                "ply": "ply\nformat ascii 1.0\nelement vertex 6\nproperty float x\nproperty float y\nproperty float z\n"
                f"element face 1\nproperty list uchar int vertex_indices\nend_header\n{rows}6 0 1 2 3 4 5\n",
            }[ending]
            (tmp_path / f"a.{ending}").write_text(("v " if ending == "obj" else "") + text)
            mesh = read(tmp_path / f"a.{ending}")
            assert mesh.area == pytest.approx(3) and len(mesh.faces) == 4  # overlaps would have more
            own = np.array(points)
            across = np.cross(own, np.roll(own, -1, axis=0)).sum(axis=0)
            assert (mesh.face_normals @ across > 0).all()


FACES = "".join(f"4 {' '.join(str(i - 1) for i in face)} {colour}\n" for face, colour in
                zip(QUADS, ("200 20 20", "20 200 20", "20 20 200", "200 200 20", "20 200 200", "200 20 200"),
                    strict=True))  # fmt: skip
ROWS = "".join(f"{x} {y} {z}\n" for x, y, z in CUBE.vertices)
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\nelement face 6\n"
    "property list uchar int vertex_indices\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
    "end_header\n"
)
COLOURED = {
    "a.ply": PLY + ROWS + FACES,
    "a.off": f"OFF 8 6 12 # counts beside the header\n{ROWS}{FACES}",
    "b.off": f"OFF\n8 6 0\n{ROWS}{FACES.replace('200', '0.784').replace(' 20', ' 0.078')}",
}


@pytest.mark.parametrize("name", COLOURED)
def test_polygons_keep_their_colours(tmp_path, name):
    (tmp_path / name).write_text(COLOURED[name])
    (part,) = load(Model(name="a", file=tmp_path / name), coloured=True).geometry.values()
    assert len(part.faces) == 12 and part.volume == pytest.approx(1)
    for face, colour in zip(QUADS, ("rgg", "grg", "ggr", "rrg", "grr", "rgr"), strict=True):
        of_it = [set(three) <= {index - 1 for index in face} for three in part.faces.tolist()]
        expected = [200 if channel == "r" else 20 for channel in colour]
        assert sum(of_it) == 2 and (part.visual.face_colors[of_it][:, :3] == expected).all()


def test_an_off_file_has_colours_of_vertices(tmp_path):
    colours = np.arange(32).reshape(8, 4) * 8 + 7
    rows = "".join(
        f"{x} {y} {z} {r} {g} {b} {a}\n" for (x, y, z), (r, g, b, a) in zip(CUBE.vertices, colours, strict=True)
    )
    (tmp_path / "a.off").write_text(f"COFF\n8 12 0\n{rows}" + "".join(f"3 {a} {b} {c}\n" for a, b, c in CUBE.faces))
    (part,) = load(Model(name="a", file=tmp_path / "a.off"), coloured=True).geometry.values()
    assert np.array_equal(part.visual.vertex_colors, colours)


def test_linked_folders_are_entered_and_a_ring_of_links_ends(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "chair.obj").write_bytes(obj(box()))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "chairs").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["chairs/chair"]


def test_names_of_files_may_be_any_bytes(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "a.obj").write_bytes(obj(box()))
    (folder / "b.obj").write_text("nothing")
    good, bad = find(tmp_path)
    assert np.allclose(read(good).extents, BOX)
    with pytest.raises(Rejected, match=r"caf\\udce9/b\.obj"):
        read(bad)
    json.dumps([good.name, bad.place], ensure_ascii=False).encode()  # can be written
