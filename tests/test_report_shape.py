"""The shape part of the page: meshes that are packed and unpacked, and pages of runs of which everything is known."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
import trimesh
from PIL import Image
from test_report import HOSTILE, Page

from ddmi.data.shapes import ShapeSource
from ddmi.domains.shape import Shape, ShapeDataset
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering import shader
from ddmi.report import page as pages
from ddmi.report import viewer
from ddmi.report.numbers import Numbers
from ddmi.report.sections import Part, find, shape
from ddmi.report.sections.shape import basis, close, cloud, prompts, reconstruction, samples, scene
from ddmi.report.words import form, words

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
    """A pipeline that draws balls, and remembers what for."""

    def __init__(self, condition: str) -> None:
        config = tiny.config(DOMAIN)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.asked: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.asked.append({"count": num_samples, "seed": seed, **options})
        return [Ball(0.2 + 0.1 * k) for k in range(num_samples)]


class Known(Evaluated):
    """A run whose reconstructions are a tenth too small."""

    def reconstruct(self, dataset, indices):
        return [Ball(0.9 * RADII[dataset.kept[i]]) for i in indices]


def shrink(monkeypatch):
    """Pictures and grids that take no time."""
    monkeypatch.setattr(reconstruction, "ASKED", 2000)
    monkeypatch.setattr(basis, "COMPARED", 16)
    monkeypatch.setattr(scene, "TURNED", 16)
    monkeypatch.setattr(scene, "FRAMES", 2)
    monkeypatch.setattr(close, "SIZES", (8, 12, 24))
    for module in (scene, samples, prompts, reconstruction, basis):
        monkeypatch.setattr(module, "CELLS", 10)
    for module in (close, prompts, reconstruction, basis):
        monkeypatch.setattr(module, "SIDE", 12)
    monkeypatch.setattr(close, "STAGE", 16)
    for module in (viewer, shader):
        monkeypatch.setattr(module, "GROUND", 8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So are all pages of this file."""
    shrink(monkeypatch)


def known(radii, condition="none", source=None) -> Known:
    source = Balls() if source is None else source
    parts = [ShapeDataset(DOMAIN, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} ball" for _ in radii]} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(len(radii))]}
    return Known(Pipe(condition), *parts, [Ball(radius) for radius in radii], PROTOCOL, asked)


def written(evaluated, path, metrics=None) -> tuple[Page, Numbers]:
    numbers = Numbers({"sampling": PROTOCOL, **(metrics or {})})
    hero = shape.hero(evaluated)
    text = pages.assemble("balls", hero, shape.sections(evaluated, numbers), "")
    (path / "page.html").write_text(text, encoding="utf-8")
    return Page(path / "page.html"), numbers


def models(page: Page) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page.plain, re.S)[1])


def unpacked(model: dict) -> trimesh.Trimesh:
    """What the script makes of a packed mesh; its shares of the sky are in the metadata."""
    raw, count = base64.b64decode(model["data"]), model["vertices"]
    places = np.frombuffer(raw, "<u2", 3 * count).reshape(-1, 3)
    shade = (6 * count + 3) // 4 * 4
    quarters = np.frombuffer(raw, np.int8, 4 * count, shade).reshape(-1, 4)
    corners = np.frombuffer(raw, "<u4" if model["wide"] else "<u2", 3 * model["faces"], shade + 4 * count)
    assert shade + 4 * count + corners.nbytes == len(raw)
    return trimesh.Trimesh(
        np.array(model["low"]) + model["unit"] * places,
        corners.reshape(-1, 3).astype(int),
        vertex_normals=quarters[:, :3] / 127,
        process=False,
        metadata={"sky": quarters[:, 3].view(np.uint8) / 255},
    )


@pytest.mark.parametrize("narrow", [viewer.NARROW, 100])
@pytest.mark.parametrize("odd", [False, True])
def test_a_packed_mesh_is_the_mesh_to_within_its_steps(monkeypatch, narrow, odd):
    monkeypatch.setattr(viewer, "NARROW", narrow)
    mesh = trimesh.creation.icosphere(3, 0.8)
    mesh.apply_scale([1, 0.5, 0.25])
    mesh.apply_translation([0.1, -0.2, 0.03])
    if odd:  # positions then end between two multiples of 4
        mesh = trimesh.Trimesh([*mesh.vertices, [0, 0, 0]], mesh.faces, process=False)
        assert len(mesh.vertices) % 2
    packed = viewer.pack(mesh)
    again = unpacked(packed.plain)
    assert packed.wide == (narrow == 100)
    assert np.abs(again.vertices - mesh.vertices).max() <= packed.unit / 2 + 1e-12
    assert packed.unit == pytest.approx(1.6 / 65_535, rel=1e-3)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    used = np.unique(mesh.faces)
    assert np.abs(again.vertex_normals[used] - mesh.vertex_normals[used]).max() <= 1 / 127


def test_nothing_hides_the_sky_of_a_convex_solid_and_a_plate_hides_its_share():
    """Below the middle of a disc of radius R at height h, R^2 / (R^2 + h^2) of the cosine-weighted sky is hidden."""
    ball = trimesh.creation.icosphere(3, 0.7)
    assert viewer.openness(ball, ball.vertices, ball.vertex_normals).min() > 0.97
    for height in (0.3, 0.6, 1.2):
        disc = trimesh.creation.cylinder(0.6, 0.01, sections=96)
        disc.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
        disc.apply_translation([0, height + 0.005, 0])
        seen = viewer.openness(disc, np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]), 2000)
        assert seen[0] == pytest.approx(height**2 / (0.36 + height**2), abs=0.02)


def test_points_are_drawn_where_the_shaded_picture_has_their_surface():
    mesh = trimesh.creation.box((1.2, 0.5, 0.9))
    mesh.apply_translation([0.1, 0.2, -0.3])
    points, _ = trimesh.sample.sample_surface(mesh, 4000, seed=0)
    pictures = cloud.dots(points, 96), shader.shaded(mesh, 96, ground=False)
    boxes = [np.argwhere(np.asarray(picture).min(2) < 240) for picture in pictures]
    for ends in (np.min, np.max):
        assert np.abs(ends(boxes[0], axis=0) - ends(boxes[1], axis=0)).max() <= 2
    assert np.allclose(cloud.seen(np.zeros((1, 3))), 0)


def test_it_is_a_part_of_the_page():
    assert isinstance(find("shape"), Part)


def test_a_page_of_samples_is_whole_and_closed_to_the_network(tmp_path):
    evaluated = known([0.5, 0.6, 0.7], "text", Meshed())
    measured = {"share": 0.7, "chance": 0.25, "test": 0.99}
    metrics = {"reconstruction": {"iou": 0.73}, "attributes": {"legs": measured, "share": 0.7, "protocol": {}}}
    page, numbers = written(evaluated, tmp_path, metrics)
    assert page.sections == ["samples", "closely", "meshes", "prompts", "attributes", "reconstructions", "basis"]
    for tag, about in page.tags:
        for name, value in about.items():
            assert name not in {"src", "href", "srcset", "poster", "data", "action"} or (value or "").startswith(
                ("data:", "#")
            ), (tag, name)
        assert tag not in {"iframe", "object", "embed", "base"}
    assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|Worker\(", page.plain)
    assert len(page.metrics) > 20
    for place, exact, _ in page.metrics:
        assert numbers.get(place) is not None and str(numbers.get(place)) == exact, place
    assert {"attributes/legs/share", "attributes/legs/chance", "report/meshes/24/queries", "reconstruction/iou"} <= {
        place for place, _, _ in page.metrics
    }
    assert 'style="left:25.00%"' in page.plain and 'style="width:70.00%"' in page.plain


def test_captions_and_classes_are_text(tmp_path):
    for condition in ("text", "class"):
        page, _ = written(known([0.5, 0.6], condition), tmp_path)
        scripts = [about for tag, about in page.tags if tag == "script"]
        assert scripts == [{"type": "application/json"}, {}, {}]  # a mesh, the viewer, the page's own
        assert "<b>&" not in page.plain and "small <b>" not in page.plain
    assert "small &lt;b&gt;" in page.plain


def test_the_counts_of_meshes_are_those_of_closed_balls(tmp_path):
    page, numbers = written(known([0.6]), tmp_path)
    for size in (8, 12, 24):
        about = numbers.get(f"report/meshes/{size}")
        assert about["vertices"] - about["faces"] / 2 == 2  # Euler: a closed surface without holes
        assert about["queries"] <= size**3
    finest = unpacked(models(page)["models"][-1])
    assert finest.is_watertight and finest.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.05)
    assert finest.metadata["sky"].min() > 0.9
    assert models(page)["ground"]["height"] == pytest.approx(-0.6, abs=0.02)


def test_a_heavy_mesh_is_simplified_for_the_viewer_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(close, "FACES", 400)
    page, numbers = written(known([0.6]), tmp_path)
    about = numbers.get("report/meshes/24")
    assert about["faces"] > 1000 and about["shown_faces"] <= 400
    assert [model["faces"] for model in models(page)["models"]][-1] == about["shown_faces"]


def test_overlap_of_a_reconstruction_is_counted_where_the_mean_counts_it(tmp_path):
    evaluated = known([])
    _, numbers = written(evaluated, tmp_path)
    held_out = evaluated.held_out
    for k, index in enumerate(scene.Scene(evaluated, numbers, scene.Solids(evaluated)).subjects):
        about = numbers.get(f"report/reconstructions/{k}")
        radius = RADII[held_out.kept[index]]
        points, _ = held_out.queries(index, reconstruction.ASKED, reconstruction.ASKED, index)
        away = points.norm(dim=1)
        inner, outer = float((away < 0.9 * radius).sum()), float((away < radius).sum())
        assert about["shape"] == held_out.names[index]
        assert about["iou"] == pytest.approx(inner / outer, abs=1e-3)


def test_before_the_second_stage_reconstructions_take_the_place_of_samples(tmp_path):
    evaluated = known([])
    page, _ = written(evaluated, tmp_path)
    assert page.sections == ["closely", "meshes", "reconstructions", "basis"]
    assert shape.hero(evaluated) == ""


def test_an_empty_sample_is_said_and_the_next_one_is_shown(tmp_path):
    page, numbers = written(known([-1.0, 0.5]), tmp_path)
    assert "surface of sample 1" in page.plain and numbers.get("report/meshes/24/faces") > 0
    page, numbers = written(known([-1.0, -1.0]), tmp_path)
    assert "closely" in page.sections and "meshes" not in page.sections and "canvas" not in [t for t, _ in page.tags]
    assert "Sample 0: nothing above the threshold" in page.plain
    assert numbers.get("report/meshes/24/faces") == 0


def test_a_coarse_grid_that_misses_the_shape_has_no_button(tmp_path):
    page, _ = written(known([0.1]), tmp_path)  # between the centres of 8 and of 12 cells, not of 24
    assert [about["data-model"] for _, about in page.tags if "data-model" in about] == ["0"]
    assert "meshes" not in page.sections  # nothing to compare the one grid with


def test_shapes_without_words_have_a_page(tmp_path):
    page, _ = written(known([0.5], source=Balls(told=False)), tmp_path)
    assert page.sections == ["samples", "closely", "meshes", "reconstructions", "basis"]


@pytest.mark.parametrize("condition", ["text", "class"])
def test_along_a_row_only_the_guidance_changes(tmp_path, condition):
    evaluated = known([0.5, 0.6], condition)
    written(evaluated, tmp_path)
    asked = evaluated.pipe.asked
    assert [call.pop("guidance_scale") for call in asked] == [1.0, 3.0, 6.0]
    assert asked[0] == asked[1] == asked[2]
    assert asked[0]["seed"] == 5 and asked[0]["first"] == 2  # none of the samples above
    values = asked[0]["label" if condition == "class" else "text"]
    assert len(values) == asked[0]["count"] and values[0] == values[1]


def test_hero_and_sheet_share_their_pictures(tmp_path, monkeypatch):
    made = []
    plain = shader.turntable
    monkeypatch.setattr(shader, "turntable", lambda *a, **o: made.append(a) or plain(*a, **o))
    evaluated = known([0.5, 0.6, 0.7])
    page, _ = written(evaluated, tmp_path)
    assert len([a for a in made if a[2] > 1]) == 3 and id(evaluated) not in scene.Solids._waiting
    turning = [about["src"] for tag, about in page.tags if tag == "img" and about.get("title") == "sample 1"]
    assert len(turning) == 2 and turning[0] == turning[1]
    picture = Image.open(io.BytesIO(base64.b64decode(turning[0].partition(",")[2])))
    assert picture.n_frames == 2 and picture.size == (16, 16)


def test_coarse_scales_are_compared_with_the_whole(tmp_path):
    _, numbers = written(known([0.6]), tmp_path)
    at = "report/basis_fields/0"
    assert numbers.get(f"{at}/all scales/iou") == 1 and numbers.get(f"{at}/scale 1 alone/iou") == 1
    assert numbers.get(f"{at}/scale 3 alone/iou") == pytest.approx((0.4 / 0.6) ** 3, abs=0.03)


def test_the_corner_nearest_to_the_eye_comes_to_the_middle():
    mesh = trimesh.creation.box((1, 1, 1))
    corner = close.nearest(mesh)
    np.testing.assert_allclose(corner, [0.5, 0.5, 0.5])
    near = close.enlarged(mesh, corner)
    np.testing.assert_allclose(near.bounds[1], 0)
    assert near.extents == pytest.approx([close.NEARER] * 3)
    assert torch.equal(torch.tensor(mesh.extents), torch.ones(3, dtype=torch.float64))


def test_makers_of_the_models_are_named_with_their_licence(tmp_path):
    source = Balls()
    evaluated = known([], source=source)
    assert shape.credits(evaluated) == []
    source.root = tmp_path
    assert shape.credits(evaluated) == []
    rows = [("a", "Zoe", "CC-BY"), ("b", "Ada", "CC-BY"), ("c", "Ada", "CC-BY"), ("d", "Ada", "CC0")]
    lines = [json.dumps({"model": m, "creator": c, "license": li}) for m, c, li in rows]
    (tmp_path / shape.CREDITS).write_text(
        "\n".join([*lines, "", "[1]", "a word", json.dumps({"model": "e", "source": "a set"})])
    )
    assert shape.credits(evaluated) == [
        "Models in the data: a set.",
        "Models in the data, CC-BY: Ada, Zoe.",
        "Models in the data, CC0: Ada.",
    ]


def test_small_numbers_keep_three_digits():
    values = (0.001234, 0.000567, 0.0456, 0.4567, 45.678, 0.0, 1e-12)
    assert [format(v, form(v)) for v in values] == [
        *("0.00123", "0.000567", "0.0456", "0.457", "45.68", "0.000", "0.000000000")
    ]
    assert format(-0.00123, form(-0.00123)) == "-0.00123" and format(1234, form(1234)) == "1,234"
    assert words("mmd") == "MMD" and words("some_key") == "some key"
