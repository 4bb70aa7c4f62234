"""Shapes as signals: what is asked, how it is scored, and the surface that comes out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.coordinates import grid
from ddmi.base.errors import Empty, UserError
from ddmi.config import from_dict, to_dict
from ddmi.data.shapes import ShapeSource
from ddmi.domains.base import Domain, PointBatch
from ddmi.domains.shape import Shape, ShapeDataset
from ddmi.field import Field
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.model.signal import Signal
from ddmi.pipeline import DDMIPipeline
from ddmi.training.run import train

ENCODE = PointEncoderConfig(width=12, blocks=2, features=12, planes=tiny.ENCODER)


def shape(**settings) -> Shape:
    """Clouds of 40 points on 8 x 8 planes, with 4 x 4 latents."""
    return Shape(**{"resolution": 8, "cloud": 40, "points": 64, "encode": ENCODE, "source": "furniture", **settings})


class Balls(ShapeSource):
    """Balls around the middle, each of another radius: everything about them is known."""

    def __init__(self):
        self.captions = [["a small ball", "a ball"], ["a ball"], [], ["a large ball"]]
        self.labels, self.classes = [0, 0, 1, 1], ["small", "large"]
        self.names = ["a", "b", "c", "d"]
        self.parts, self.radii = ["train", "train", "train", "test"], [0.3, 0.4, 0.6, 0.8]

    def surface(self, index, count, rng):
        normals = rng.standard_normal((count, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return self.radii[index] * normals, normals

    def queries(self, index, uniform, near, rng):
        points = rng.uniform(-1, 1, (uniform, 3)).astype(np.float32)
        close = self.surface(index, near, rng)[0] + 0.02 * rng.standard_normal((near, 3)).astype(np.float32)
        points = np.concatenate([points, close])
        return points, np.linalg.norm(points, axis=1) < self.radii[index]


def balls(part="train", **settings) -> ShapeDataset:
    return ShapeDataset(shape(**settings), Balls(), part)


class Function(Signal):
    """A signal that is any function of its coordinates."""

    def __init__(self, function):
        object.__setattr__(self, "function", function)

    def __call__(self, coordinates, periods=None, extras=None):
        return self.function(coordinates)


def ball(radius):
    """The field of a ball; its logits cross 0 at the radius."""
    return lambda points, periods=None, extras=None: 20 * (radius - points.norm(dim=-1, keepdim=True))


def test_three_planes_named_after_their_axes():
    layout = Shape().layout
    assert {plane.name: (plane.axes, plane.size) for plane in layout} == {
        "xy": ((0, 1), (16, 16)),
        "yz": ((1, 2), (16, 16)),
        "xz": ((0, 2), (16, 16)),
    }


def test_a_batch_holds_points_of_the_surface_and_queries_of_both_kinds():
    batch = balls(points=1000, near=0.25, cloud=500, noise=0.01).batch([0, 2], torch.Generator(), [7, 8])
    assert (
        batch.x.shape == (2, 500, 3) and batch.coordinates.shape == (2, 1000, 3) and batch.targets.shape == (2, 1000, 1)
    )
    for k, radius in enumerate((0.3, 0.6)):
        away = batch.x[k].norm(dim=1) - radius
        assert 0.008 < away.std() < 0.012 and away.abs().max() < 0.06  # the noise that was asked for
        inside = (batch.coordinates[k].norm(dim=1) < radius).float()
        assert torch.equal(batch.targets[k, :, 0], inside)
        near = (batch.coordinates[k].norm(dim=1) - radius).abs() < 0.1
        assert near[750:].all() and near[:750].float().mean() < 0.3


def test_the_same_seed_asks_the_same_and_items_do_not_depend_on_their_neighbours():
    data = balls()
    one, again = (data.batch([0, 1], torch.Generator(), [5, 6]) for _ in range(2))
    alone, other = data.batch([1], torch.Generator(), [6]), data.batch([1], torch.Generator(), [9])
    assert torch.equal(one.x, again.x) and torch.equal(one.coordinates, again.coordinates)
    assert torch.equal(one.x[1], alone.x[0]) and torch.equal(one.coordinates[1], alone.coordinates[0])
    assert not torch.equal(alone.x, other.x) and not torch.equal(alone.coordinates, other.coordinates)
    assert torch.equal(data.inputs([1, 0])[0], data.inputs([1])[0])


def test_mirrored_items_are_the_others_with_left_and_right_exchanged():
    data = balls(mirror=True)
    assert len(data) == 6 and len(balls("test", mirror=True)) == 1 and data.names[:3] == data.names[3:]
    straight, mirrored = (data.batch([i], torch.Generator(), [5]) for i in (1, 4))
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirrored.x, straight.x * flip) and torch.equal(mirrored.coordinates, straight.coordinates * flip)
    assert torch.equal(mirrored.targets, straight.targets)
    (points, normals), (other, turned) = (data.surface(i, 20) for i in (1, 4))
    assert torch.equal(other, points * flip) and torch.equal(turned, normals * flip)
    with_normals = balls(mirror=True, normals=True)
    straight, mirrored = (with_normals.batch([i], torch.Generator(), [5]) for i in (1, 4))
    assert torch.equal(mirrored.x, straight.x * flip.repeat(2))


def test_voxels_of_a_mirrored_item_are_those_of_its_mirrored_points():
    class Corner(Balls):
        def queries(self, index, uniform, near, rng):
            points = rng.uniform(-1, 1, (uniform + near, 3)).astype(np.float32)
            return points, (points > [0.25, -0.5, 0.5]).all(axis=1)

    data = ShapeDataset(shape(mirror=True), Corner(), "train")
    points = grid((8, 8, 8))
    for index, sign in ((0, 1), (3, -1)):
        inside = (points * torch.tensor([sign, 1, 1]) > torch.tensor([0.25, -0.5, 0.5])).all(dim=1)
        assert torch.equal(data.voxels([index], 8)[0], inside.view(8, 8, 8))


def test_captions_of_an_item_are_all_there_for_training_and_one_for_asking():
    data = balls()
    assert data.phrasings == [["a small ball", "a ball"], ["a ball"], []] and data.labels == [0, 0, 1]
    assert data.captions[0] in data.phrasings[0] and data.captions[1:] == ["a ball", ""]
    assert balls("test").names == ["d"]


def test_the_likelihood_is_the_cross_entropy_of_occupancy():
    """Eq. 12 by hand: logits 2 and -1 of an inner and an outer point."""
    batch = PointBatch(
        x=torch.zeros(1, 1, 3),
        coordinates=torch.tensor([[[0.0, 0.0, 0.0], [0.9, 0.9, 0.9]]]),
        targets=torch.tensor([[[1.0], [0.0]]]),
        seeds=(0,),
    )
    logits = Function(lambda at: torch.where(at[..., :1] < 0.5, 2.0, -1.0))
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    expected = -(math.log(p) + math.log(1 - q)) / 2
    assert float(shape().likelihood(logits, batch).loss) == pytest.approx(expected, rel=1e-6)


def test_the_surface_of_a_ball_is_closed_and_encloses_its_volume():
    mesh = shape().render(ball(0.7), 64)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=5e-3)


def test_the_threshold_moves_the_surface():
    """Where sigmoid(20 (r - |x|)) = 0.2 the radius is r + log(4) / 20."""
    loose = replace(shape(), threshold=0.2).render(ball(0.6), 64)
    assert np.linalg.norm(loose.vertices, axis=1).mean() == pytest.approx(0.6 + math.log(4) / 20, abs=2e-3)


def test_a_window_is_the_surface_of_its_part():
    mesh = shape().render(ball(0.7), 40, window=(0.0, -0.5, -0.5, 1.0, 0.5, 0.5))
    assert mesh.bounds[0] == pytest.approx([0, -0.5, -0.5], abs=0.02)
    on_sphere = np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.7) < 5e-3
    on_border = (np.abs(np.abs(mesh.vertices[:, 1:]) - 0.5) < 0.02).any(1) | (mesh.vertices[:, 0] < 0.02)
    assert (on_sphere | on_border).all() and on_sphere.mean() > 0.2


@pytest.mark.parametrize("ending", ["glb", "ply", "obj", "stl", "png", "jpg", "webp", "gif"])
def test_every_format_is_written(tmp_path, ending):
    shape().render(ball(0.7), 16).save(tmp_path / f"ball.{ending}")
    assert (tmp_path / f"ball.{ending}").stat().st_size > 100


def test_nothing_above_the_threshold_is_said_and_no_crash(tmp_path):
    domain = shape()
    empty = domain.render(lambda points: torch.full((len(points), 1), -5.0), 16)
    assert len(empty.faces) == 0
    with pytest.raises(Empty, match="nothing"):
        empty.save(tmp_path / "nothing.glb")
    empty.save(tmp_path / "nothing.png")  # an image that says so
    assert not (tmp_path / "nothing.glb").exists() and (tmp_path / "nothing.png").exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"resolution": 9}, "domain.resolution"),
        ({"cloud": 0}, "domain.cloud"),
        ({"near": 1.5}, "domain.near"),
        ({"threshold": 1.0}, "domain.threshold"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, named):
    with pytest.raises(UserError, match=named):
        shape(**settings)


def test_settings_go_through_json():
    domain = shape(near=0.3)
    assert from_dict(to_dict(domain), Domain, "domain") == domain


def test_no_data_is_said():
    with pytest.raises(UserError, match="--data is missing"):
        tiny.dataset(shape(source="folder"), None, "train")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Both stages of a few steps on furniture."""
    folder = tmp_path_factory.mktemp("shapes") / "run"
    config = tiny.config(shape(pieces=12))
    config = replace(config, diffusion=replace(config.diffusion, condition="class"))
    assert train(config, folder)
    return folder


def test_it_trains_and_a_sample_is_a_function_of_space(run, tmp_path):
    pipe = DDMIPipeline.from_pretrained(run)
    one, two = pipe(2, seed=3, label="chair")
    at = torch.rand(50, 3) * 2 - 1
    assert one(at).shape == (50, 1) and torch.equal(one(at), one(at)) and not torch.equal(one(at), two(at))
    assert torch.allclose(one(at.flip(0)).flip(0), one(at), atol=1e-5)
    alone = pipe(1, seed=3, first=1, label="chair")[0]
    assert torch.allclose(alone(at), two(at), atol=1e-4)
    one.save(tmp_path / "one.safetensors")
    assert torch.equal(Field.load(tmp_path / "one.safetensors")(at), one(at))
    moved = at.clone().requires_grad_()
    one(moved).sum().backward()
    assert moved.grad is not None and moved.grad.abs().max() > 0


def test_planes_stay_with_their_names_from_encoder_to_decoder(run):
    """A latent that went through packing decodes as one that did not."""
    from ddmi.base.planes import pack, unpack

    pipe = DDMIPipeline.from_pretrained(run)
    z = pipe.autoencoder.encode(tiny.dataset(pipe.config.domain, None, "test").inputs([0])).mode
    at = torch.rand(1, 50, 3) * 2 - 1
    again = unpack(pack(z, pipe.autoencoder.layout), pipe.autoencoder.layout)
    assert torch.equal(pipe.autoencoder.decode(z)(at), pipe.autoencoder.decode(again)(at))
    swapped = {"xy": z["yz"], "yz": z["xy"], "xz": z["xz"]}
    assert not torch.allclose(pipe.autoencoder.decode(swapped)(at), pipe.autoencoder.decode(z)(at))


def test_a_cloud_of_nonsense_is_refused(run):
    pipe = DDMIPipeline.from_pretrained(run)
    with pytest.raises(UserError, match="NaN"):
        pipe.encode(torch.full((40, 3), math.nan))


def test_pieces_made_by_rule_stand_beside_a_folder(tmp_path):
    """`both` is the pieces and what the folder has; a single mesh, to be encoded, stays alone."""
    from ddmi.data.furniture import Furniture

    Furniture(1).mesh(0).export(tmp_path / "one.ply")
    folder = tmp_path / "shapes" / "cube"
    folder.mkdir(parents=True)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 3)).astype(np.float32)
    np.savez(folder / "pointcloud.npz", points=points, normals=np.tile(np.float32([0, 1, 0]), (400, 1)))
    np.savez(folder / "points.npz", points=points, occupancies=np.abs(points).max(axis=1) < 0.3)
    domain = shape(source="both", pieces=5)
    dataset = tiny.dataset(domain, tmp_path / "shapes", "all")
    assert dataset.domain == domain and dataset.names == [*Furniture(5).names, "cube"]
    assert len(tiny.dataset(domain, tmp_path / "one.ply", "all")) == 1
    with pytest.raises(UserError, match="--data is missing"):
        tiny.dataset(domain, None, "train")


def test_every_file_of_prepared_shapes_is_read_once(tmp_path, monkeypatch):
    """By both parts of the data and by all batches."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 3)).astype(np.float32)
    for name in "abcd":
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "pointcloud.npz", points=points, normals=np.tile(np.float32([0, 1, 0]), (400, 1)))
        np.savez(tmp_path / name / "points.npz", points=points, occupancies=np.abs(points).max(axis=1) < 0.3)
    opened, plain = Counter(), np.load
    monkeypatch.setattr(np, "load", lambda path, **how: opened.update([path]) or plain(path, **how))
    domain = shape(cloud=50, points=20)
    source = domain.open(tmp_path)
    for part in ("train", "test"):
        data = domain.dataset(source, part)
        everything = range(len(data))
        data.inputs(everything)
        data.batch(everything, torch.Generator(), everything)
    assert opened == dict.fromkeys(tmp_path.rglob("*.npz"), 1)
