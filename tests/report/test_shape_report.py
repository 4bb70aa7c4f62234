"""The report of shapes, of runs of which everything is known."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import tiny
import trimesh
from test_report import HOSTILE, written

from ddmi.data.shapes import ShapeSource
from ddmi.domains.shape import Shape, ShapeDataset
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering import shader
from ddmi.report import viewer
from ddmi.report.numbers import Numbers
from ddmi.report.sections import shape

RADII = (0.3, 0.5, 0.7, 0.9)
ENCODE = PointEncoderConfig(width=12, blocks=2, features=12, planes=tiny.ENCODER)
DOMAIN = Shape(resolution=8, cloud=50, encode=ENCODE)
PROTOCOL = {"seed": 5, "sampler": "dpm", "steps": 2, "guidance_scale": 2.0}


class Balls(ShapeSource):
    """Balls around the middle; the last two are held out."""

    def __init__(self, told: bool = True) -> None:
        self.names = ["a", "b", "c", "d"]
        self.parts = ["train", "train", "test", "test"]
        self.captions = [[f"{HOSTILE} {k}", "a ball"] for k in range(4)] if told else None
        self.labels, self.classes = ([0, 1, 0, 1], ["small <b>", "large"]) if told else (None, [])

    def surface(self, index, count, rng):
        normals = rng.standard_normal((count, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return np.float32(RADII[index]) * normals, normals

    def queries(self, index, uniform, near, rng):
        close_by = self.surface(index, near, rng)[0] + 0.05 * rng.standard_normal((near, 3)).astype(np.float32)
        points = np.concatenate([rng.uniform(-1, 1, (uniform, 3)).astype(np.float32), close_by])
        return points, np.linalg.norm(points, axis=1) < RADII[index]


class Meshed(Balls):
    """Balls that have meshes."""

    def mesh(self, index):
        return trimesh.creation.icosphere(2, RADII[index])


class Ball(Field):
    """The field of a ball; a radius below 0 is nothing at all. Scale k alone has the radius less k tenths."""

    scales = 3

    def __init__(self, radius: float) -> None:
        self.radius, self.domain = radius, DOMAIN

    def __call__(self, coordinates, periods=None, extras=None):
        return 20 * (self.radius - coordinates.norm(dim=1, keepdim=True))

    def isolated(self, *scales):
        return Ball(self.radius - 0.1 * min(scales))


class Pipe(DDMIPipeline):
    """A pipeline that samples balls, and remembers the calls."""

    def __init__(self, condition: str) -> None:
        config = tiny.config(DOMAIN)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.calls: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.calls.append({"count": num_samples, "seed": seed, **options})
        return [Ball(0.2 + 0.1 * k) for k in range(num_samples)]


class Known(Evaluated):
    """A run whose reconstructions are a tenth too small."""

    def reconstruct(self, dataset, indices):
        return [Ball(0.9 * RADII[dataset.kept[i]]) for i in indices]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    tiny.shape_page(monkeypatch)


def known(radii, condition="none", source=None) -> Known:
    source = Balls() if source is None else source
    parts = [ShapeDataset(DOMAIN, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} ball" for _ in radii]} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(len(radii))]}
    return Known(Pipe(condition), *parts, [Ball(radius) for radius in radii], PROTOCOL, asked)


def report_of(evaluated, metrics=None) -> shape.Report:
    return shape.Report(evaluated, Numbers({"sampling": PROTOCOL, **(metrics or {})}))


def mesh_of(glb: bytes) -> trimesh.Trimesh:
    return trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh")


METRICS = {
    "attributes": {"legs": {"share": 0.7, "chance": 0.25, "test": 0.9}, "protocol": {}},
    "reconstruction": {"iou": 0.8},
}


def test_a_page_of_samples_is_whole_and_every_mesh_can_be_turned():
    report = report_of(known([0.5, 0.6, 0.7], "text", Meshed()), METRICS)
    page = written(report)
    assert page.sections == ["samples", "closely", "prompts", "attributes", "reconstructions", "basis"]
    places = {place for place, _, _ in page.metrics}
    assert {
        "attributes/legs/share",
        "attributes/legs/chance",
        "report/meshes/24/queries",
        "reconstruction/iou",
    } <= places
    assert {name: len(page.meshes(name)) for name in page.sections if name != "attributes"} == {
        "samples": 3, "closely": 3, "prompts": 12, "reconstructions": 4, "basis": 10
    }  # fmt: skip
    radii = [mesh_of(glb).extents.max() / 2 for glb in page.meshes("samples")]
    assert radii == pytest.approx([0.5, 0.6, 0.7], abs=0.06)


def test_captions_and_classes_are_text():
    for condition in ("text", "class"):
        page = written(report_of(known([0.5, 0.6], condition)))
        assert "small <b>" not in page.plain
    assert "small &lt;b&gt;" in page.plain


def test_the_counts_of_meshes_are_those_of_closed_balls():
    report = report_of(known([0.6]))
    page = written(report)
    for size in (8, 12, 24):
        about = report.numbers.get(f"report/meshes/{size}")
        assert about["vertices"] - about["faces"] / 2 == 2  # Euler: a closed surface without holes
        assert about["queries"] <= size**3
    finest = mesh_of(page.meshes("closely")[-1])
    finest.merge_vertices(merge_norm=True)
    assert finest.is_watertight and finest.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.05)


def test_a_heavy_mesh_is_simplified_for_the_viewer_alone(monkeypatch):
    monkeypatch.setattr(viewer, "CLOSE_FACES", 400)
    report = report_of(known([0.6]))
    page = written(report)
    about = report.numbers.get("report/meshes/24")
    assert about["faces"] > 1000 and about["shown_faces"] <= 400
    assert len(mesh_of(page.meshes("closely")[-1]).faces) == about["shown_faces"]


def test_overlap_of_a_reconstruction_is_counted_where_the_mean_counts_it():
    report = report_of(known([]))
    report.reconstructions()
    for k, index in enumerate(report.subjects):
        about = report.numbers.get(f"report/reconstructions/{k}")
        radius = RADII[report.held_out.kept[index]]
        away = report.held_out.queries(index, shape.QUERIES, shape.QUERIES, index)[0].norm(dim=1)
        inner, outer = float((away < 0.9 * radius).sum()), float((away < radius).sum())
        assert about["shape"] == report.held_out.names[index]
        assert about["iou"] == pytest.approx(inner / outer, abs=1e-3)


def test_before_the_second_stage_reconstructions_take_the_place_of_samples():
    report = report_of(known([]))
    assert written(report).sections == ["closely", "reconstructions", "basis"] and report.hero() == []


def test_an_empty_sample_is_named_and_the_next_one_is_shown():
    report = report_of(known([-1.0, 0.5]))
    page = written(report)
    assert "surface of Sample 1" in page.plain and report.numbers.get("report/meshes/24/faces") > 0
    page = written(report_of(known([-1.0, -1.0])))
    assert "Nothing is above the threshold" in page.plain and page.meshes("closely") == []


@pytest.mark.parametrize("condition", ["text", "class"])
def test_along_a_row_only_the_guidance_changes(condition):
    report = report_of(known([0.5, 0.6], condition))
    report.prompts_section()
    calls = report.evaluated.pipe.calls
    assert [call.pop("guidance_scale") for call in calls] == [1.0, 3.0, 6.0]
    assert calls[0] == calls[1] == calls[2]
    assert calls[0]["seed"] == 5 and calls[0]["first"] == 2  # none of the samples above
    values = calls[0]["label" if condition == "class" else "text"]
    assert len(values) == calls[0]["count"] and values[0] == values[1]


def test_hero_and_sheet_share_their_turntables(monkeypatch):
    made = []
    plain = shader.turntable
    monkeypatch.setattr(shader, "turntable", lambda *a, **o: made.append(a) or plain(*a, **o))
    page = written(report_of(known([0.5, 0.6, 0.7])))
    assert len([a for a in made if a[2] > 1]) == 3
    shown = page.images("sample 1")
    assert len(shown) == 2 and shown[0].n_frames == 2 and shown[0].size == (16, 16)


def test_coarse_scales_are_compared_with_the_whole():
    report = report_of(known([0.6]))
    report.basis_section("")
    at = "report/basis_fields/0"
    assert report.numbers.get(f"{at}/all scales/iou") == 1 and report.numbers.get(f"{at}/scale 1 alone/iou") == 1
    assert report.numbers.get(f"{at}/scale 3 alone/iou") == pytest.approx((0.4 / 0.6) ** 3, abs=0.03)


def test_a_simplified_mesh_keeps_the_colours_of_its_vertices():
    mesh = trimesh.creation.icosphere(4, 0.8)
    mesh.visual.vertex_colors = (127.5 * (np.asarray(mesh.vertices) + 1)).astype(np.uint8)
    lighter = viewer.lighter(mesh, 800)
    assert len(lighter.faces) <= 800
    expected = 127.5 * (np.asarray(lighter.vertices) + 1)
    assert np.abs(np.asarray(lighter.visual.vertex_colors)[:, :3] - expected).max() < 12  # a vertex away
