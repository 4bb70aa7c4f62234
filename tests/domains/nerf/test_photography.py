"""Views of meshes: what is written is read again as what it was, and does not depend on when the work was done."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddmi.base.errors import UserError

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")
pytest.importorskip("scipy")

from ddmi.data.meshes import LONGEST, Model, Rejected, find, load, normalised  # noqa: E402
from ddmi.domains.nerf import photography  # noqa: E402
from ddmi.domains.nerf.checks import check  # noqa: E402
from ddmi.domains.nerf.photography import FurnitureViews, prepare_views, upright  # noqa: E402
from ddmi.domains.nerf.views import ViewFolder, ViewSource  # noqa: E402
from ddmi.rendering.cameras import sphere  # noqa: E402
from ddmi.rendering.shader import TracedMesh, render_view  # noqa: E402

SMALL = {"views": 5, "size": 24, "points": 300}
RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)


def painted(mesh, colour):
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=np.tile(np.uint8(colour), (len(mesh.faces), 1)))
    return mesh


def signs():
    """A red ball at the right, a green box above, a blue one towards the viewer: 4 x 3 x 2 around (9, 9, 9)."""
    ball = painted(trimesh.creation.icosphere(2, 0.5), RED).apply_translation((1.5, -1.0, -0.5))
    above = painted(trimesh.creation.box((1, 1, 1)), GREEN).apply_translation((-1.5, 1.0, -0.5))
    ahead = painted(trimesh.creation.box((1, 1, 1)), BLUE).apply_translation((-1.5, -1.0, 0.5))
    return trimesh.util.concatenate([ball, above, ahead]).apply_translation((9, 9, 9))


MIDDLES = np.array([[1.5, -1.0, -0.5], [-1.5, 1.0, -0.5], [-1.5, -1.0, 0.5]]) * LONGEST / 4


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three that stay, in two classes, a flat one and a file that is no mesh."""
    folder = tmp_path / "raw"
    flat = trimesh.creation.box((1, 1, 1))
    flat.vertices[:, 1] = 0
    for name, mesh in {
        "round/ball.ply": painted(trimesh.creation.icosphere(2, 3.0), GREEN),
        "square/bar.stl": trimesh.creation.box((1, 3, 1)),
        "square/signs.ply": signs(),
        "square/flat.off": flat,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        mesh.export(folder / name)
    (folder / "square" / "rubbish.obj").write_text("nothing")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# the files ------------------------------------------------------------------------------------------------------------


def test_the_files_are_those_of_srn(raw, tmp_path):
    done = prepare_views(raw, tmp_path / "out", **SMALL)
    assert done.kept == ["round/ball", "square/bar", "square/signs"] and done.fresh == 5
    assert done.classes == {"round": 1, "square": 2}
    assert "flat" in done.rejected["square/flat"] and set(done.rejected) == {"square/flat", "square/rubbish"}
    assert str(tmp_path) not in "".join(done.rejected.values())
    written = content(tmp_path / "out")
    views = [
        f"{kind}/{number:06d}.{ending}" for kind, ending in (("rgb", "png"), ("pose", "txt")) for number in range(5)
    ]
    inside = [*views, "intrinsics.txt", "points.npz", "scene.json"]
    assert set(written) == {"preparation.json", "rejected.jsonl"} | {f"{n}/{f}" for n in done.kept for f in inside}
    assert json.loads(written["round/ball/scene.json"]) == {"radius": 1.0}
    first, *rest = written["round/ball/intrinsics.txt"].decode().splitlines()
    assert rest == ["0. 0. 0.", "1.", "24 24"]
    assert [float(word) for word in first.split()] == pytest.approx([12 / np.tan(np.radians(20)), 12, 12, 0])


def test_poses_are_those_of_opencv_and_points_lie_in_the_cube(raw, tmp_path):
    """The middle of each of three signs, projected by the written numbers alone, shows the sign's colour."""
    prepare_views(raw, tmp_path / "out", views=12, size=48, points=2000)
    folder = tmp_path / "out" / "square" / "signs"
    focal, x, y, _ = (float(word) for word in (folder / "intrinsics.txt").read_text().splitlines()[0].split())
    shown = 0
    for path in sorted((folder / "pose").iterdir()):
        pose = np.array(path.read_text().split(), float).reshape(4, 4)
        picture = Image.open(folder / "rgb" / f"{path.stem}.png")
        assert picture.mode == "RGBA" and picture.size == (48, 48)
        across, down, ahead = ((MIDDLES - pose[:3, 3]) @ pose[:3, :3]).T  # OpenCV: x right, y down, looking along z
        assert (ahead > 0).all()
        for k, nearer in enumerate(ahead == ahead.min()):
            column, row = int(focal * across[k] / ahead[k] + x), int(focal * down[k] / ahead[k] + y)
            colour = np.array(picture)[row, column]
            if nearer:  # the others may be hidden
                assert colour[:3].argmax() == k and colour[3] == 255
            shown += colour[:3].argmax() == k
    assert shown > 30
    with np.load(folder / "points.npz", allow_pickle=False) as file:
        points, colours = file["points"].astype(float), file["colours"]
    assert points.shape == colours.shape == (2000, 3) and colours.dtype == np.uint8
    nearest = np.linalg.norm(points[:, None] - MIDDLES, axis=2).argmin(axis=1)
    assert (colours.argmax(axis=1) == nearest).all() and set(nearest) == {0, 1, 2}
    assert np.abs(points).max(axis=0) == pytest.approx([LONGEST / 2, LONGEST * 3 / 8, LONGEST / 4], abs=0.03)


def test_a_source_reads_what_was_written(raw, tmp_path, caplog):
    prepare_views(raw, tmp_path / "out", views=8, size=48, points=1500)
    caplog.clear()
    source = ViewFolder(tmp_path / "out")
    assert source.names == ["round/ball", "square/bar", "square/signs"] and source.classes == ["round", "square"]
    assert source.counts == [8, 8, 8] and not source.bad and not caplog.records
    views, cloud = source.cameras(2), source.cloud(2, 1000, np.random.default_rng(0))
    assert np.linalg.norm(views.eyes, axis=1) == pytest.approx(1.575 / np.sin(np.radians(20)), rel=1e-6)
    nearest = np.linalg.norm(cloud[:, None, :3] - MIDDLES, axis=2).argmin(axis=1)
    assert (cloud[:, 3:].argmax(axis=1) == nearest).all()
    pictures = source.images(2, range(8))
    assert check(views, pictures) == []
    for view in range(8):
        pixel, _, _ = views.project(view, cloud[:, :3].astype(float))
        column, row = np.floor(pixel).astype(int).T
        assert (pictures[view, row, column].min(axis=1) < 255).mean() > 0.95  # points lie on what is not background


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_run_ends_as_an_unbroken_one(raw, tmp_path, after):
    whole = prepare_views(raw, tmp_path / "whole", **SMALL)

    def stop(done: int, count: int) -> None:
        assert count == 5
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_views(raw, tmp_path / "broken", progress=stop, **SMALL)
    for scene in (tmp_path / "broken").glob("*/*"):
        assert len(list((scene / "rgb").iterdir())) == 5  # whole objects only
    (tmp_path / "broken" / "square" / ".signs.writing").mkdir(parents=True)  # what a lost process leaves behind
    with (tmp_path / "broken" / "rejected.jsonl").open("a") as file:
        file.write('{"model": "square/si')
    ahead = []
    rest = prepare_views(raw, tmp_path / "broken", progress=lambda done, count: ahead.append(done), **SMALL)
    assert rest.fresh == 5 - after and ahead == list(range(after + 1, 6))
    assert rest.kept == whole.kept and rest.rejected == whole.rejected
    assert content(tmp_path / "broken") == content(tmp_path / "whole")
    assert prepare_views(raw, tmp_path / "broken", **SMALL).fresh == 0


def test_an_object_does_not_depend_on_its_neighbours_nor_on_the_processes(raw, tmp_path, monkeypatch):
    start = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda way: start("fork"))  # a fresh start takes seconds
    prepare_views(raw, tmp_path / "one", **SMALL)
    prepare_views(raw, tmp_path / "two", processes=2, **SMALL)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    (raw / "square" / "bar.stl").unlink()
    prepare_views(raw, tmp_path / "fewer", **SMALL)
    prepare_views(raw, tmp_path / "seed", seed=1, **SMALL)
    for name in ("square/signs/rgb/000002.png", "square/signs/pose/000000.txt", "square/signs/points.npz"):
        assert content(tmp_path / "fewer")[name] == content(tmp_path / "one")[name]
        assert content(tmp_path / "seed")[name] != content(tmp_path / "one")[name]


def test_what_a_catalogue_tells_is_kept_and_its_rotation_used(tmp_path):
    """The rotation lays what stood along y along z: ahead is then where above was."""
    table = (
        "name=Old things\nlicense=CC0\nid#1=x#post\nname#1=Post\ntags#1=Toy\ncategory#1=Garden\nmodel#1=a/post.obj\n"
    )
    table += "modelRotation#1=1 0 0 0 0 -1 0 1 0\ncreator#1=Ann\nid#2=x#air\nname#2=Air\nmodel#2=a/air.obj\n"
    members = {
        "PluginFurnitureCatalog.properties": table,
        "LICENSE.TXT": "free",
        "a/post.obj": trimesh.creation.box((1, 4, 1)).export(file_type="obj"),
        "a/air.obj": "v 0 0 0",
    }
    with zipfile.ZipFile(tmp_path / "a.sh3f", "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    out = tmp_path / "out"
    done = prepare_views(tmp_path / "a.sh3f", out, **SMALL)
    assert done.kept == ["garden/post"] and list(done.rejected) == ["other/air"]
    with np.load(out / "garden" / "post" / "points.npz", allow_pickle=False) as file:
        assert np.abs(file["points"].astype(float)).max(axis=0).argmax() == 2
    lines = [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]
    assert lines == [{"model": "garden/post", "text": "post"}, {"model": "garden/post", "text": "post, toy"}]
    credit = {"model": "garden/post", "title": "Post", "creator": "Ann", "license": "CC0", "source": "Old things"}
    assert json.loads((out / "credits.jsonl").read_text()) == credit
    assert "free" in next((out / "licences").iterdir()).read_text()
    assert ViewFolder(out).captions == [["post", "post, toy"]]
    mine = '{"model": "someone/else",  "text": "mine"}'
    (out / "captions.jsonl").write_text(mine + "\n" + (out / "captions.jsonl").read_text())
    prepare_views(tmp_path / "a.sh3f", out, **SMALL)
    told = (out / "captions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in told[:2]] == lines and told[2:] == [mine]


def test_what_the_user_must_change(raw, tmp_path):
    prepare_views(raw, tmp_path / "out", **SMALL)
    with pytest.raises(UserError, match=r"out was prepared with other settings \(seed was 0, not 3\)"):
        prepare_views(raw, tmp_path / "out", seed=3, **SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="mine is not empty, and not a folder that was prepared"):
        prepare_views(raw, tmp_path / "mine", **SMALL)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.obj").write_text("nothing")
    with pytest.raises(UserError, match="none of the 1 meshes can be used, the first, a: "):
        prepare_views(tmp_path / "bad", tmp_path / "none", **SMALL)
    for wrong, told in (
        ({"points": 9}, "points at least 100"),
        ({"views": 0}, "at least 1"),
        ({"processes": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=told):
            prepare_views(raw, tmp_path / "new", **{**SMALL, **wrong})
        assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="both have a model"):
        prepare_views([raw, raw], tmp_path / "new", **SMALL)


# reading --------------------------------------------------------------------------------------------------------------


def square_obj(texture: str) -> dict[str, bytes]:
    """A textured square in the plane z = 0 and a green triangle behind it, of two materials."""
    obj = "mtllib m.mtl\nv -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nv 0 0 -1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    obj += "usemtl paper\nf 1/1 2/2 3/3 4/4\nusemtl leaf\nf 1 2 5\n"
    return {"q.obj": obj.encode(), "m.mtl": f"newmtl paper\nmap_Kd {texture}\nnewmtl leaf\nKd 0 1 0\n".encode()}


def png(colour) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def front(model: Model) -> np.ndarray:
    """The colour in the middle, seen from the front, in the light."""
    from ddmi.rendering.cameras import Camera

    scene = upright(load(model, coloured=True), model.rotation)
    return render_view(scene, Camera.orbit(0.0, 0.0, distance=4.0, fov=40.0, size=9)).colour[4, 4]


NAMES = ["p.png", "P.PNG", "textures/p.png", "../p.png", r"C:\Users\Ann\my pictures\p.png", "/home/ann/p.png"]


@pytest.mark.parametrize("name", NAMES)
def test_textures_are_found_beside_the_mesh(tmp_path, name):
    """In an archive and in a folder: as named, one folder up, or by the bare name where the path is of elsewhere."""
    at = {"textures/p.png": "x/textures/p.png", "../p.png": "p.png"}.get(name, "x/p.png")
    files = {f"x/{member}": data for member, data in square_obj(name).items()} | {at: png((0, 0, 255))}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
            (tmp_path / "f" / member).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "f" / member).write_bytes(data)
    assert front(Model(name="q", file=tmp_path / "a.zip", member="x/q.obj")).argmax() == 2
    assert front(Model(name="q", file=tmp_path / "f" / "x" / "q.obj", root=tmp_path / "f")).argmax() == 2


def test_textures_outside_of_the_data_are_not_read(tmp_path, caplog):
    for member, data in square_obj("../secret.png").items():
        (tmp_path / "a" / "b").mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / "b" / member).write_bytes(data)
    (tmp_path / "a" / "secret.png").write_bytes(png((255, 0, 0)))
    (model,) = find(tmp_path / "a" / "b")
    assert np.ptp(front(model).astype(int)) < 5  # the material's grey
    assert "../secret.png lies outside of the folder of data and is not read" in caplog.text
    (model,) = find(tmp_path / "a")  # now it lies inside
    assert front(model).argmax() == 0


MATERIALS = {
    "options": {"m.mtl": "newmtl paper\nmap_Kd -clamp on -s 1 1 1 -o 0 0 0 -mm 0 1 p.png\n"},
    "the case of names": {"M.MTL": "newmtl paper\nMAP_KD P.PNG\n"},
    "a byte order mark": {"m.mtl": "\ufeffnewmtl paper\r\nmap_Kd\tp.png\r\n"},
    "several libraries": {"m.mtl": "newmtl leaf\nKd 0 1 0\n", "n.mtl": "newmtl paper\nmap_Kd p.png\n"},
}


@pytest.mark.parametrize("kind", MATERIALS)
def test_materials_of_any_program_are_found(tmp_path, kind):
    """Blue, not the grey that a material without its texture has."""
    named = {"several libraries": "mtllib m.mtl n.mtl\n", "options": "mtllib gone.mtl\nmtllib m.mtl\n"}
    obj = square_obj("")["q.obj"].replace(b"mtllib m.mtl\n", named.get(kind, "mtllib m.mtl\n").encode())
    (tmp_path / "q.obj").write_bytes(obj)
    for name, text in MATERIALS[kind].items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "p.png").write_bytes(png((0, 0, 255)))
    assert front(Model(name="q", file=tmp_path / "q.obj")).argmax() == 2


@pytest.mark.parametrize(("options", "channel"), [("", 0), ("-o 0.5 0", 1), ("-s 0.2 0.2 -o .7", 1), ("-o 0 0.5", 2)])
def test_a_texture_is_scaled_and_moved_as_its_options_say(tmp_path, options, channel):
    """All corners of the square lie at (0.25, 0.25) in four quarters: red, green below; blue, white above."""
    files = square_obj(f"{options} p.png".strip())
    obj = b"\n".join(b"vt 0.25 0.25" if line[:2] == b"vt" else line for line in files["q.obj"].split(b"\n"))
    (tmp_path / "q.obj").write_bytes(obj)
    (tmp_path / "m.mtl").write_bytes(files["m.mtl"])
    pixels = np.array([[[0, 0, 255], [255, 255, 255]], [[255, 0, 0], [0, 255, 0]]], np.uint8)
    Image.fromarray(pixels.repeat(32, 0).repeat(32, 1)).save(tmp_path / "p.png")
    colour = front(Model(name="q", file=tmp_path / "q.obj"))
    assert colour.argmax() == channel and np.sort(colour)[1] < 0.2 * colour.max()


def test_colours_of_vertices_count_where_a_material_has_no_texture(tmp_path):
    """As MeshLab writes them, with a white material."""
    text = "mtllib m.mtl\nv -1 -1 0 0 1 0\nv 1 -1 0 0 1 0\nv 1 1 0 0 1 0\nv -1 1 0 0 1 0\nv 0 0 -1 0 1 0\n"
    (tmp_path / "q.obj").write_text(text + "usemtl white\nf 1 2 3 4\nf 1 2 5\n")
    (tmp_path / "m.mtl").write_text("newmtl white\nKd 1 1 1\n")
    assert front(Model(name="q", file=tmp_path / "q.obj")).argmax() == 1


def test_the_frame_is_that_of_shapes(tmp_path):
    signs().export(tmp_path / "signs.glb")
    model = Model(name="signs", file=tmp_path / "signs.glb")
    for up in ("y", "z"):
        expected = normalised(signs(), up).bounds
        assert upright(load(model, coloured=True), up=up).bounds == pytest.approx(expected, abs=1e-6)
    turned = upright(load(model, coloured=True), (0.0, 0, 1, 0, 1, 0, -1, 0, 0))  # by 90 degrees around y: x to -z
    assert np.ptp(turned.bounds, axis=0) == pytest.approx(LONGEST / 4 * np.array([2, 3, 4]), abs=1e-6)


def test_meshes_that_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 1 1\n")
    for name, told in (("a.xyz", "a mesh ends in"), ("points.obj", "points.obj"), ("none.obj", "cannot be read")):
        with pytest.raises(Rejected, match=told):
            load(Model(name="x", file=tmp_path / name), coloured=True)


# furniture ------------------------------------------------------------------------------------------------------------


def test_furniture_is_a_source_of_views():
    source = FurnitureViews(12, views=24, size=40)
    assert isinstance(source, ViewSource)
    assert len(source.names) == len(source.counts) == 12 and set(source.counts) == {24} and source.bad == []
    for index in (0, 3, 7):
        views, pictures = source.cameras(index), source.images(index, range(24))
        assert pictures.shape == (24, 40, 40, 3) and len(views) == 24 and views.size == (40, 40)
        assert check(views, pictures) == []


def test_points_have_the_colours_of_the_pictures():
    """A ray from a camera to a point of the surface meets its colour, or something before it."""
    source = FurnitureViews(8, views=4, size=96)
    for index in range(5):
        views, subject = source.cameras(index), TracedMesh(source.furniture.mesh(index))
        cloud = source.cloud(index, 3000, np.random.default_rng(0))
        assert np.abs(cloud).max() <= 1
        met = 0
        for view, picture in enumerate(source.images(index, range(4))):
            towards = cloud[:, :3] - views.eyes[view]
            distance = np.linalg.norm(towards, axis=1)
            seen = subject.seen(np.broadcast_to(views.eyes[view], towards.shape), towards / distance[:, None])
            free = np.abs(seen[:, 4] - distance) < 1e-3
            off = np.abs(2 * seen[free, :3] - 1 - cloud[free, 3:]).max(axis=1)
            assert (off < 0.02).mean() > 0.97  # the rest lie on edges
            column, row = np.floor(views.project(view, cloud[free, :3].astype(float))[0]).astype(int).T
            off = np.abs(picture[row, column] / 127.5 - 1 - cloud[free, 3:]).max(axis=1)
            assert (off < 0.02).mean() > 0.4  # many pixels show an edge
            met += free.sum()
        assert met > 3000


def test_a_view_does_not_depend_on_what_else_was_asked():
    whole = FurnitureViews(5, views=6, size=24).images(2, range(6))
    source = FurnitureViews(3, views=6, size=24)
    some = source.images(2, [4, 1, 4])
    assert np.array_equal(some, whole[[4, 1, 4]])
    some[:] = 0  # the array is the caller's
    assert np.array_equal(source.images(2, [1, 0]), whole[[1, 0]])
    assert source.images(2, []).shape == (0, 24, 24, 3)
    poor = FurnitureViews(3, views=6, size=24, memory=0)
    assert np.array_equal(poor.images(2, [3]), whole[[3]]) and np.array_equal(poor.images(2, [3]), whole[[3]])
    copy = pickle.loads(pickle.dumps(source))
    assert copy.names == source.names and np.array_equal(copy.images(2, [1]), whole[[1]])
    assert not np.array_equal(FurnitureViews(3, views=6, size=24, seed=1).images(2, [3]), whole[[3]])
    for wrong in (-1, 6):
        with pytest.raises(IndexError, match="has 6 views"):
            source.images(2, [0, wrong])


def test_what_is_kept_is_not_taken_again(tmp_path, monkeypatch, caplog):
    taken = []
    camera_shutter = photography.render_view
    monkeypatch.setattr(photography, "render_view", lambda *given: taken.append(1) or camera_shutter(*given))
    source = FurnitureViews(2, views=6, size=24)
    source.images(0, [1, 2])
    source.images(0, [3, 2, 3])
    assert len(taken) == 3
    whole = source.images(0, range(6))
    taken.clear()
    first = FurnitureViews(2, views=6, size=24, cache=tmp_path)
    assert np.array_equal(first.images(0, [5]), whole[[5]]) and len(taken) == 6
    for memory in (0, 10**6):
        again = FurnitureViews(2, views=6, size=24, cache=tmp_path, memory=memory)
        assert np.array_equal(again.images(0, range(6)), whole) and len(taken) == 6
    other = FurnitureViews(2, views=6, size=24, seed=1, cache=tmp_path)
    assert not np.array_equal(other.images(0, range(6)), whole) and len(taken) == 12
    (file,) = (path for path in tmp_path.rglob("*.npz") if np.array_equal(np.load(path)["pictures"], whole))
    content = file.read_bytes()
    for damaged in (content[:100], content[:300] + bytes([content[300] ^ 8]) + content[301:]):
        file.write_bytes(damaged)
        caplog.clear()
        assert np.array_equal(FurnitureViews(2, views=6, size=24, cache=tmp_path).images(0, range(6)), whole)
        (line,) = caplog.messages
        assert f"{file} is damaged and is made again" in line


def test_nearly_all_views_of_furniture_show_it_whole():
    """By the corners of the parts' boxes, which hold more than the parts."""
    source = FurnitureViews(60, views=8)
    cut = 0
    for index, piece in enumerate(source.furniture.pieces):
        ends = np.array([[part.low, part.high] for part in piece.parts])
        which = np.indices((2, 2, 2)).reshape(3, -1).T
        corners = ends[:, which, np.arange(3)].reshape(-1, 3)
        views = source.cameras(index)
        cut += sum(not views.project(view, corners)[2].all() for view in range(8))
    assert cut <= 0.03 * 60 * 8


def test_wrong_numbers():
    with pytest.raises(UserError, match="count must be 1 or more"):
        FurnitureViews(0)
    with pytest.raises(UserError, match="at least one view"):
        FurnitureViews(2, views=0)
    with pytest.raises(UserError, match="size"):
        FurnitureViews(2, size=0)
    assert len(sphere(2)) == 2
