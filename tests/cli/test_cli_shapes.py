"""Shapes on the command line, from meshes of one's own to meshes of samples; and every error as one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from domains.shape.test_shape import ball, shape
from PIL import Image
from test_cli import ok, refused

from ddmi import config as configuration
from ddmi import report
from ddmi.cli import main
from ddmi.domains.shape import Shape, metrics
from ddmi.evaluation import Protocol
from ddmi.field import Field
from ddmi.model.sampling import SamplingConfig


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Meshes of three kinds, what is prepared of them, and a run on that."""
    trimesh = pytest.importorskip("trimesh")
    folder = tmp_path_factory.mktemp("cli-shapes")
    rng = np.random.default_rng(0)
    for kind in ("box", "ball"):
        (folder / "meshes" / kind).mkdir(parents=True)
        for k in range(6):
            extents = rng.uniform(0.5, 2, 3)
            mesh = trimesh.creation.box(extents=extents) if kind == "box" else trimesh.creation.icosphere(2)
            mesh.export(folder / "meshes" / kind / f"{k}.ply")
    (folder / "meshes" / "box" / "broken.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    call = ["prepare", "shapes", folder / "meshes", folder / "shapes", "--surface", 2000, "--queries", 2000]
    assert main([str(a) for a in call]) == 0
    config = tiny.config(replace(shape(source="folder"), held_out=0.2))
    configuration.save(replace(config, diffusion=replace(config.diffusion, condition="class")), folder / "tiny.json")
    call = ["train", folder / "tiny.json", "--data", folder / "shapes", "--out", folder / "run"]
    assert main([str(a) for a in call]) == 0
    return folder


def test_meshes_become_data_and_a_bad_one_is_told(home, capsys, caplog):
    assert (home / "shapes" / "box" / "0" / "points.npz").is_file()
    rejected = [json.loads(line) for line in (home / "shapes" / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == 1 and "broken" in json.dumps(rejected)
    call = ["prepare", "shapes", home / "meshes", home / "shapes", "--surface", 2000, "--queries", 2000]
    lines = ok(capsys, *call)  # nothing is left to do
    assert any("ball" in line and "6" in line for line in lines) and lines[-1] == str(home / "shapes")


def test_samples_are_meshes_and_pictures_of_them(home, tmp_path, capsys):
    import trimesh

    call = ["sample", home / "run", "--label", "box", "--steps", 2, "--out", tmp_path, "--size", 12, "--sheet"]
    first, sheet = (Path(line) for line in ok(capsys, *call, "--format", "png"))
    assert first.suffix == sheet.suffix == ".png"
    with Image.open(sheet) as picture:
        assert picture.size == (256, 256)
    field = tmp_path / "field"  # a model of four steps draws nothing above the threshold, or everything
    status = main([str(a) for a in ["sample", home / "run", "--steps", 2, "--out", field, "--size", 12]])
    out, err = capsys.readouterr()
    if status:
        assert status == 1 and err.count("\n") == 1 and "nothing above the threshold" in err
    else:
        assert trimesh.load(out.splitlines()[0], force="mesh").is_watertight


def test_an_empty_sample_does_not_stop_the_others(home, tmp_path, capsys, monkeypatch):
    balls = iter([ball(-1.0), ball(0.5)])
    monkeypatch.setattr(Field, "render", lambda self, **options: self.domain.render(next(balls), 16))
    assert main(["sample", str(home / "run"), "--count", "2", "--steps", "2", "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "sample-0-0.glb: nothing above the threshold" in err
    assert out.split() == [str(tmp_path / "sample-0-1.glb")] and not (tmp_path / "sample-0-0.glb").exists()


def test_a_mesh_is_reconstructed_from_its_file(home, tmp_path, capsys):
    call = ["reconstruct", home / "run", home / "meshes/box/0.ply", "--size", 12, "--format", "png"]
    (path,) = ok(capsys, *call, "--out", tmp_path)
    assert Path(path) == tmp_path / "0.png"


def test_a_reconstruction_lies_where_its_file_has_it(home, tmp_path, capsys, monkeypatch):
    """Whatever the model makes of it: here, exactly what it was given, in the frame of shapes."""
    import trimesh

    given = trimesh.creation.box((2, 4, 1)).apply_translation((10, -20, 30))
    given.export(tmp_path / "far.ply")
    from ddmi.domains.shape.surface import Surface

    whole = Surface.of(trimesh.creation.box(np.array([2, 4, 1]) * (2 / 1.1) / 4))
    monkeypatch.setattr(Shape, "render", lambda self, field, size=16: whole)
    for ending in ("glb", "stl"):
        call = ["reconstruct", home / "run", tmp_path / "far.ply", "--size", 12, "--format", ending]
        (path,) = ok(capsys, *call, "--out", tmp_path / "out")
        assert np.allclose(trimesh.load(path, force="mesh").bounds, given.bounds, atol=1e-5)


def test_an_interpolation_is_a_row_or_an_animation(home, tmp_path, capsys):
    (row,) = ok(capsys, "interpolate", home / "run", "--frames", 3, "--size", 12, "--out", tmp_path / "row.png")
    (film,) = ok(capsys, "interpolate", home / "run", "--frames", 3, "--size", 12, "--out", tmp_path / "film.gif")
    with Image.open(row) as picture:
        assert picture.width > 2.5 * picture.height
    assert Path(film).stat().st_size > 100


def test_evaluation_and_its_classifier(home, tmp_path, capsys):
    weights = tmp_path / "voxels.safetensors"
    assert ok(capsys, "train-classifier", home / "shapes", "--out", weights, "--steps", 2)[-1] == str(weights)
    call = ["evaluate", home / "run", "--data", home / "shapes", "--samples", 4, "--steps", 2]
    ok(capsys, *call, "--judge", f"classifier={weights}", "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 <= found["reconstruction"]["iou"] <= 1 and 0 <= found["classification"]["accuracy"] <= 1
    assert found["classification"]["protocol"]["samples"] == 4 and found["memorisation"]["ratio"] > 0


def test_the_report_is_written(home, monkeypatch):
    tiny.shape_page(monkeypatch)
    monkeypatch.setattr(metrics, "QUERIES", 2000)
    page = report.write(
        home / "run", home / "shapes", Protocol(samples=3, sampling=SamplingConfig(sampler="ddim", steps=2))
    ).read_text()
    numbers = json.loads((home / "run" / "metrics.json").read_text())
    assert {"reconstruction", "memorisation", "training", "report"} <= numbers.keys()
    assert numbers["sampling"]["samples"] == numbers["memorisation"]["protocol"]["samples"] == 3
    assert numbers["model"]["data"]["train"] + numbers["model"]["data"]["held_out"] == 12
    assert numbers["reconstruction"]["protocol"]["shapes"] == numbers["model"]["data"]["held_out"]
    for title in (
        "The model generates these samples",
        "A finer grid",
        "Samples follow their condition",
        "Held-out shapes",
    ):
        assert title in page
    for place in ("reconstruction/iou", "memorisation/ratio"):
        metric, name = place.split("/")
        assert f'<data value="{numbers[metric][name]}" data-from="{place}">' in page


BAD = [
    (["prepare", "pictures", "{home}/meshes", "{tmp}/out"], "allowed are shapes"),
    (["prepare", "shapes", "{home}/meshes"], "SRC DST"),
    (["prepare", "shapes", "{home}/nothing", "{tmp}/out"], "nothing"),
    (["prepare", "shapes", "{home}/meshes", "{tmp}/out", "--up", "x"], "--up"),
    (["train", "{home}/tiny.json", "--data", "{home}/meshes", "--out", "{tmp}/run"], "ddmi prepare shapes"),
    (["train-classifier", "{home}/shapes", "--out", "{tmp}/voxels.pt"], ".safetensors"),
    (["evaluate", "{home}/run", "--judge", "jury=x"], "classifier, clip"),
    (["evaluate", "{home}/run", "--judge", "classifier={tmp}/none"], "does not exist"),
    (["evaluate", "{home}/run", "--judge", "clip={tmp}/none"], "no folder with a CLIP model"),
    (["sample", "{home}/run", "--window", "0,0,1,1", "--steps", "2", "--out", "{tmp}/s"], "6 numbers"),
    (["sample", "{home}/run", "--size", "5000", "--steps", "2", "--out", "{tmp}/s"], "at most 1024"),
    (["sample", "{home}/run", "--size", "30x20", "--steps", "2", "--out", "{tmp}/s"], "whole number, not (20, 30)"),
    (["sample", "{home}/run", "--format", "stp", "--steps", "2", "--out", "{tmp}/s"], ".stp"),
    (["reconstruct", "{home}/run", "{home}/meshes/box/broken.obj", "--out", "{tmp}/s"], "broken.obj"),
]


@pytest.mark.parametrize(("call", "told"), BAD, ids=[" ".join(call[:2]) + f" {k}" for k, (call, _) in enumerate(BAD)])
def test_what_cannot_be_done_is_one_line(home, tmp_path, capsys, monkeypatch, call, told):
    if call[0] == "sample":  # refused before any work
        monkeypatch.setattr("ddmi.pipeline.draw", None)
    err = refused(capsys, 2, *(part.format(home=home, tmp=tmp_path) for part in call))
    assert told in err
