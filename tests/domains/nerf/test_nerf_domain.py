"""The NeRF domain: rays out of photographs, what a ray is scored by, and what is drawn of a field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.domains.nerf import Nerf, RadianceHead, ViewDataset, harmonics
from ddmi.domains.nerf.dataset import RayBatch
from ddmi.domains.nerf.field_view import SURFACE, occupancy, turned
from ddmi.domains.nerf.posed import Views
from ddmi.model.encoders.image import ConvEncoderConfig
from ddmi.model.encoders.points import PointEncoderConfig
from ddmi.model.signal import Signal
from ddmi.rendering.cameras import Camera

ENCODE = PointEncoderConfig(
    width=8, blocks=2, features=8, planes=ConvEncoderConfig(base=8, multipliers=(1, 2), blocks=1, middle=1)
)


def nerf(**settings: Any) -> Nerf:
    return Nerf(**{"resolution": 16, "rays": 48, "shown": 3, "samples": 16, "cloud": 50, "encode": ENCODE, **settings})


RADIUS, COLOUR = 0.6, (0.8, 0.2, 0.1)


def ball(coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
    """A hard ball of one colour."""
    density = 200.0 * (coordinates.norm(dim=-1, keepdim=True) < RADIUS)
    return torch.cat([coordinates.new_tensor(COLOUR).expand(*coordinates.shape[:-1], 3), density], dim=-1)


class Balls:
    """Photographs of a ball on white, exact at the middle of every pixel."""

    def __init__(self, count: int = 3, views: int = 5, size: int = 24) -> None:
        self.names = [f"ball{i}" for i in range(count)]
        self.groups = [[i] for i in range(count)]
        self.parts: list[str] | None = ["train"] * (count - 1) + ["test"]
        self.captions = [[f"a ball {i}", f"ball number {i}"] for i in range(count)]
        self.labels: list[int] | None = None
        self.classes: list[str] = []
        self.bad: list[tuple[str, str]] = []
        self.counts = [views] * count
        self.placed = [Camera.orbit(70 * k, 10 * k, size=size) for k in range(views)]

    def cameras(self, index: int) -> Views:
        return Views(
            poses=torch.stack([camera.pose for camera in self.placed]).double().numpy(),
            focal=np.array([camera.focal for camera in self.placed]),
            centre=np.array([camera.middle for camera in self.placed]),
            size=self.placed[0].size,
        )

    def images(self, index: int, which: Sequence[int]) -> np.ndarray:
        found = []
        for view in which:
            origins, directions = self.placed[view].rays()
            nearest = torch.linalg.cross(origins, directions).norm(dim=1)  # of the ray to the middle
            picture = torch.where((nearest < RADIUS)[:, None], torch.tensor(COLOUR), torch.ones(3))
            found.append((255 * picture).round().byte().reshape(*self.placed[view].size, 3).numpy())
        return np.stack(found)

    def cloud(self, index: int, count: int, rng: np.random.Generator) -> np.ndarray:
        points = rng.standard_normal((count, 3))
        points *= RADIUS / np.linalg.norm(points, axis=1, keepdims=True)
        return np.concatenate([points, np.tile(2 * np.array(COLOUR) - 1, (count, 1))], axis=1).astype(np.float32)


def test_rays_have_the_colours_of_what_they_hit() -> None:
    data = ViewDataset(nerf(rays=300, focus=0.5), Balls(), "train")
    batch = data.batch([0, 1], torch.Generator(), [3, 4])
    torch.testing.assert_close(batch.directions.norm(dim=2), torch.ones(2, 300))
    hit = torch.linalg.cross(batch.origins, batch.directions).norm(dim=2) < RADIUS
    want = torch.where(hit[..., None], (255 * torch.tensor(COLOUR)).round() / 255, torch.ones(3))
    torch.testing.assert_close(batch.colours, want)
    assert 0.5 < float(hit.float().mean()) < 0.9  # half are aimed, some others hit as well
    assert len({tuple(origin) for origin in batch.origins[0].tolist()}) == 3  # `shown` views
    assert not torch.equal(batch.origins[0], batch.origins[1])
    again = data.batch([1], torch.Generator(), [4])
    assert torch.equal(again.origins[0], batch.origins[1]) and torch.equal(again.x[0], batch.x[1])


def test_a_cloud_is_noisy_in_place_and_true_in_colour() -> None:
    data = ViewDataset(nerf(noise=0.01, cloud=2000), Balls(), "all")
    x = data.inputs([2])
    assert x.shape == (1, 2000, 6)
    off = x[0, :, :3].norm(dim=1) - RADIUS
    assert 0.008 < float(off.std()) < 0.012
    torch.testing.assert_close(x[0, :, 3:], (2 * torch.tensor(COLOUR) - 1).expand(2000, 3))
    assert torch.equal(x, data.inputs([2]))


class Ball(Signal):
    """The ball as a signal of a batch."""

    def __init__(self, radius: float = RADIUS) -> None:
        object.__setattr__(self, "radius", radius)

    def __call__(self, coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
        return ball(coordinates * RADIUS / self.radius)


def test_the_truth_scores_best_and_a_wrong_ball_as_its_area_says() -> None:
    domain = nerf(rays=1500, samples=256, focus=0.0)
    batch = ViewDataset(domain, Balls(), "train").batch([0], torch.Generator(), [1])
    right = float(domain.likelihood(Ball(), batch).loss)
    wrong = float(domain.likelihood(Ball(0.3), batch).loss)
    assert right < 0.01
    between = torch.linalg.cross(batch.origins, batch.directions).norm(dim=2)
    share = float(((between < RADIUS) & (between > 0.3)).float().mean())
    assert wrong == pytest.approx(share * np.mean([1 - c for c in COLOUR]), abs=0.01)


def test_the_samples_of_an_object_are_its_own_whatever_is_beside_it() -> None:
    domain = nerf()
    data = ViewDataset(domain, Balls(), "train")
    pair, alone = data.batch([0, 1], torch.Generator(), [7, 8]), data.batch([1], torch.Generator(), [8])

    asked: list[Tensor] = []

    class Listening(Ball):
        def __call__(self, coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
            asked.append(coordinates)
            return ball(coordinates)

    domain.likelihood(Listening(), pair)
    domain.likelihood(Listening(), alone)
    assert torch.equal(asked[0][1], asked[1][0])
    domain.likelihood(Listening(), replace(pair, seeds=(9, 8)))  # the same rays
    assert torch.equal(asked[2][1], asked[0][1]) and not torch.allclose(asked[2][0], asked[0][0], atol=1e-3)


@pytest.mark.parametrize("background", [0.0, 0.25, 1.0])
def test_where_there_is_nothing_the_background_is_scored(background: float) -> None:
    domain = nerf(background=background)
    batch = ViewDataset(nerf(), Balls(), "train").batch([0], torch.Generator(), [1])
    loss = float(domain.likelihood(Ball(1e-6), batch).loss)
    assert loss == pytest.approx(float((batch.colours - background).abs().mean()), abs=1e-6)


def test_a_new_head_is_half_transparent_across_the_cube_and_grey() -> None:
    torch.manual_seed(0)
    head = RadianceHead(8, opening=0.5)
    torch.nn.init.zeros_(head.density.weight)
    out = head(torch.randn(2, 5, 8), torch.tensor([[[0.0, 0.0, -1.0]]]).expand(1, 5, 3))
    assert out.shape == (2, 5, 4)
    torch.testing.assert_close(torch.exp(-2 * out[..., 3]), torch.full((2, 5), 0.5))
    assert bool(((out[..., :3] > 0.1) & (out[..., :3] < 0.9)).all())


def test_the_density_does_not_depend_on_the_direction_and_the_colour_does() -> None:
    torch.manual_seed(0)
    head, features = RadianceHead(8, 0.5), torch.randn(1, 4, 8)
    one, two = (head(features, torch.tensor([[d]]).expand(1, 4, 3)) for d in ([0.0, 0.0, -1.0], [0.0, 1.0, 0.0]))
    assert torch.equal(one[..., 3], two[..., 3]) and not torch.allclose(one[..., :3], two[..., :3])
    assert torch.equal(one, head(features))  # without a direction: from the front


def test_the_harmonics_are_orthonormal_over_the_sphere() -> None:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3), dim=1)
    found = harmonics(directions)
    torch.testing.assert_close(found.T @ found / len(found), torch.eye(9), atol=0.02, rtol=0)


def test_a_picture_shows_the_ball_where_it_is() -> None:
    view = nerf().render(ball, 48)
    pixels = np.asarray(view.image).astype(int)
    camera = Camera.orbit(35, 20, size=48)
    origins, directions = camera.rays()
    distance = torch.linalg.cross(origins, directions).norm(dim=1).reshape(48, 48)
    inside, outside = (distance < RADIUS - 0.06).numpy(), (distance > RADIUS + 0.06).numpy()
    assert np.abs(pixels[inside] - np.round(255 * np.array(COLOUR))).max() <= 2
    assert (pixels[outside] == 255).all()
    middle = float(view.view.depth[24, 24])
    assert middle == pytest.approx(float(origins[0].norm()) - RADIUS, abs=0.05)
    depth = np.asarray(view.depth)
    assert depth[24, 24, 0] < depth[24, 24 - 9, 0] < 255  # the middle is nearest


def test_a_window_is_a_part_of_the_picture() -> None:
    whole = np.asarray(nerf().render(ball, 32).image)
    part = np.asarray(nerf().render(ball, 16, window=(0.0, -1.0, 1.0, 0.0)).image)
    assert tiny.alike(part, whole[:16, 16:])


def test_a_turntable_goes_round_once_at_one_height() -> None:
    camera = Camera.orbit(35, 20, size=8)
    quarter = turned(camera, math.pi / 2)
    torch.testing.assert_close(quarter.pose.float(), Camera.orbit(125, 20, size=8).pose.float(), atol=1e-5, rtol=1e-5)
    clip = nerf().render(ball, 8).turntable(6)
    assert len(clip) == 6 and clip.size == (8, 8)
    assert np.array_equal(clip[0], np.asarray(nerf().render(ball, 8).image))


def test_a_mesh_has_the_surface_and_the_colours_of_the_field() -> None:
    def soft(coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
        density = (SURFACE + 100 * (RADIUS - coordinates.norm(dim=-1, keepdim=True))).clamp(min=0)
        return torch.cat([ball(coordinates)[..., :3], density], dim=-1)

    mesh = nerf().render(soft, 64).mesh(64)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(int)  # type: ignore[union-attr]
    assert np.abs(colours - np.round(255 * np.array(COLOUR))).max() <= 1


def test_space_is_searched_once_for_a_field() -> None:
    def field(coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
        return ball(coordinates)

    assert occupancy(field) is occupancy(field)
    assert occupancy(field).share < 0.3


@pytest.mark.parametrize("ending", [".png", ".gif", ".glb"])
def test_everything_is_written_by_its_ending(ending: str, tmp_path: Any) -> None:
    path = tmp_path / f"ball{ending}"
    nerf().render(ball, 16).save(path)
    assert path.stat().st_size > 100


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"view": (0.0, 100.0)}, "AZIMUTH,ELEVATION"),
        ({"view": (0.0,)}, "AZIMUTH,ELEVATION"),
        ({"window": (0.0, 0.0, 2.0, 1.0)}, "window"),
    ],
)
def test_bad_renderings_are_refused_before_any_work(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        nerf().render(ball, 8, **options)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"resolution": 15}, "resolution"),
        ({"rays": 0}, "rays"),
        ({"focus": 2.0}, "focus"),
        ({"opening": 1.0}, "opening"),
        ({"source": "furniture", "background": 0.0}, "background"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=f"domain.{named}"):
        nerf(**settings)


def test_a_small_model_learns_the_ball() -> None:
    """The whole path, gradients included: some steps bring the loss well below that of a field that is not trained."""
    from ddmi.config import Config
    from ddmi.model.autoencoder import AutoencoderConfig
    from ddmi.model.decoder import DecoderConfig, Level
    from ddmi.model.readout import ReadoutConfig
    from ddmi.training.objectives import AutoencoderObjective

    torch.manual_seed(0)
    domain = nerf(rays=128, samples=16)
    levels = (Level(multiplier=1), Level(multiplier=1, enlarge=2))
    config = Config(
        name="ball",
        domain=domain,
        autoencoder=AutoencoderConfig(
            latent_channels=2,
            decoder=DecoderConfig(base=8, levels=levels, blocks=1, middle=1, field_width=8, head_width=8),
            readout=ReadoutConfig(width=16, blocks=2, scale_injection=False),
        ),
    )
    objective = AutoencoderObjective(config)
    data = ViewDataset(domain, Balls(), "train")
    optimiser = torch.optim.Adam(objective.parameters(), 1e-2)
    losses = []
    for step in range(60):
        batch: RayBatch = data.batch([0, 1], torch.Generator(), [2 * step, 2 * step + 1])
        terms = objective(batch, 0.5)
        losses.append(float(terms["reconstruction"].detach()))
        optimiser.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:3])
