"""How radiance fields are evaluated: on balls and planes whose every number is known, so that every answer is too."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tiny
import torch

from ddmi.domains.base import Evidence
from ddmi.domains.nerf import Nerf, ViewDataset, field_view, metrics
from ddmi.domains.nerf.camera_images import (
    RAYS,
    CameraImage,
    agreement,
    depth_error,
    of_cloud,
    orbited,
    project,
    semi_transparent,
)
from ddmi.domains.nerf.metrics import ViewMetrics, volume
from ddmi.domains.nerf.posed import Views
from ddmi.evaluation import at
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.pixels import CEILING
from ddmi.rendering.cameras import Camera
from ddmi.rendering.volume import Occupancy

SIZE = 16
DOMAIN = Nerf(resolution=8, cloud=400, noise=0.0)
RED, BLUE = (200, 40, 40), (40, 40, 200)


class Ball:
    """A ball around the origin of one colour (levels), or of one that `painted` gives for points and directions."""

    def __init__(self, colour=RED, radius=0.6, density=1e4, painted=None):
        self.colour, self.radius, self.density, self.painted = colour, radius, density, painted

    def __call__(self, coordinates, periods=None, extras=None):
        assert (extras.norm(dim=1) - 1).abs().max() < 1e-5
        inside = coordinates.norm(dim=1, keepdim=True) < self.radius
        colour = torch.tensor(self.colour)[None] / 255 + 0 * coordinates
        if self.painted is not None:
            colour = self.painted(coordinates, extras)
        return torch.cat([colour, self.density * inside], dim=1)


class Source:
    """Fields photographed exactly, the second half of them held out."""

    captions = labels = None

    def __init__(self, fields, places, size=SIZE):
        self.fields, self.size = fields, size
        self.places = [Camera.orbit(*place, distance=4.5, size=size) for place in places]
        self.names = [f"ball-{k}" for k in range(len(fields))]
        self.groups = [[k] for k in range(len(fields))]
        self.parts = ["train" if 2 * k < len(fields) else "test" for k in range(len(fields))]
        self.classes: list[str] = []
        self.counts = [len(places)] * len(fields)
        self.bad: list[tuple[str, str]] = []
        self.taken: dict[tuple[int, int], np.ndarray] = {}

    def cameras(self, index):
        return Views(
            poses=torch.stack([camera.pose for camera in self.places]).numpy(),
            focal=np.array([camera.focal for camera in self.places]),
            centre=np.array([camera.middle for camera in self.places]),
            size=(self.size, self.size),
        )

    def images(self, index, which):
        for k in which:
            if (index, k) not in self.taken:
                even, fine = RAYS
                seen = DOMAIN.render(self.fields[index], self.size, camera=self.places[k], samples=even, fine=fine)
                self.taken[index, k] = (255 * seen.view.colour).round().to(torch.uint8).numpy()
        return np.stack([self.taken[index, k] for k in which])

    def cloud(self, index, count, rng):
        points = rng.standard_normal((count, 3))
        points *= self.fields[index].radius / np.linalg.norm(points, axis=1, keepdims=True)
        colours = np.broadcast_to(np.array(self.fields[index].colour) / 127.5 - 1, points.shape)
        return np.concatenate([points, colours], axis=1).astype(np.float32)


def given(fields, samples=(), wrong=lambda field: field, places=((0, 0), (120, 30)), size=SIZE, **about) -> Evidence:
    source = Source(fields, places, size)
    train, held_out = ViewDataset(DOMAIN, source, "train"), ViewDataset(DOMAIN, source, "test")

    def reconstruct(dataset, indices):
        assert len(indices) <= metrics.FEW
        return [wrong(fields[dataset.kept[i]]) for i in indices]

    return Evidence(train, held_out, reconstruct, samples, **about)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Balls need no fine grid to tell where they are not."""
    monkeypatch.setattr(field_view, "Occupancy", partial(Occupancy, cells=16))


@pytest.fixture
def network(monkeypatch):
    found = tiny.Features()
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: found)
    return found


# cameras --------------------------------------------------------------------------------------------------------------


def test_points_along_the_rays_of_pixels_are_projected_to_these_pixels():
    pose = Camera.orbit(30.0, 40.0, distance=3.5, target=(0.2, -0.1, 0.3)).pose
    camera = Camera(pose, 21.0, (5, 7), (2.6, 3.1))
    origins, directions = camera.rays()
    far = torch.linspace(0.5, 4.0, 35)
    places, distances = project(camera, origins + far[:, None] * directions)
    rows, columns = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(7) + 0.5, indexing="ij")
    torch.testing.assert_close(places, torch.stack([columns, rows], dim=2).flatten(0, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(distances, far)
    assert (project(camera, origins - far[:, None] * directions)[1] < 0).all()


@pytest.mark.parametrize("elevation", [-40.0, 0.0, 89.9])
def test_a_camera_beside_another_looks_at_the_same_point_ten_degrees_away(elevation):
    camera = Camera.orbit(33.0, elevation, distance=3.0, size=8)
    moved = orbited(camera, 10.0)  # the constructor refuses what is no rotation
    eyes = [one.pose[:3, 3] for one in (camera, moved)]
    assert moved.pose[:3, 3].norm() == pytest.approx(3.0)
    assert math.degrees(math.acos(float(eyes[0] @ eyes[1]) / 9)) == pytest.approx(10.0)
    torch.testing.assert_close(moved.pose[:3, 2] * 3, eyes[1])  # its back points away from the origin
    torch.testing.assert_close(moved.pose[:3, 1], camera.pose[:3, 1])
    assert float((eyes[1] - eyes[0]) @ camera.pose[:3, 0]) > 0  # to its right


# reconstruction -------------------------------------------------------------------------------------------------------


def test_the_truth_reconstructs_the_truth(monkeypatch):
    monkeypatch.setattr(metrics, "FEW", 1)
    found = ViewMetrics(DOMAIN, given([Ball(RED), Ball(BLUE), Ball(RED, 0.4), Ball(BLUE, 0.5)])).reconstruction()
    assert found["psnr"] == found["psnr_inside"] == pytest.approx(CEILING)
    assert found["ssim"] == pytest.approx(1, abs=1e-5)
    assert found["psnr_standard_error"] == 0
    assert "depth_error" not in found  # nobody knows it
    assert found["protocol"]["objects"] == 2 and found["protocol"]["views"] == 4
    assert found["points"]["psnr_inside"] == pytest.approx(CEILING)  # points of one colour, enough to cover it all
    assert 10 < found["points"]["psnr"] < 40  # and a pixel more around it
    json.dumps(found)


def test_an_error_of_known_size_on_the_object_alone():
    """8 levels on the pixels of the object, nothing elsewhere; the two held-out balls are of two sizes."""

    def wrong(ball):
        return Ball(tuple(c + 8 for c in ball.colour), ball.radius)

    evidence = given([Ball(), Ball(), Ball(RED, 0.4), Ball(BLUE, 0.6)], wrong=wrong)
    found = ViewMetrics(DOMAIN, evidence).reconstruction()
    inside = 20 * math.log10(255 / 8)
    assert found["psnr_inside"] == pytest.approx(inside, abs=1e-3)
    values = []
    for i in range(2):
        seen = (evidence.held_out.images(i, [0, 1]) != 255).any(axis=3).mean(axis=(1, 2))
        values.append(inside - np.mean(10 * np.log10(seen)))
    assert found["psnr"] == pytest.approx(np.mean(values), abs=1e-3)
    assert found["psnr_standard_error"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(2), abs=1e-3)
    assert values[0] - values[1] > 1  # the larger ball has the larger error
    assert at({"reconstruction": found}, DOMAIN.metrics().fidelity["psnr"]) == found["psnr"]


def test_the_nearest_points_of_a_cloud_are_in_front():
    camera = Camera.orbit(0, 0, distance=5.0, size=(9, 11))
    cloud = torch.tensor(
        [
            [0.0, 0.0, 0.5, -1, -1, 1],  # blue, in front of
            [0.0, 0.0, -0.5, 1, -1, -1],  # red, in the middle of the picture
            [0.0, 0.0, 9.0, 1, 1, -1],  # behind the camera
            [9.0, 0.0, 0.0, 1, 1, -1],  # beside the picture
            [0.0, 0.0, 0.0, -1, 1, -1],  # green, between them
        ]
    )
    wanted = np.full((9, 11, 3), 255, np.uint8)
    wanted[3:6, 4:7] = (0, 0, 255)
    for order in (slice(None), [4, 3, 2, 1, 0]):
        assert np.array_equal(of_cloud(cloud[order], camera, 1.0), wanted)
    up = of_cloud(torch.tensor([[0.0, 0.9, 0.0, 0, 0, 0]]), camera, 0.0)
    rows, columns, _ = np.nonzero(up)
    assert columns.mean() == 5 and rows.max() < 4 and up.max() == 128


def test_depth_is_told_in_sides_of_the_cube_where_both_see_something():
    camera = Camera.orbit(0, 0, size=(1, 4))
    black = np.zeros((1, 4, 3), np.uint8)
    true = CameraImage(camera, black, torch.tensor([[1.0, 1.0, 1.0, 0.5]]), torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
    drawn = CameraImage(camera, black, torch.tensor([[1.0, 0.95, 0.3, 1.0]]), torch.tensor([[3.1, 2.7, 9.0, 9.0]]))
    found = depth_error(drawn, true)
    assert found == pytest.approx({"depth_error": (0.1 + 0.3) / 2 / 2, "depth_missed": 1 / 3})
    assert depth_error(replace(drawn, opacity=torch.zeros(1, 4)), true) == {"depth_missed": 1.0}
    assert depth_error(drawn, replace(true, opacity=torch.zeros(1, 4))) == {}


class Solid:
    """A piece of furniture as a field, exactly."""

    def __init__(self, furniture, index):
        self.furniture, self.index = furniture, index

    def __call__(self, coordinates, periods=None, extras=None):
        points = coordinates.numpy()
        inside = torch.from_numpy(self.furniture.occupancy(self.index, points)).float()[:, None]
        return torch.cat([torch.from_numpy(self.furniture.colours(self.index, points)), 1e4 * inside], dim=1)


def test_furniture_tells_depths_and_photographs_from_anywhere():
    pytest.importorskip("embreex")
    from ddmi.domains.nerf.photography import FurnitureViews

    source = FurnitureViews(4, 2, 32)
    source.parts = ["train", "train", "train", "test"]
    domain = replace(DOMAIN, source="furniture")
    parts = [ViewDataset(domain, source, part) for part in ("train", "test")]

    def reconstruct(dataset, indices):
        return [Solid(source.furniture, dataset.kept[i]) for i in indices]

    evidence = Evidence(*parts, reconstruct, ())
    measured = ViewMetrics(domain, evidence)
    found = measured.reconstruction()
    assert 0 < found["depth_error"] < 0.015 and found["depth_missed"] < 0.02
    assert "depth_error" not in found["points"]
    true, drawn = (measured.groups[name][0] for name in ("true_views", "reconstructions"))
    for photograph, look in zip(true, drawn, strict=True):  # the same cameras
        torch.testing.assert_close(photograph.camera.pose.float(), look.camera.pose.float())
        both = (photograph.opacity > 0.99) & (look.opacity > 0.99)
        assert (photograph.depth - look.depth)[both].abs().median() < 0.02
    views = measured.consistency()
    assert views["true_views"] < 6 and views["seen_in_both"]["true_views"] > 0.6
    assert views["protocol"]["true_views"] == views["protocol"]["reconstructions"] == 1


# views that agree -----------------------------------------------------------------------------------------------------


def plane(camera, colour, height=0.0) -> CameraImage:
    """The plane z = height, painted by what (x, y) gives."""
    origins, directions = camera.rays()
    far = (height - origins[:, 2]) / directions[:, 2]
    points = origins + far[:, None] * directions
    levels = colour(points[:, 0], points[:, 1]).unflatten(0, camera.size)[..., None].expand(-1, -1, 3)
    return CameraImage(
        camera, levels.round().to(torch.uint8).numpy(), torch.ones(camera.size), far.unflatten(0, camera.size)
    )


def ramp(x, y):
    return 120 + 60 * x - 30 * y


FRONT = Camera.orbit(0, 0, distance=4.0, size=32)


def test_what_is_painted_on_a_plane_agrees_from_two_cameras():
    beside = orbited(FRONT, 10.0)
    one, other = plane(FRONT, ramp), plane(beside, ramp)
    same = agreement(one, other)
    assert same.difference < 0.5 and same.share > 0.9  # rounding to levels; the border is not interpolated
    brighter = agreement(one, plane(beside, lambda x, y: ramp(x, y) + 7))
    assert brighter.difference == pytest.approx(7, abs=0.5)
    mirrored = agreement(one, plane(beside, lambda x, y: ramp(-x, y)))
    assert mirrored.difference > 20  # the other way round it is another picture
    assert agreement(one, plane(beside, ramp, height=0.2)) is None  # no point is at the same distance
    assert agreement(replace(one, opacity=torch.full(FRONT.size, 0.5)), other) is None  # fog


def test_what_is_hidden_from_the_other_camera_is_not_compared():
    beside = orbited(FRONT, 10.0)
    other = plane(beside, ramp)
    colour, depth = other.colour.copy(), other.depth.clone()
    colour[:, :16], depth[:, :16] = 0, 1.0  # something black and near covers half of its picture
    whole, half = (
        agreement(plane(FRONT, ramp), other),
        agreement(plane(FRONT, ramp), CameraImage(beside, colour, other.opacity, depth)),
    )
    assert half.difference < 0.5 and half.share / whole.share == pytest.approx(0.5, abs=0.06)


def test_colours_that_depend_on_the_direction_are_inconsistent_by_as_much():
    """Red is (1 + x of the direction) / 2: at a point of the ball the two cameras' directions are known."""

    def painted(points, directions):
        return torch.stack([(1 + directions[:, 0]) / 2, 0 * points[:, 0], 0 * points[:, 0]], dim=1)

    def smooth(points, directions):
        return 0.5 + 0.3 * points

    changing, fixed = Ball(painted=painted), Ball(painted=smooth)
    evidence = given([Ball(), fixed], [changing] * 3, places=((0, 0),), size=48)
    found = ViewMetrics(DOMAIN, evidence).consistency()

    camera = evidence.train.camera(0, 0)
    other = orbited(camera, 10.0)
    origins, directions = camera.rays()
    along = -(origins * directions).sum(dim=1)
    gap = 0.36 - (origins.square().sum(dim=1) - along**2)  # a line meets the ball where this is positive
    hit = gap > 0
    points = origins[hit] + (along - gap.clamp(min=0).sqrt())[hit, None] * directions[hit]
    sight = torch.nn.functional.normalize(points - other.pose[:3, 3].float(), dim=1)
    seen = (sight * points).sum(dim=1) < -0.05
    wanted = 255 / 2 * (directions[hit] - sight)[seen, 0].abs().mean() / 3  # of three colours two do not change
    assert found["samples"] == pytest.approx(float(wanted), rel=0.06)
    assert found["samples"] > 5 * found["reconstructions"]
    assert (
        found["samples_standard_error"] == pytest.approx(0, abs=1e-9) and "reconstructions_standard_error" not in found
    )
    assert 0.7 < found["seen_in_both"]["samples"] <= 1 and "true_views" not in found
    assert found["protocol"]["samples"] == 3 and found["protocol"]["degrees"] == 10
    assert at({"consistency": found}, DOMAIN.metrics().quality["consistency"]) == found["samples"]


def test_samples_of_which_nothing_can_be_compared_are_counted():
    evidence = given([Ball(), Ball()], [Ball(), Ball(density=0.0)], places=((0, 0),))
    measured = ViewMetrics(DOMAIN, evidence)
    found = measured.consistency()
    assert found["protocol"]["samples"] == 1 and found["protocol"]["samples_without_a_point"] == 1
    fog = measured.opacity()
    assert fog["protocol"]["samples"] == 1 and fog["protocol"]["samples_empty"] == 1


def test_fog_is_told_from_what_is_solid():
    assert semi_transparent(torch.tensor([[0.0, 0.05, 0.2, 0.5, 0.95, 1.0]])) == pytest.approx(0.5)
    fog = Ball(density=1.2)  # at most 1 - exp(-1.44) = 0.76
    evidence = given([Ball(), Ball()], [fog, fog], places=((0, 0),))
    found = ViewMetrics(DOMAIN, evidence).opacity()
    assert found["samples"] == 1 and found["reconstructions"] < 0.02
    alone = ViewMetrics(DOMAIN, replace(evidence, samples=())).opacity()
    assert "samples" not in alone and alone["reconstructions"] == found["reconstructions"]


# sets -----------------------------------------------------------------------------------------------------------------


def several(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Ball(tuple(rng.integers(0, 256, 3).tolist()), float(rng.uniform(0.3, 0.8))) for _ in range(count)]


def test_renderings_are_compared_as_their_features_say(network, monkeypatch):
    """One camera for all: whatever is drawn of views and cameras, the pictures are known."""
    monkeypatch.setattr(metrics, "LEAST", 3)
    balls, drawn = several(12), several(6, seed=1)
    evidence = given(balls, drawn, places=((20, 10),), size=32)
    found = ViewMetrics(DOMAIN, evidence).renderings()

    def seen(fields):
        pictures = np.concatenate([Source(fields, ((20, 10),), 32).images(k, [0]) for k in range(len(fields))])
        return network(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1).detach()

    real, unseen, mine = seen(balls[:6]), seen(balls[6:]), seen(drawn)
    assert found["kernel_distance"] == pytest.approx(kernel_distance(real, mine).mean, rel=1e-4)
    assert found["frechet"] == pytest.approx(frechet(gaussian(real), gaussian(mine)), rel=1e-3)
    assert found["held_out"]["kernel_distance"] == pytest.approx(kernel_distance(real, unseen).mean, rel=1e-4)
    assert found["held_out"]["pictures"] == found["as_many_samples"]["pictures"] == 6
    assert found["as_many_samples"]["frechet"] == pytest.approx(found["frechet"])
    assert found["protocol"]["features"] == "tiny-features" and found["protocol"]["training_pictures"] == 6
    assert at({"renderings": found}, DOMAIN.metrics().quality["kernel_distance"]) == found["kernel_distance"]
    assert at({"renderings": found}, DOMAIN.metrics().quality["frechet"]) == found["frechet"]

    network.fid = True
    named = ViewMetrics(DOMAIN, evidence).renderings()
    assert named["fid"] == pytest.approx(found["frechet"]) and "frechet" not in named
    assert "fid" in named["held_out"]


def test_the_training_objects_themselves_are_at_no_distance(network):
    balls = several(40)
    found = ViewMetrics(DOMAIN, given(balls, balls[:20], places=((0, 0),))).renderings()
    assert found["frechet"] == pytest.approx(0, abs=1e-6) and found["kernel_distance"] < 0  # unbiased, so below 0
    far = ViewMetrics(DOMAIN, given(balls, [Ball((0, 0, 0), 0.8)] * 20, places=((0, 0),))).renderings()
    assert far["frechet"] > 1 and far["kernel_distance"] > 3 * far["kernel_distance_standard_error"]


def test_cameras_of_samples_are_those_of_the_data_and_none_is_used_twice_before_all_were():
    evidence = given(several(12), places=((0, 0), (90, 0), (180, 40)))
    measured = ViewMetrics(DOMAIN, evidence)
    chosen = measured.chosen(evidence.train, 12, "cameras")
    assert sorted(item for item, _ in chosen) == sorted([*range(6)] * 2)
    assert {view for _, view in chosen} == {0, 1, 2}
    assert chosen == measured.chosen(evidence.train, 12, "cameras") != measured.chosen(evidence.train, 12, "pictures")


def test_large_views_are_shrunk_and_samples_are_averaged_over_as_fine_rays(monkeypatch):
    monkeypatch.setattr(metrics, "SHOWN", 16)
    assert metrics.small((16, 16)) == ((16, 16), 1) and metrics.small((8, 24)) == ((5, 16), 2)
    evidence = given([Ball(), Ball()], [Ball()], places=((0, 0),), size=32)
    measured = ViewMetrics(DOMAIN, evidence)
    look = measured.samples[0].first
    even, more = RAYS
    fine = DOMAIN.render(Ball(), 32, camera=evidence.train.camera(0, 0), samples=even, fine=more).view
    mean = fine.colour.view(16, 2, 16, 2, 3).mean(dim=(1, 3))
    assert np.abs(look.colour - 255 * mean.numpy()).max() <= 0.51
    assert look.camera.size == (16, 16) and look.camera.focal == pytest.approx(evidence.train.camera(0, 0).focal / 2)
    edge = (look.opacity > 0.2) & (look.opacity < 0.8)
    assert edge.any() and (look.depth[edge] > 3.5).all()  # what is empty does not count
    (view,) = measured.views(evidence.train, 1, "pictures")
    assert np.abs(view.astype(int) - look.colour.astype(int)).mean() < 4


def test_a_volume_holds_what_is_solid_and_its_colour():
    found = volume(Ball((255, 51, 0), 0.7)).double()
    assert found[0].sum() * (2 / metrics.CELLS) ** 3 == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.02)
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0] / 5)
    assert found[3].abs().max() == 0
    upper = volume(Ball(painted=lambda points, _: (points[:, 1:2] > 0).float().expand(-1, 3)))
    assert upper[1].sum(dim=(0, 2))[: metrics.CELLS // 2].max() == 0 < upper[1].sum(dim=(0, 2)).max()  # z, y, x


def test_copies_are_at_distance_zero_and_their_originals_are_named(monkeypatch):
    monkeypatch.setattr(metrics, "FEW", 4)
    balls = [Ball(colour, radius) for colour in (RED, BLUE) for radius in (0.4, 0.5, 0.6, 0.7)] + several(8, seed=2)
    copies = [balls[6], balls[2], balls[0]]  # blue, red and red ones, so that the shape alone would not tell
    found = ViewMetrics(DOMAIN, given(balls, copies)).memorisation()
    assert found["neighbours"] == [6, 2, 0]
    assert found["ratio"] == found["sample_median"] == 0 < found["held_out_median"]
    fresh = ViewMetrics(DOMAIN, given(balls, several(8, seed=3))).memorisation()
    assert fresh["ratio"] > 0.4 and fresh["protocol"]["training_objects"] == 8
    json.dumps(fresh)


def test_metrics_need_no_more_than_they_say(network):
    nothing = given([Ball()], places=((0, 0),))  # one training object, none held out, no samples
    for name, metric in DOMAIN.metrics().functions.items():
        assert metric(nothing) == {}, name
    unsampled = given([Ball(), Ball()], places=((0, 0),))
    answers = {name: bool(metric(unsampled)) for name, metric in DOMAIN.metrics().functions.items()}
    assert answers == {
        "reconstruction": True,
        "renderings": False,
        "consistency": True,
        "opacity": True,
        "memorisation": False,
    }
    assert {
        place.partition("/")[0] for place in (*DOMAIN.metrics().quality.values(), *DOMAIN.metrics().fidelity.values())
    } <= set(answers)
