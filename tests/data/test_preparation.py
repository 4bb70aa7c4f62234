"""Preparation: what is written agrees with analysis, and does not depend on when or how the work was done."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ddmi.base.errors import UserError, WorkError
from ddmi.data.preparation import UNIT, carry_out, prepare
from ddmi.domains.shape.shapes import ShapeFolder, open_shapes

SMALL = {"surface": 1001, "queries": 1003}  # no multiple of 8


def ball(radius: float = 1.0) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=radius)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three that stay, in two classes, an open box and a file that is no mesh."""
    folder = tmp_path / "raw"
    cube = trimesh.creation.box((1, 1, 1))
    opened = trimesh.Trimesh(cube.vertices, cube.faces[cube.face_normals[:, 1] < 0.5])
    for name, mesh in {
        "round/ball.ply": ball(),
        "square/cube.stl": cube,
        "square/bar.obj": trimesh.creation.box((1, 3, 1)),
        "square/open.off": opened,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        mesh.export(folder / name)
    (folder / "square" / "rubbish.obj").write_text("nothing")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_those_of_occupancy_networks(raw, tmp_path):
    done = prepare(raw, tmp_path / "out", **SMALL)
    assert done.kept == ["round/ball", "square/bar", "square/cube"] and done.fresh == 5
    assert done.classes == {"round": 1, "square": 2}
    assert "not closed" in done.rejected["square/open"] and set(done.rejected) == {"square/open", "square/rubbish"}
    assert str(tmp_path) not in "".join(done.rejected.values())
    written = content(tmp_path / "out")
    assert set(written) == {"preparation.json", "rejected.jsonl"} | {
        f"{name}/{file}.npz" for name in done.kept for file in ("pointcloud", "points", "near")
    }
    reasons = [json.loads(line) for line in written["rejected.jsonl"].decode().splitlines()]
    assert {entry["model"]: entry["reason"] for entry in reasons} == done.rejected

    ours = 1 / 1.1  # the radius of the ball in our frame
    with np.load(tmp_path / "out" / "round" / "ball" / "pointcloud.npz", allow_pickle=False) as cloud:
        points, normals = cloud["points"], cloud["normals"]
    assert points.dtype == normals.dtype == np.float16 and points.shape == normals.shape == (1001, 3)
    radius = np.linalg.norm(points.astype(float), axis=1)
    assert np.abs(radius - ours * UNIT).max() < 0.006  # which is 0.5, as theirs are
    assert (np.einsum("nd,nd->n", points.astype(float), normals.astype(float)) / radius > 0.99).all()
    for name in ("points.npz", "near.npz"):
        with np.load(tmp_path / "out" / "round" / "ball" / name, allow_pickle=False) as file:
            points, bits = file["points"].astype(float), file["occupancies"]
        assert points.shape == (1003, 3) and bits.shape == (126,) and bits.dtype == np.uint8
        assert np.abs(points).max() <= UNIT
        inside, radius = np.unpackbits(bits)[:1003].astype(bool), np.linalg.norm(points, axis=1)
        clear = np.abs(radius - 0.5) > 0.006
        assert clear.sum() > 500 and (inside == (radius < 0.5))[clear].all()


def test_what_is_inside_was_asked_of_the_rounded_points(tmp_path):
    """At a cube's faces every point counts: they lie on representable numbers, where rounding goes both ways."""
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "cube.ply")
    prepare(tmp_path / "cube.ply", tmp_path / "out", surface=200, queries=20_000)
    with np.load(tmp_path / "out" / "cube" / "near.npz", allow_pickle=False) as file:
        points, inside = file["points"].astype(float), np.unpackbits(file["occupancies"]).astype(bool)
    gap = np.abs(points).max(1) - 0.5
    off = np.abs(gap) > 1e-6
    assert (np.abs(gap) < 5e-4).sum() > 100  # within half a step of float16
    assert (inside == (gap < 0))[off].all()


def test_a_source_reads_what_was_written(raw, tmp_path):
    prepare(raw, tmp_path / "out", **SMALL)
    source = open_shapes(tmp_path / "out")
    assert isinstance(source, ShapeFolder)
    assert source.names == ["round/ball", "square/bar", "square/cube"] and source.classes == ["round", "square"]
    rng = np.random.default_rng(0)
    points, normals = source.surface(2, 500, rng)
    assert np.abs(np.abs(points).max(1) - 1 / 1.1).max() < 1e-3
    assert np.allclose(np.abs(normals).max(1), 1, atol=1e-3)
    asked, inside = source.queries(2, 300, 400, rng)
    gap = np.abs(asked).max(1) - 1 / 1.1
    assert (inside == (gap < 0))[np.abs(gap) > 2e-3].all()
    assert inside[:300].mean() == pytest.approx(1 / 1.1**3, abs=0.1) and np.median(np.abs(gap[300:])) < 0.05


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_run_ends_as_an_unbroken_one(raw, tmp_path, after):
    whole = prepare(raw, tmp_path / "whole", **SMALL)

    def stop(done: int, count: int) -> None:
        assert count == 5
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "broken", progress=stop, **SMALL)
    (tmp_path / "broken" / "square" / ".cube.writing").mkdir(parents=True)  # what a lost process leaves behind
    with (tmp_path / "broken" / "rejected.jsonl").open("a") as file:
        file.write('{"model": "square/cu')
    ahead = []
    rest = prepare(raw, tmp_path / "broken", progress=lambda done, count: ahead.append(done), **SMALL)
    assert rest.fresh == 5 - after and ahead == list(range(after + 1, 6))
    assert rest.kept == whole.kept and rest.rejected == whole.rejected
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_what_is_done_stays_as_it_is(raw, tmp_path):
    prepare(raw, tmp_path / "out", **SMALL)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert prepare(raw, tmp_path / "out", **SMALL).fresh == 0
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}


def test_a_model_does_not_depend_on_its_neighbours_nor_on_the_processes(raw, tmp_path):
    prepare(raw, tmp_path / "one", **SMALL)
    prepare(raw, tmp_path / "two", processes=2, **SMALL)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    (raw / "square" / "bar.obj").unlink()
    prepare(raw, tmp_path / "fewer", **SMALL)
    name = "square/cube/points.npz"
    assert content(tmp_path / "fewer")[name] == content(tmp_path / "one")[name]
    prepare(raw, tmp_path / "seed", seed=1, **SMALL)
    assert content(tmp_path / "seed")[name] != content(tmp_path / "one")[name]


def test_what_a_catalogue_tells_is_kept(tmp_path):
    table = """
name=Old things
license=CC0
id#1=x#ball
name#1=Ball
tags#1=Toy
category#1=Garden
model#1=a/ball.obj
creator#1=Ann
id#2=x#air
name#2=Air
model#2=a/air.obj
"""
    members = {
        "PluginFurnitureCatalog.properties": table,
        "LICENSE.TXT": "free",
        "a/ball.obj": ball().export(file_type="obj"),
        "a/air.obj": "v 0 0 0",
    }
    with zipfile.ZipFile(tmp_path / "a.sh3f", "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    done = prepare(tmp_path / "a.sh3f", tmp_path / "out", **SMALL)
    assert done.kept == ["garden/ball"] and list(done.rejected) == ["other/air"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]
    assert lines == [{"model": "garden/ball", "text": "ball"}, {"model": "garden/ball", "text": "ball, toy"}]
    credit = {"model": "garden/ball", "title": "Ball", "creator": "Ann", "license": "CC0", "source": "Old things"}
    assert json.loads((tmp_path / "out" / "credits.jsonl").read_text()) == credit
    assert "free" in next((tmp_path / "out" / "licences").iterdir()).read_text()
    assert open_shapes(tmp_path / "out").captions == [["ball", "ball, toy"]]


def test_lines_that_a_user_wrote_stay(tmp_path):
    """Where the sources say something of a model their lines count; all others stay as they stand, odd ones too."""
    for name in ("a", "b"):
        ball().export(tmp_path / f"{name}.ply")
    table = "id#1=chair\nname#1=Chair\nmodel#1=chair.obj\ncategory#1=Seats\n"
    with zipfile.ZipFile(tmp_path / "c.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", table)
        archive.writestr("chair.obj", ball().export(file_type="obj"))
    out, sources = tmp_path / "out", [tmp_path / name for name in ("a.ply", "b.ply", "c.sh3f")]
    prepare(sources[:2], out, **SMALL)
    assert not (out / "captions.jsonl").exists() and not (out / "credits.jsonl").exists()  # nothing is known
    mine = ['{"model": "b",   "text": "a b\u00e4ll"}', '{"model": "seats/chair", "text": "mine"}', "", "no line", "[1]"]
    raw = "\n".join(mine).encode() + b'\n{"model": "a", "text": "\xff"}'  # no UTF-8, no end of the line
    (out / "captions.jsonl").write_bytes(raw)
    prepare(sources[:2], out, **SMALL)
    assert (out / "captions.jsonl").read_bytes() == raw.replace(b"\n\n", b"\n") + b"\n"
    for _ in range(2):  # the second time changes nothing
        prepare(sources, out, **SMALL)
        told = (out / "captions.jsonl").read_bytes().split(b"\n")
        assert json.loads(told[0]) == {"model": "seats/chair", "text": "chair"}
        assert told[1:] == [mine[0].encode(), b"no line", b"[1]", raw.rpartition(b"\n")[2], b""]
    prepare(sources[:2], out, **SMALL)  # the catalogue is not there this time: what it told stays
    assert (out / "captions.jsonl").read_bytes().split(b"\n") == told


def test_units_of_z_up_stand_upright(tmp_path):
    trimesh.creation.box((1, 1, 3)).export(tmp_path / "tower.stl")
    prepare(tmp_path / "tower.stl", tmp_path / "out", up="z", **SMALL)
    points, _ = open_shapes(tmp_path / "out").surface(0, 900, np.random.default_rng(0))
    assert np.abs(points).max(0) == pytest.approx([1 / 3.3, 1 / 1.1, 1 / 3.3], abs=2e-3)


def test_what_the_user_must_change(raw, tmp_path):
    prepare(raw, tmp_path / "out", **SMALL)
    with pytest.raises(UserError, match=r"out was prepared with other settings \(seed was 0, not 3\)"):
        prepare(raw, tmp_path / "out", seed=3, **SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="mine is not empty, and not a folder that was prepared"):
        prepare(raw, tmp_path / "mine", **SMALL)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.obj").write_text("nothing")
    with pytest.raises(UserError, match="none of the 1 meshes can be used, the first, a: "):
        prepare(tmp_path / "bad", tmp_path / "none", **SMALL)
    for wrong, told in (({"surface": 9}, "at least 100"), ({"processes": 0}, "at least 1")):
        with pytest.raises(UserError, match=told):
            prepare(raw, tmp_path / "new", **{**SMALL, **wrong})
    with pytest.raises(UserError, match="both have a model"):
        prepare([raw, raw], tmp_path / "new", **SMALL)
    with pytest.raises(UserError, match="prepare them first: ddmi prepare shapes"):
        open_shapes(raw)


def test_another_source_keeps_what_was_said_of_the_first(raw, tmp_path):
    first = prepare(raw, tmp_path / "out", **SMALL)
    (tmp_path / "more" / "round").mkdir(parents=True)
    trimesh.creation.icosphere(2).export(tmp_path / "more" / "round" / "another.ply")
    second = prepare(tmp_path / "more", tmp_path / "out", **SMALL)
    assert len(second.kept) == 1 and not second.rejected
    told = [json.loads(line)["model"] for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert told == sorted(first.rejected)
    assert prepare(raw, tmp_path / "out", **SMALL).fresh == 0  # nor are they tried again


def careless(model, target):
    """Fails as a reader that nobody foresaw to fail, and as one whose disk is full."""
    if "bad" in model.name:
        raise IndexError(os.fsdecode(b"what\nis caf\xe9?"))
    if "full" in model.name:
        raise WorkError("the disk is full")
    (target / model.name).mkdir(parents=True)
    (target / model.name / "done").touch()


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_that_nobody_foresaw_rejects_one_model_alone(tmp_path, processes):
    for name in ("a", "bad", "c"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        ball().export(tmp_path / "raw" / f"{name}.ply")
    out = tmp_path / "out"
    done = carry_out(tmp_path / "raw", out, {}, careless, ("done",), processes=processes)
    assert done.kept == ["a", "c"] and done.rejected == {"bad": r"cannot be read: IndexError: what is caf\udce9?"}
    assert json.loads((out / "rejected.jsonl").read_text())["model"] == "bad"
    assert carry_out(tmp_path / "raw", out, {}, careless, ("done",)).fresh == 0
    ball().export(tmp_path / "raw" / "full.ply")
    with pytest.raises(WorkError, match="the disk is full"):
        carry_out(tmp_path / "raw", out, {}, careless, ("done",), processes=processes)
