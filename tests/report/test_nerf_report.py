"""The report of radiance fields, of runs of which everything is known."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import trimesh
from PIL import Image
from test_report import HOSTILE, Page, written

from ddmi.domains.nerf import Nerf, ViewDataset, field_view
from ddmi.domains.nerf.field_view import CAMERA, SURFACE
from ddmi.domains.nerf.photography import FurnitureViews
from ddmi.domains.nerf.posed import Views
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.rendering.cameras import DISTANCE, EXTENT, Camera
from ddmi.rendering.volume import Occupancy, Quadrature, render_field
from ddmi.report import viewer
from ddmi.report.numbers import Numbers
from ddmi.report.page import assemble
from ddmi.report.sections import nerf

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
    """A pipeline that samples balls, and remembers the calls."""

    def __init__(self, condition: str) -> None:
        config = tiny.config(DOMAIN)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.calls: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.calls.append({"count": num_samples, "seed": seed, **options})
        return [Ball(radius=0.2 + 0.1 * k) for k in range(num_samples)]


class Known(Evaluated):
    """A run whose reconstructions are a little too bright."""

    def reconstruct(self, dataset, indices):
        return [Ball(MIDDLES[dataset.kept[i]], offset=OFFSET) for i in indices]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pages of few and small images, whose emptiness is looked up on a coarse grid."""
    monkeypatch.setattr(field_view, "Occupancy", partial(Occupancy, cells=CELLS))
    sizes = {"TURNED": 16, "FRAMES": 3, "SIZES": (8, 12, 20), "MIDDLE": 8, "SIDE": 8, "CELLS": (16, 24)}
    for name, value in sizes.items():
        monkeypatch.setattr(nerf, name, value)


def known(radii, condition="none", source=None) -> Known:
    source = Photographed(condition != "none") if source is None else source
    parts = [ViewDataset(DOMAIN, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} ball" for _ in radii]} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(len(radii))]}
    return Known(Pipe(condition), *parts, [Ball(radius=radius) for radius in radii], PROTOCOL, asked)


def report_of(evaluated: Evaluated, metrics: Any = None) -> nerf.Report:
    return nerf.Report(evaluated, Numbers({"sampling": PROTOCOL, **(metrics or {})}))


def pixels(found: Image.Image) -> np.ndarray:
    return np.asarray(found.convert("RGB")).astype(float)


METRICS = {
    "reconstruction": {"psnr": 24.2, "points": {"psnr": 16.1}},
    "memorisation": {
        **{"ratio": 1.1, "sample_median": 2.0, "held_out_median": 1.8, "neighbours": [1, 0, 1]},
        "protocol": {"feature": "solid cells", "training_objects": 2, "sampling": PROTOCOL},
    },
}


def test_a_page_of_samples_is_whole_and_offline():
    page = written(report_of(known([0.5, 0.6, 0.7], "text"), METRICS))
    assert page.sections == ["samples", "sides", "surface", "prompts", "reconstructions", "basis", "neighbours"]
    assert len(page.metrics) > 40
    expected = {"reconstruction/psnr", "reconstruction/points/psnr", "memorisation/ratio", "report/meshes/24/faces"}
    assert expected <= {place for place, _, _ in page.metrics}


def test_before_the_second_stage_reconstructions_take_the_place_of_samples():
    report = report_of(known([]))
    page = written(report)
    assert page.sections == ["sides", "surface", "reconstructions", "basis"] and report.hero() == []
    assert "The reconstruction of “" in page.plain


def test_classes_are_text():
    page = written(report_of(known([0.5, 0.6], "class")))
    assert "small <b>" not in page.plain and "small &lt;b&gt;" in page.plain


def test_turntables_go_around():
    evaluated = known([0.5])
    evaluated = replace(evaluated, samples=[Ball((0.5, 0.1, 0.0), 0.4)])
    (shown, _) = written(report_of(evaluated)).images("sample 0")
    assert shown.n_frames == 3
    azimuth, elevation = CAMERA
    for k in range(3):
        shown.seek(k)
        camera = Camera.orbit(azimuth + 120 * k, elevation, size=16)
        expected = render_field(evaluated.samples[0], camera, Quadrature(**nerf.FAST)).colour.numpy() * 255
        assert np.abs(pixels(shown) - expected).mean() < 6, k


def test_an_empty_sample_is_passed_over():
    name, field = report_of(known([-1.0, 0.4])).chosen
    assert name == "Sample 1" and field.radius == 0.4
    report = report_of(known([-1.0, -1.0]))
    assert report.chosen[0] == "Sample 0" and not report.surface().blocks


def test_the_middle_of_an_image_is_shown_as_the_whole_one_has_it():
    (near,) = written(report_of(known([0.5]))).images("Sample 0, closer")
    whole = render_field(Ball(), Camera.orbit(*CAMERA, size=16), Quadrature(**nerf.FINE)).colour.numpy() * 255
    assert np.abs(pixels(near) - whole[4:12, 4:12]).max() <= 1.5


def test_the_viewer_has_coloured_meshes_simplified_where_they_are_heavy(monkeypatch):
    monkeypatch.setattr(viewer, "CLOSE_FACES", 1200)
    report = report_of(known([0.6]))
    page = written(report)
    about = report.numbers.get("report/meshes/24")
    assert about["faces"] > 1800 and about["shown_faces"] <= 1200
    assert about["vertices"] - about["faces"] / 2 == 2  # Euler: a closed surface without holes
    glb = page.meshes("surface")[-1]
    mesh = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh", process=False)
    assert len(mesh.faces) == about["shown_faces"] and f"passes {SURFACE:g}" in page.plain
    colours = colours_of(glb) / 255
    assert np.abs(colours - 0.45 * (np.asarray(mesh.vertices) + 1)).max() < 0.06  # a vertex away


def colours_of(glb: bytes) -> np.ndarray:
    """Red, green and blue of the vertices of a GLB file; trimesh reads none beside a material."""
    end = 20 + int.from_bytes(glb[12:16], "little")
    tree = json.loads(glb[20:end])
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    start = end + 8 + tree["bufferViews"][accessor["bufferView"]].get("byteOffset", 0)
    return np.frombuffer(glb, np.uint8, 4 * accessor["count"], start).reshape(-1, 4)[:, :3].astype(float)


def test_quality_is_that_of_known_errors_from_the_right_cameras():
    """All that is seen is too bright by as much: the error is the offset times the opacity."""
    report = report_of(known([]))
    report.reconstructions()
    for k, index in enumerate(report.subjects):
        about, held_out = report.numbers.get(f"report/reconstructions/{k}"), report.held_out
        assert about["object"] == held_out.names[index]
        assert about["views"] == sorted(set(about["views"])) and len(about["views"]) == nerf.VIEWS
        for view, measured in zip(about["views"], about["psnr"], strict=True):
            seen = render_field(Ball(MIDDLES[held_out.kept[index]]), held_out.camera(index, view), Quadrature())
            assert measured == pytest.approx(-10 * math.log10((OFFSET * seen.opacity).square().mean()), abs=0.15)
        assert about["mean_psnr"] == pytest.approx(np.mean(about["psnr"]))


def test_large_views_are_shrunk_with_their_cameras(monkeypatch):
    monkeypatch.setattr(nerf, "LARGEST", 8)
    report = report_of(known([]))
    camera, found = report.view(report.held_out, 0, 2)
    assert camera.size == (6, 8) and found.size == (8, 6)
    whole = report.held_out.images(0, [2])[0].astype(float)
    assert np.abs(np.asarray(found) - whole.reshape(6, 2, 8, 2, 3).mean(axis=(1, 3))).max() <= 1


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
    monkeypatch.setattr(nerf, "SIDE", 40)
    source = FurnitureViews(12, 3, 16)

    class Exact(Evaluated):
        def reconstruct(self, dataset, indices):
            ahead = [-dataset.camera(i, 0).pose[:3, 2].float() for i in indices]
            return [Solid(source, dataset.kept[i], moved * axis) for i, axis in zip(indices, ahead, strict=True)]

    domain = replace(DOMAIN, held_out=0.25)
    parts = [ViewDataset(domain, source, part) for part in ("train", "test")]
    shown = report_of(Exact(Pipe("none"), *parts, [], PROTOCOL, {}))
    shown.depth()
    found = shown.numbers.get("report/depth")
    assert len(found) == min(len(parts[1]), nerf.MEASURED) == 2
    for about in found.values():
        assert about["depth_error"] == pytest.approx(moved / 2, abs=0.012 + 0.1 * moved)  # edges count for more
        assert about["depth_missed"] < 0.12 + moved


def test_without_shapes_there_is_no_depth_to_compare():
    assert report_of(known([])).depth() is None


def test_each_scale_covers_what_its_ball_does(monkeypatch):
    """A ball of radius r at distance D fills a circle of tan(asin(r / D)) of what the image shows."""
    monkeypatch.setattr(nerf, "SIDE", 40)
    report = report_of(known([0.8]))
    report.basis_section("")
    found = report.numbers.get("report/basis_fields/0")
    assert list(found) == ["all scales", "scales 1 to 2", "scale 1 alone", "scale 2 alone", "scale 3 alone"]
    for about, radius in zip(found.values(), (0.8, 0.8, 0.8, 0.7, 0.6), strict=True):
        half = math.tan(math.asin(radius / DISTANCE)) / (EXTENT / DISTANCE)
        assert about["covered"] == pytest.approx(math.pi * half**2 / 4, abs=0.01)
    assert found["scale 2 alone"]["psnr"] > found["scale 3 alone"]["psnr"]


def test_neighbours_are_those_that_the_metric_found_for_these_samples_from_one_camera():
    evaluated = replace(known([]), samples=[Ball(MIDDLES[1]), Ball(MIDDLES[0])])  # copies

    def shown(sampling):
        found = {**METRICS["memorisation"], "neighbours": [1, 0], "protocol": {"sampling": sampling}}
        return report_of(evaluated, {"memorisation": found})

    report = shown({**PROTOCOL, "samples": 99})  # the first of more samples are the same
    section = report.nearest()
    assert [about["object"] for about in report.numbers.get("report/neighbours").values()] == ["b", "a"]
    page = Page(assemble("t", [], [section]))
    for k, name in enumerate(("b", "a")):
        (ours,), (true,) = page.images(f"sample {k}"), page.images(name)
        assert np.abs(pixels(ours) - pixels(true)).max() <= 2
    assert shown({**PROTOCOL, "seed": 6}).nearest() is None and shown({}).nearest() is None


def test_the_usual_view_is_the_one_nearest_to_the_usual_camera():
    assert nerf.usual(known([]).train, 0) == 3
