"""The part of the page on radiance fields: coloured meshes, and pages of runs of which everything is known."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trimesh
from PIL import Image
from test_report import HOSTILE, Page

from ddmi.domains.nerf import Nerf, ViewDataset, shot
from ddmi.domains.nerf.photography import FurnitureViews
from ddmi.domains.nerf.posed import Views
from ddmi.domains.nerf.shot import CAMERA, SURFACE
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering.cameras import DISTANCE, EXTENT, Camera
from ddmi.rendering.volume import Occupancy, Quadrature, render_field
from ddmi.report import page as pages
from ddmi.report import viewer
from ddmi.report.numbers import Numbers
from ddmi.report.scene import Kept
from ddmi.report.sections import Part, find, nerf
from ddmi.report.sections.nerf import (
    basis,
    cloud,
    depth,
    neighbours,
    prompts,
    reconstruction,
    samples,
    scene,
    sides,
    surface,
)

ENCODE = PointEncoderConfig(width=12, blocks=2, features=12, planes=tiny.ENCODER)
DOMAIN = Nerf(resolution=8, cloud=50, views=5, encode=ENCODE)
PROTOCOL = {"seed": 5, "sampler": "dpm", "steps": 2, "guidance_scale": 2.0}
MIDDLES = ((0.3, 0.2, 0.1), (-0.2, 0.3, 0.0), (0.1, -0.3, 0.4), (0.0, 0.1, -0.4))
DENSITY = 400.0
OFFSET = 20 / 255
"""By which every reconstruction is too bright."""
PIXELS, VIEWS, CELLS = (12, 16), 5, 16


class Ball(Field):
    """A solid ball whose colour tells the place: (x + 1) / 2, (y + 1) / 2, (z + 1) / 2, all a little less.

    A radius below 0 is nothing at all. Scale k alone has the radius less k tenths.
    """

    scales, device = 3, torch.device("cpu")

    def __init__(self, middle=(0.0, 0.0, 0.0), radius=0.5, offset=0.0) -> None:
        self.middle, self.radius, self.offset, self.domain = torch.tensor(middle), radius, offset, DOMAIN

    def __call__(self, coordinates, periods=None, extras=None):
        inside = (coordinates - self.middle).norm(dim=1, keepdim=True) < self.radius
        return torch.cat([0.45 * (coordinates + 1) + self.offset, DENSITY * inside], dim=1)

    def isolated(self, *scales):
        return Ball(tuple(self.middle.tolist()), self.radius - 0.1 * min(scales))


class Photographed:
    """Balls with photographs; the last two are held out."""

    def __init__(self, told: bool = True) -> None:
        self.names, self.groups = ["a", "b", "c", "d"], [[0], [1], [2], [3]]
        self.parts = ["train", "train", "test", "test"]
        self.captions = [[f"{HOSTILE} {k}", "a ball"] for k in range(4)] if told else None
        self.labels, self.classes = ([0, 1, 0, 1], ["small <b>", "large"]) if told else (None, [])
        self.counts, self.bad = [VIEWS] * 4, []

    def places(self, index):
        """Cameras all around, the fourth of them beside the usual one, with their middles off the middle."""
        for k, azimuth in enumerate((200.0, 280.0, 120.0, CAMERA[0] + 5, 330.0)):
            camera = Camera.orbit(azimuth + index, 10.0 * k, distance=4.0, fov=40.0, size=PIXELS)
            yield replace(camera, centre=(8.5, 5.5))

    def cameras(self, index):
        found = list(self.places(index))
        poses = torch.stack([camera.pose for camera in found]).numpy()
        focal, centre = np.array([c.focal for c in found]), np.array([c.middle for c in found])
        return Views(poses=poses, focal=focal, centre=centre, size=PIXELS)

    def images(self, index, which):
        found = list(self.places(index))
        views = [render_field(Ball(MIDDLES[index]), found[view], Quadrature()).colour for view in which]
        return (255 * torch.stack(views)).round().to(torch.uint8).numpy()

    def cloud(self, index, count, rng):
        normals = rng.standard_normal((count, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        points = np.float32(MIDDLES[index]) + np.float32(0.5) * normals
        return np.concatenate([points, 0.9 * (points + 1) - 1], axis=1).astype(np.float32)


class Pipe(DDMIPipeline):
    """A pipeline that draws balls, and remembers what for."""

    def __init__(self, condition: str) -> None:
        config = tiny.config(DOMAIN)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.asked: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.asked.append({"count": num_samples, "seed": seed, **options})
        return [Ball(radius=0.2 + 0.1 * k) for k in range(num_samples)]


class Known(Evaluated):
    """A run whose reconstructions are a little too bright."""

    def reconstruct(self, dataset, indices):
        return [Ball(MIDDLES[dataset.kept[i]], offset=OFFSET) for i in indices]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pages of few and small pictures, whose emptiness is looked up on a coarse grid."""
    monkeypatch.setattr(shot, "Occupancy", partial(Occupancy, cells=CELLS))
    monkeypatch.setattr(scene, "TURNED", 16)
    for module in (scene, samples):
        monkeypatch.setattr(module, "FRAMES", 3)
    monkeypatch.setattr(sides, "SIZES", (8, 12, 20))
    monkeypatch.setattr(sides, "MIDDLE", 8)
    for module in (sides, prompts, reconstruction, basis):
        monkeypatch.setattr(module, "SIDE", 8)
    monkeypatch.setattr(surface, "CELLS", (16, 24))
    monkeypatch.setattr(surface, "STAGE", 8)
    monkeypatch.setattr(viewer, "GROUND", 8)


def known(radii, condition="none", source=None) -> Known:
    source = Photographed(condition != "none") if source is None else source
    parts = [ViewDataset(DOMAIN, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} ball" for _ in radii]} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(len(radii))]}
    return Known(Pipe(condition), *parts, [Ball(radius=radius) for radius in radii], PROTOCOL, asked)


def scene_of(evaluated: Evaluated, **metrics: Any) -> scene.Scene:
    return scene.Scene(evaluated, Numbers({"sampling": PROTOCOL, **metrics}), scene.Turns(evaluated))


def written(evaluated, path, metrics=None) -> tuple[Page, Numbers]:
    numbers = Numbers({"sampling": PROTOCOL, **(metrics or {})})
    hero = nerf.hero(evaluated)
    text = pages.assemble("balls", hero, nerf.sections(evaluated, numbers), "")
    (path / "page.html").write_text(text, encoding="utf-8")
    return Page(path / "page.html"), numbers


def models(plain: str) -> list[dict]:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', plain, re.S)[1])["models"]


def unpacked(model: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Places, faces and colours that the script reads from a packed mesh."""
    raw, count = base64.b64decode(model["data"]), model["vertices"]
    paint = (6 * count + 3) // 4 * 4 + 4 * count
    start = paint + 4 * count * model["coloured"]
    places = np.array(model["low"]) + model["unit"] * np.frombuffer(raw, "<u2", 3 * count).reshape(-1, 3)
    colours = np.frombuffer(raw, np.uint8, 4 * count, paint).reshape(-1, 4) if model["coloured"] else None
    faces = np.frombuffer(raw, "<u4" if model["wide"] else "<u2", 3 * model["faces"], start).reshape(-1, 3)
    assert start + faces.nbytes == len(raw)
    return places, faces, colours


def opened(source: str | None) -> Image.Image:
    """The picture in an address."""
    kind, _, data = (source or "").partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def titled(page: Page, title: str) -> list[Image.Image]:
    return [opened(about["src"]) for tag, about in page.tags if tag == "img" and (about.get("title") or "") == title]


def pixels(found: Image.Image) -> np.ndarray:
    return np.asarray(found.convert("RGB")).astype(float)


def test_it_is_a_part_of_the_page():
    assert isinstance(find("nerf"), Part)


METRICS = {
    "reconstruction": {"psnr": 24.2, "points": {"psnr": 16.1}},
    "memorisation": {
        **{"ratio": 1.1, "sample_median": 2.0, "held_out_median": 1.8, "neighbours": [1, 0, 1]},
        "protocol": {"feature": "solid cells", "training_objects": 2, "sampling": PROTOCOL},
    },
}


def test_a_page_of_samples_is_whole_and_closed_to_the_network(tmp_path):
    page, numbers = written(known([0.5, 0.6, 0.7], "text"), tmp_path, METRICS)
    assert page.sections == ["samples", "sides", "surface", "prompts", "reconstructions", "basis", "neighbours"]
    for tag, about in page.tags:
        for name, value in about.items():
            assert name not in {"src", "href", "srcset", "poster", "data", "action"} or (value or "").startswith(
                ("data:", "#")
            ), (tag, name)
        assert tag not in {"iframe", "object", "embed", "base", "video"}
    assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|Worker\(", page.plain)
    assert len(page.metrics) > 40
    for place, exact, _ in page.metrics:
        assert numbers.get(place) is not None and str(numbers.get(place)) == exact, place
    assert {"reconstruction/psnr", "reconstruction/points/psnr", "memorisation/ratio", "sampling/seed"} <= {
        place for place, _, _ in page.metrics
    }


def test_before_the_second_stage_reconstructions_take_the_place_of_samples(tmp_path):
    evaluated = known([])
    page, _ = written(evaluated, tmp_path)
    assert page.sections == ["sides", "surface", "reconstructions", "basis"]
    assert nerf.hero(evaluated) == "" and id(evaluated) not in Kept._waiting
    assert "The reconstruction of “" in page.plain


def test_captions_and_classes_are_text(tmp_path):
    for condition in ("text", "class"):
        page, _ = written(known([0.5, 0.6], condition), tmp_path)
        scripts = [about for tag, about in page.tags if tag == "script"]
        assert scripts == [{"type": "application/json"}, {}, {}]  # the mesh, the viewer, the page's own
        assert "<b>&" not in page.plain and "small <b>" not in page.plain
    assert "small &lt;b&gt;" in page.plain


@pytest.mark.parametrize("condition", ["text", "class"])
def test_along_a_row_only_the_guidance_changes(condition):
    evaluated = known([0.5, 0.6], condition)
    prompts.section(scene_of(evaluated))
    asked = evaluated.pipe.asked
    assert [call.pop("guidance_scale") for call in asked] == [1.0, 3.0, 6.0]
    assert asked[0] == asked[1] == asked[2]
    assert asked[0]["seed"] == 5 and asked[0]["first"] == 2  # none of the samples above
    values = asked[0]["label" if condition == "class" else "text"]
    assert len(values) == asked[0]["count"] and values[0] == values[1]


def test_hero_and_sheet_share_their_turntables_which_go_around(tmp_path, monkeypatch):
    made = []
    plain = scene.playing
    monkeypatch.setattr(scene, "playing", lambda *a, **o: made.append(a) or plain(*a, **o))
    evaluated = known([0.5, 0.6, 0.7])
    evaluated = replace(evaluated, samples=[Ball((0.5, 0.1, 0.0), 0.4), *evaluated.samples])
    page, _ = written(evaluated, tmp_path)
    assert len(made) == 4 and id(evaluated) not in Kept._waiting
    shown = titled(page, "sample 0")
    shown = [found for found in titled(page, "sample 0") if getattr(found, "n_frames", 1) > 1]
    assert len(shown) == 2 and shown[0].tobytes() == shown[1].tobytes() and shown[0].n_frames == 3
    azimuth, elevation = CAMERA
    for k in range(3):
        shown[0].seek(k)
        camera = Camera.orbit(azimuth + 120 * k, elevation, size=16)
        expected = render_field(evaluated.samples[0], camera, Quadrature(**scene.FAST)).colour.numpy() * 255
        assert np.abs(pixels(shown[0]) - expected).mean() < 6, k


def test_an_empty_sample_is_passed_over():
    name, field = scene_of(known([-1.0, 0.4])).first
    assert name == "sample 1" and field.radius == 0.4
    assert scene_of(known([-1.0, -1.0])).first[0] == "sample 0"
    assert "nowhere is its density above" in surface.section(scene_of(known([-1.0]))).lead


def test_a_field_counts_its_questions_and_a_ray_has_no_more_than_its_samples():
    shown = scene_of(known([0.5]))
    sides.section(shown)
    found = shown.numbers.get(sides.PLACE)
    assert found["prepared"] == CELLS**3
    most = sum(scene.FINE.values())
    for size in (8, 12, 20):
        about = found[str(size)]
        assert about["rays"] == size**2 and about["queries_per_ray"] == about["queries"] / size**2
        covered = math.pi * (0.5 / DISTANCE) ** 2 / (4 * (EXTENT / DISTANCE) ** 2)  # of the ball, about
        assert 0.2 * most * covered < about["queries_per_ray"] < 2.5 * most * covered
    counted = sides.Counted(Ball())
    for count in (3, 5):
        points = torch.rand(count, 3)
        assert torch.equal(counted(points), Ball()(points))
    assert counted.queries == 8


def test_the_middle_of_a_picture_is_shown_as_the_whole_one_has_it():
    body = sides.section(scene_of(known([0.5]))).body
    near = re.search(r'<img[^>]*src="([^"]+)"[^>]*title="sample 0, nearer"', body)[1]
    whole = render_field(Ball(), Camera.orbit(*CAMERA, size=16), Quadrature(**scene.FINE)).colour.numpy() * 255
    assert np.abs(pixels(opened(near)) - whole[4:12, 4:12]).max() <= 1.5


def test_a_packed_mesh_keeps_the_colours_of_its_vertices():
    """Of the field, colours are places."""
    for radius, cells in ((0.5, 16), (0.7, 15)):
        mesh = Ball(radius=radius).render(8).mesh(cells)
        packed = viewer.pack(mesh)
        places, faces, colours = unpacked(packed.plain)
        assert packed.coloured and len(places) == len(mesh.vertices) and (colours[:, 3] == 255).all()
        np.testing.assert_array_equal(faces, mesh.faces)
        assert np.abs(colours[:, :3] - 255 * 0.45 * (places + 1)).max() <= 0.6
    plain = viewer.pack(trimesh.creation.box((1, 1, 1)))
    assert not plain.coloured and unpacked(plain.plain)[2] is None
    assert len(packed.data) - 4 * packed.vertices == len(replace(packed, data=viewer.pack(bare(mesh)).data).data)


def bare(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_only_coloured_meshes_have_a_switch_for_their_colours():
    ball = trimesh.creation.icosphere(1, 0.5)
    assert 'data-toggle="painted"' not in viewer.element([("one", ball)], "", "")
    painted = ball.copy()
    painted.visual.vertex_colors = np.full((len(ball.vertices), 3), 90, np.uint8)
    both = viewer.element([("one", ball), ("two", painted)], "", "")
    assert 'data-toggle="painted"' in both and [model["coloured"] for model in models(both)] == [False, True]


def test_a_heavy_mesh_is_simplified_for_the_viewer_and_keeps_its_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(surface, "FACES", 1200)
    page, numbers = written(known([0.6]), tmp_path)
    about = numbers.get(f"{surface.PLACE}/24")
    assert about["faces"] > 1800 and about["shown_faces"] <= 1200
    assert about["vertices"] - about["faces"] / 2 == 2  # Euler: a closed surface without holes
    places, faces, colours = unpacked(models(page.plain)[-1])
    assert len(faces) == about["shown_faces"]
    assert np.abs(colours[:, :3] / 255 - 0.45 * (places + 1)).max() < 0.06  # a vertex away
    assert np.linalg.norm(places, axis=1) == pytest.approx(np.full(len(places), 0.6), abs=0.1)
    assert f"passes {SURFACE:g}" in page.plain


def test_quality_is_that_of_known_errors_from_the_right_cameras():
    """All that is seen is too bright by as much: the error is the offset times the opacity."""
    shown = scene_of(known([]))
    reconstruction.section(shown)
    for k, index in enumerate(shown.subjects):
        about = shown.numbers.get(f"{reconstruction.PLACE}/{k}")
        held_out = shown.held_out
        assert about["object"] == held_out.names[index]
        assert about["views"] == sorted(set(about["views"])) and len(about["views"]) == reconstruction.VIEWS
        for view, measured in zip(about["views"], about["psnr"], strict=True):
            seen = render_field(Ball(MIDDLES[held_out.kept[index]]), held_out.camera(index, view), Quadrature())
            assert measured == pytest.approx(-10 * math.log10((OFFSET * seen.opacity).square().mean()), abs=0.15)
        assert about["mean_psnr"] == pytest.approx(np.mean(about["psnr"]))


def test_large_views_are_shrunk_with_their_cameras(monkeypatch):
    monkeypatch.setattr(scene, "LARGEST", 8)
    shown = scene_of(known([]))
    camera, found = shown.view(shown.held_out, 0, 2)
    assert camera.size == (6, 8) and found.size == (8, 6)
    whole = shown.held_out.images(0, [2])[0].astype(float)
    means = whole.reshape(6, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(found) - means).max() <= 1
    here, there = (place.rays()[1].unflatten(0, place.size) for place in (camera, shown.held_out.camera(0, 2)))
    torch.testing.assert_close(  # a ray lies in the middle of the four that it stands for
        torch.nn.functional.normalize(there.unflatten(0, (6, 2)).unflatten(2, (8, 2)).mean(dim=(1, 3)), dim=2),
        here,
        atol=2e-3,
        rtol=0,
    )


def test_points_are_drawn_where_the_camera_sees_them():
    source = Photographed()
    points = torch.from_numpy(source.cloud(2, 40, np.random.default_rng(0)))
    views = source.cameras(2)
    for view, camera in enumerate(source.places(2)):
        x, y, ahead = cloud.seen(points[:, :3], camera).T
        expected, depths, _ = views.project(view, points[:, :3].double().numpy())
        np.testing.assert_allclose(np.stack([x, y], axis=1), expected, atol=1e-6)
        np.testing.assert_allclose(ahead, depths, atol=1e-6)


def test_of_points_in_one_line_the_nearest_is_seen_and_none_behind_the_camera():
    camera = Camera.orbit(0.0, 0.0, distance=4.0, size=65)
    line = torch.tensor(
        [[0, 0, 0.5, 1, -1, -1], [0, 0, -0.5, -1, 1, -1], [0, 0, 0, -1, -1, 1], [0.3, 0, 9.0, 1, 1, -1]]
    )
    drawn = np.asarray(cloud.dots(line.float(), camera, 0.0))
    assert (drawn[32, 32] == [255, 0, 0]).all() and drawn[..., 1:].max() == 0
    assert (np.argwhere(drawn.max(axis=2) > 0).mean(axis=0) == 32).all()


class Solid(Field):
    """A piece of furniture, exactly, moved by a shift."""

    scales, device = 2, torch.device("cpu")

    def __init__(self, source, index, shift) -> None:
        self.source, self.index, self.shift, self.domain = source, index, shift, DOMAIN

    def __call__(self, coordinates, periods=None, extras=None):
        inside = self.source.furniture.occupancy(self.index, (coordinates - self.shift).numpy())
        return torch.cat(
            [torch.full_like(coordinates, 0.5), DENSITY * torch.from_numpy(inside).float()[:, None]], dim=1
        )


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_the_depth_of_an_exact_shape_is_right_and_of_a_moved_one_off_by_as_much(monkeypatch, moved):
    """Moved along the axis of view, by 0.1 of the 2 that the cube's side has."""
    monkeypatch.setattr(depth, "SIDE", 40)
    source = FurnitureViews(12, 3, 16)

    class Exact(Evaluated):
        def reconstruct(self, dataset, indices):
            ahead = [-dataset.camera(i, 0).pose[:3, 2].float() for i in indices]
            return [Solid(source, dataset.kept[i], moved * axis) for i, axis in zip(indices, ahead, strict=True)]

    domain = replace(DOMAIN, held_out=0.25)
    parts = [ViewDataset(domain, source, part) for part in ("train", "test")]
    shown = scene_of(Exact(Pipe("none"), *parts, [], PROTOCOL, {}))
    depth.section(shown)
    found = shown.numbers.get(depth.PLACE)
    assert len(found) == min(len(parts[1]), depth.SHOWN) == 2
    for about in found.values():
        assert about["depth_error"] == pytest.approx(moved / 2, abs=0.012 + 0.1 * moved)  # edges count for more
        assert about["depth_missed"] < 0.12 + moved


def test_without_shapes_there_is_no_depth_to_compare():
    assert depth.section(scene_of(known([]))) is None


def test_depths_share_their_greys():
    near, far = torch.tensor([[2.0, 3.0], [0.0, 9.0]]), torch.tensor([[2.5, 4.0], [3.0, 0.0]])
    there = [torch.tensor([[True, True], [False, False]]), torch.tensor([[True, True], [True, False]])]
    low, high = depth.ends([near, far], there)
    assert (low, high) == (2.0, 4.0)
    shown = depth.shades(near, there[0], low, high)
    torch.testing.assert_close(shown, torch.tensor([[0.1, 0.475], [1.0, 1.0]]))
    assert depth.ends([near], [torch.zeros(2, 2, dtype=torch.bool)]) == (0.0, 1.0)


def test_each_scale_covers_what_its_ball_does(monkeypatch):
    """A ball of radius r at distance D fills a circle of tan(asin(r / D)) of what the picture shows."""
    monkeypatch.setattr(basis, "SIDE", 40)
    shown = scene_of(known([0.8]))
    basis.section(shown)
    found = shown.numbers.get("report/basis_fields/0")
    assert list(found) == ["all scales", "scales 1 to 2", "scale 1 alone", "scale 2 alone", "scale 3 alone"]
    for about, radius in zip(found.values(), (0.8, 0.8, 0.8, 0.7, 0.6), strict=True):
        half = math.tan(math.asin(radius / DISTANCE)) / (EXTENT / DISTANCE)
        assert about["covered"] == pytest.approx(math.pi * half**2 / 4, abs=0.01)
    assert found["scale 2 alone"]["psnr"] > found["scale 3 alone"]["psnr"]


def test_neighbours_are_those_that_the_metric_found_for_these_samples_from_one_camera():
    evaluated = replace(known([]), samples=[Ball(MIDDLES[1]), Ball(MIDDLES[0])])  # copies

    def shown(sampling):
        found = {**METRICS["memorisation"], "neighbours": [1, 0], "protocol": {"sampling": sampling}}
        place = scene_of(evaluated, memorisation=found)
        return neighbours.section(place), place.numbers

    section, numbers = shown({**PROTOCOL, "samples": 99})  # the first of more samples are the same
    assert [about["object"] for about in numbers.get("report/neighbours").values()] == ["b", "a"]
    sources = re.findall(r'<img[^>]*src="([^"]+)"', section.body)
    assert len(sources) == 4
    for mine, true in zip(sources[::2], sources[1::2], strict=True):
        assert np.abs(pixels(opened(mine)) - pixels(opened(true))).max() <= 2
    assert shown({**PROTOCOL, "seed": 6})[0] is None and shown({})[0] is None


def test_the_usual_view_is_the_one_nearest_to_the_usual_camera():
    assert neighbours.usual(known([]).train, 0) == 3


def test_makers_of_the_models_are_named_with_their_licence(tmp_path):
    source = Photographed()
    evaluated = known([], source=source)
    assert nerf.credits(evaluated) == []
    source.root = tmp_path
    assert nerf.credits(evaluated) == []
    rows = [("a", "Zoe", "CC-BY"), ("b", "Ada", "CC-BY"), ("c", "Ada", "CC0")]
    lines = [json.dumps({"model": m, "creator": c, "license": li}) for m, c, li in rows]
    (tmp_path / nerf.CREDITS).write_text("\n".join([*lines, "", "[1]", "a word"]))
    assert nerf.credits(evaluated) == ["Models in the data, CC-BY: Ada, Zoe.", "Models in the data, CC0: Ada."]
