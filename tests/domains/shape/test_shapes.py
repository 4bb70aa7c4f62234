"""Sources of shapes: the layout of Occupancy Networks, its variants and mistakes, and one mesh as a source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from ddmi.base.errors import UserError
from ddmi.data.preparation import UNIT
from ddmi.data.shapes import ShapeSource
from ddmi.data.splits import split
from ddmi.data.stored import load
from ddmi.domains.shape import shapes
from ddmi.domains.shape.shapes import CLOSE, ShapeFolder, open_shapes
from ddmi.domains.shape.single_mesh import SingleMesh

RADIUS = 0.8  # of the ball that every model here is, in our frame


def ball(folder: Path, seed: int = 0, count: int = 803, *, packed: bool = True, **changes: Any) -> Path:
    """A model's folder with a ball; `changes` replace cloud_points, cloud_normals, points or occupancies."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    space = rng.uniform(-UNIT, UNIT, (count, 3)).astype(np.float16)
    inside = np.linalg.norm(space.astype(float), axis=1) < RADIUS * UNIT
    arrays = {
        "cloud_points": (normals * RADIUS * UNIT).astype(np.float16),
        "cloud_normals": normals.astype(np.float16),
        "points": space,
        "occupancies": np.packbits(inside) if packed else inside,
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pointcloud.npz", points=arrays["cloud_points"], normals=arrays["cloud_normals"], scale=1.0)
    np.savez(folder / "points.npz", points=arrays["points"], occupancies=arrays["occupancies"])
    return folder


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("packed", [True, False])
def test_a_ball_reads_back_in_our_frame(tmp_path, packed):
    ball(tmp_path / "a", packed=packed)
    source = open_shapes(tmp_path)
    assert isinstance(source, ShapeSource) and isinstance(source, ShapeFolder)
    assert source.names == ["a"] and source.captions is None and source.labels is None and source.parts is None
    points, normals = source.surface(0, 400, rng())
    assert points.dtype == normals.dtype == np.float32
    assert np.allclose(np.linalg.norm(points, axis=1), RADIUS, atol=1e-3)
    assert np.allclose(normals, points / RADIUS, atol=2e-3) and np.allclose(np.linalg.norm(normals, axis=1), 1)
    asked, inside = source.queries(0, 500, 0, rng())
    assert asked.shape == (500, 3) and inside.dtype == bool and np.abs(asked).max() <= 1
    assert (inside == (np.linalg.norm(asked, axis=1) < RADIUS)).mean() > 0.995
    assert inside.mean() == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 8, abs=0.06)


def test_no_point_twice_while_there_are_enough(tmp_path):
    ball(tmp_path / "a")
    source = ShapeFolder(tmp_path)
    asked, inside = source.queries(0, 803, 0, rng())
    stored = load(tmp_path / "a")
    assert sorted(map(tuple, asked)) == sorted(map(tuple, (stored.space.astype(np.float32) / np.float32(UNIT))))
    assert inside.sum() == stored.space_inside.sum()
    assert len(source.surface(0, 2000, rng())[0]) == 2000 and len(source.queries(0, 900, 0, rng())[0]) == 900
    one, same, other = (source.surface(0, 50, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (one == same).all() and not (one == other).all()


def test_without_near_points_those_close_to_the_surface_are_taken(tmp_path):
    ball(tmp_path / "a", count=5000)
    source = ShapeFolder(tmp_path)
    asked, inside = source.queries(0, 100, 200, rng())
    depth = np.abs(np.linalg.norm(asked, axis=1) - RADIUS)
    assert (depth[100:] <= CLOSE + 2e-3).all() and (depth[:100] > 0.1).any()
    assert (inside == (np.linalg.norm(asked, axis=1) < RADIUS))[depth > 2e-3].all()


def test_near_points_of_a_preparation_are_taken_as_they_are(tmp_path):
    ball(tmp_path / "a")
    close = np.full((803, 3), 0.25, np.float16) + np.arange(803, dtype=np.float16)[:, None] / 8192
    np.savez(tmp_path / "a" / "near.npz", points=close, occupancies=np.packbits(np.arange(803) % 2 == 0))
    asked, inside = ShapeFolder(tmp_path).queries(0, 10, 803, rng())
    assert asked.shape == (813, 3) and inside.shape == (813,)
    order = np.argsort(asked[10:, 0], kind="stable")
    assert np.allclose(asked[10:][order], np.sort(close.astype(float), axis=0) / UNIT, atol=1e-6)
    assert inside[10:].sum() == 402


def test_without_memory_the_same_points_come(tmp_path):
    for name in "abc":
        ball(tmp_path / name, seed=ord(name))
    size = load(tmp_path / "a").nbytes
    sources = [ShapeFolder(tmp_path, memory=memory) for memory in (0, size + size // 2, 1 << 30)]
    assert [len(source._memory._kept) for source in sources] == [0, 1, 3]
    for index in range(3):
        points = [source.surface(index, 64, rng())[0] for source in sources]
        asked = [source.queries(index, 64, 64, rng()) for source in sources]
        assert (points[0] == points[1]).all() and (points[0] == points[2]).all()
        assert all((a == asked[0][0]).all() and (b == asked[0][1]).all() for a, b in asked)


def test_classes_of_shapenet_in_words_and_their_own_parts(tmp_path):
    for synset, models in (("03001627", "abcd"), ("04379243", "ef"), (".git", "x")):
        for name in models:
            ball(tmp_path / synset / name, count=104)
    (tmp_path / "03001627" / "train.lst").write_text("a\nb\n\ngone\n")
    (tmp_path / "03001627" / "val.lst").write_text("c")
    (tmp_path / "04379243" / "test.lst").write_text("f\n")
    source = open_shapes(tmp_path)
    # d is in no list of a class that says what is trained on; e is, since only what is held out is listed
    assert source.names == ["03001627/a", "03001627/b", "03001627/c", "04379243/e", "04379243/f"]
    assert source.classes == ["chair", "table"] and source.labels == [0, 0, 0, 1, 1]
    assert source.parts == ["train", "train", "val", "train", "test"]
    assert split(source, "train") == [0, 1, 3] and split(source, "test") == [4]
    chairs = open_shapes(tmp_path / "03001627")
    assert chairs.names == ["a", "b", "c"] and chairs.labels is None and chairs.classes == []
    assert split(chairs, "test") == [2]  # the val part stands in for a test part that is not there
    one = open_shapes(tmp_path / "03001627" / "a")
    assert one.names == ["a"] and one.groups == [[0]]


def test_captions_of_jsonl(tmp_path):
    for name in ("k/a", "k/b", "m/c"):
        ball(tmp_path / name, count=104)
    lines = [("k/a", "a  round\nchair"), ("k/a", "a seat"), ("k/gone", "x"), ("m/c", "")]
    table = tmp_path / "captions.jsonl"
    table.write_text("\n".join(json.dumps({"model": model, "text": text}) for model, text in lines))
    assert open_shapes(tmp_path).captions == [["a round chair", "a seat"], [], []]
    table.write_text('{"model": "k/a"}')
    with pytest.raises(UserError, match=r"captions\.jsonl, line 1: needs"):
        open_shapes(tmp_path)
    table.write_text('{"model": "a", "text": "x"}')
    with pytest.raises(UserError, match=r"names none of the shapes: a name is like 'k/a'"):
        open_shapes(tmp_path)


def test_captions_of_text2shape(tmp_path, caplog):
    for name in ("03001627/a1", "04379243/b2"):
        ball(tmp_path / name, count=104)
    table = tmp_path / "captions.tablechair.csv"
    table.write_text(
        "id,modelId,description,category,topLevelSynsetId,subSynsetId\n"
        '1,a1,"a chair, with\nfour legs",Chair,03001627,x\n2,a1,red chair,Chair,03001627,x\n'
        "3,zz,not here,Chair,03001627,x\n4,b2,,Table,04379243,x\n5,a1,red chair,Chair,03001627,x\n"
    )
    assert open_shapes(tmp_path).captions == [["a chair, with four legs", "red chair"], []]
    table.write_text("id,modelId,description\n1,zz,far away\n")
    assert open_shapes(tmp_path).captions is None and "names none of the shapes" in caplog.text
    table.write_text("id,model,text\n1,a1,x\n")
    with pytest.raises(UserError, match="needs the columns modelId and description"):
        open_shapes(tmp_path)


def ones(*shape: int) -> np.ndarray:
    return np.full(shape, 0.1, np.float32)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "few": (
        {"cloud_points": ones(99, 3), "cloud_normals": ones(99, 3)},
        r"pointcloud\.npz has 99 points, at least 100",
    ),
    "nan": ({"cloud_points": ones(803, 3) * np.nan}, r"pointcloud\.npz: `points` has values that are not finite"),
    "flat": ({"points": ones(803, 2)}, r"points\.npz: `points` must be \(n, 3\)"),
    "integers": ({"points": np.ones((803, 3), int)}, r"points\.npz: `points` must be \(n, 3\)"),
    "far": ({"points": ones(803, 3) * 9}, r"points\.npz: coordinates reach 0\.9, the layout .* ends at 0\.55"),
    "unequal": (
        {"occupancies": np.ones(700, bool)},
        r"points\.npz: 803 points go with 803 `occupancies`, or 101 bytes",
    ),
    "unequal bits": ({"occupancies": np.ones(100, np.uint8)}, r"points\.npz: 803 points go with"),
    "empty": ({"occupancies": np.zeros(101, np.uint8)}, r"points\.npz: no point is inside"),
    "normals": ({"cloud_normals": ones(700, 3)}, r"pointcloud\.npz: `normals` must be 803 x 3"),
    "pickled": ({"points": np.array([[object()] * 3] * 803)}, r"points\.npz is damaged or no npz file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_is_told_by_its_file(tmp_path, kind, caplog):
    changes, reason = BAD[kind]
    ball(tmp_path / "bad", **changes)
    with pytest.raises(UserError, match=reason):
        load(tmp_path / "bad")
    with pytest.raises(UserError, match=r"no shape in .* can be used, the first, bad: .*" + reason):
        open_shapes(tmp_path)
    ball(tmp_path / "good")
    source = ShapeFolder(tmp_path)
    assert source.names == ["good"] and source.bad[0][0] == "bad"
    assert "1 of 2 shapes are left out: bad" in caplog.text


def test_an_error_that_nobody_foresaw_leaves_one_shape_out(tmp_path, monkeypatch):
    ball(tmp_path / "bad")
    ball(tmp_path / "good")

    def careless(folder):
        if folder.name == "bad":
            raise IndexError("off by one")
        return load(folder)

    monkeypatch.setattr(shapes, "load", careless)
    source = ShapeFolder(tmp_path)
    assert source.names == ["good"] and "bad cannot be read: IndexError: off by one" in source.bad[0][1]


def test_damaged_missing_and_incomplete_files(tmp_path):
    whole = (ball(tmp_path / "a") / "points.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"rubbish"):
        (tmp_path / "a" / "points.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"points\.npz is damaged or no npz file"):
            load(tmp_path / "a")
    np.savez(tmp_path / "a" / "points.npz", points=ones(200, 3))
    with pytest.raises(UserError, match=r"points\.npz has no array `occupancies`, only points"):
        load(tmp_path / "a")
    (tmp_path / "a" / "points.npz").unlink()
    with pytest.raises(UserError, match=r"points\.npz is missing"):
        load(tmp_path / "a")


def test_what_is_at_a_path_decides(tmp_path):
    with pytest.raises(UserError, match="is not a folder of shapes, and no mesh file"):
        open_shapes(tmp_path / "gone")
    with pytest.raises(UserError, match="no shape in"):
        open_shapes(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    trimesh.creation.box().export(tmp_path / "deep" / "er" / "a.obj")
    with pytest.raises(
        UserError, match=r"raw meshes \(a\.obj, \.\.\.\), prepare them first: ddmi prepare shapes .* DST"
    ):
        open_shapes(tmp_path)
    for name, told in (("a.zip", "prepare them first"), ("a.npz", "is not a mesh: one ends in")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match=told):
            open_shapes(tmp_path / name)
    assert isinstance(open_shapes(tmp_path / "deep" / "er" / "a.obj"), SingleMesh)


def test_one_mesh_is_a_source(tmp_path):
    path = tmp_path / "box.ply"
    trimesh.creation.box((2, 1, 1)).export(path)
    source = SingleMesh(path)
    assert isinstance(source, ShapeSource) and source.names == ["box.ply"]
    half = np.array([1, 0.5, 0.5]) / 1.1
    points, normals = source.surface(0, 2000, rng())
    assert np.allclose((np.abs(points) / half).max(1), 1, atol=1e-5) and points.dtype == normals.dtype == np.float32
    assert np.einsum("nd,nd->n", points, normals).min() > 0  # outwards
    asked, inside = source.queries(0, 300, 300, rng())
    gap = (np.abs(asked) - half).max(1)
    assert asked.shape == (600, 3) and asked.dtype == np.float32
    assert (inside == (gap < 0))[np.abs(gap) > 1e-4].all()
    assert np.median(np.abs(gap[300:])) < 0.06 < np.median(np.abs(gap[:300]))


def test_an_open_mesh_is_a_source_with_a_warning(tmp_path, caplog):
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0.1], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]).export(tmp_path / "s.ply")
    points, _ = SingleMesh(tmp_path / "s.ply").surface(0, 100, rng())
    assert points.shape == (100, 3) and "s.ply is not closed" in caplog.text


def test_a_mesh_that_makes_no_shape_is_named(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(UserError, match=r"a\.obj cannot be used: flat"):
        open_shapes(tmp_path / "a.obj")
    with pytest.raises(UserError, match="does not exist"):
        SingleMesh(tmp_path / "b.obj")
