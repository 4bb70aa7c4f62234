"""Pictures as signals: targets stand exactly at their coordinates, subsets are unbiased, nothing is padded."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
import tiny
import torch
from PIL import Image as Pictures

from ddmi.base.coordinates import axis, grid
from ddmi.base.errors import UserError
from ddmi.domains.base import PixelBatch
from ddmi.domains.image import Image, ImageDataset
from ddmi.model.signal import Signal
from ddmi.rendering import files


class Function(Signal):
    """A signal that is any function of (coordinates, periods)."""

    def __init__(self, function):
        object.__setattr__(self, "function", function)

    def __call__(self, coordinates, periods=None, extras=None):
        return self.function(coordinates, periods)


class Ramp:
    """A drawing exact at any size: red is x, green is y, blue tells the pictures apart."""

    captions, labels, classes = None, None, []

    def __init__(self, count=4, smallest=None, groups=None):
        self.names = [f"{k:03d}" for k in range(count)]
        self.groups = groups or [[k] for k in range(count)]
        self.smallest = smallest
        self.parts = ["train"] * count

    def read(self, index, size):
        x, y = np.meshgrid(axis(size).numpy(), axis(size).numpy())
        blue = np.full((size, size), 2 * index / 255 - 1)
        return np.round((np.stack([x, y, blue], axis=2) + 1) * 127.5).astype(np.uint8)


def batch_of(domain, source=None, indices=(0, 1, 2), seed=0, seeds=(11, 12, 13)):
    dataset = ImageDataset(domain, source or Ramp(), "train")
    return dataset.batch(list(indices), torch.Generator().manual_seed(seed), list(seeds))


SETTINGS = [{"points": 16}, {"points": 0}, {"points": 16, "sampling": "patch"}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_target_is_the_signal_at_its_coordinate(settings):
    """At every scale, to half a grey level."""
    periods = set()
    for seed in range(12):
        batch = batch_of(tiny.image(**settings), seed=seed)
        assert (batch.targets[..., :2] - batch.coordinates).abs().max() < 1.01 / 255
        periods.add(round(float(batch.periods), 6))
    assert periods == {1.0, round(8 / 12, 6), 0.5}


@pytest.mark.parametrize("settings", SETTINGS)
def test_coordinates_are_cell_centres_of_the_target(settings):
    for seed in range(6):
        batch = batch_of(tiny.image(**settings), seed=seed)
        size = round(8 / float(batch.periods))
        cells = ((batch.coordinates + 1) * size - 1) / 2
        assert torch.allclose(cells, cells.round(), atol=1e-4)
        assert 0 <= cells.round().min() <= cells.round().max() <= size - 1


def test_scattered_points_reach_the_whole_frame_and_patches_are_squares():
    many = batch_of(tiny.image(scales=(1.0,), points=64), indices=[0] * 20, seeds=range(20))
    assert len(torch.unique(many.coordinates.flatten(0, 1), dim=0)) == 64
    assert many.patch is None
    patch = batch_of(tiny.image(points=16, sampling="patch"))
    assert patch.patch == (4, 4)
    steps = patch.coordinates.unflatten(1, (4, 4)).diff(dim=2)
    assert torch.allclose(steps[..., 0], 2 * patch.periods / 8, atol=1e-6) and float(steps[..., 1].abs().max()) < 1e-6
    whole = batch_of(tiny.image(scales=(1.0,), points=0))
    assert whole.patch == (8, 8) and torch.allclose(whole.coordinates[0], grid((8, 8)), atol=1e-6)


def test_a_picture_sees_the_same_points_in_any_company():
    domain = tiny.image()
    together, alone = batch_of(domain), batch_of(domain, indices=[1], seeds=[12])
    assert torch.equal(together.coordinates[1:2], alone.coordinates) and torch.equal(
        together.targets[1:2], alone.targets
    )
    assert torch.equal(together.x[1:2], alone.x)


def test_the_encoder_sees_the_whole_picture_at_its_resolution():
    batch = batch_of(tiny.image())
    assert batch.x.shape == (3, 3, 8, 8)
    assert (batch.x[0, 0] - axis(8)[None, :]).abs().max() < 1.01 / 255  # red is x: along the width
    assert (batch.x[0, 1] - axis(8)[:, None]).abs().max() < 1.01 / 255


def test_files_are_ramps_too(tmp_path):
    """The same through a real file: shrunk from 32 pixels by an antialiased filter, away from the border."""
    x, y = np.meshgrid(axis(32).numpy(), axis(32).numpy())
    pixels = np.round((np.stack([x, y, 0 * x], axis=2) + 1) * 127.5).astype(np.uint8)
    Pictures.fromarray(pixels).save(tmp_path / "ramp.png")
    dataset = tiny.dataset(tiny.image(points=64), tmp_path / "ramp.png", "all")
    for seed in range(4):
        batch = dataset.batch([0], torch.Generator().manual_seed(seed), [seed])
        inside = batch.coordinates.abs().amax(dim=2) < 0.6
        assert (batch.targets[..., :2] - batch.coordinates)[inside].abs().max() < 0.02


@pytest.mark.parametrize("sampling, points", [("points", 16), ("patch", 16)])
def test_a_subset_of_pixels_estimates_the_whole(sampling, points):
    """Eq. 9 is an expectation over coordinates: scattered points give it without bias; patches nearly so."""
    domain = tiny.image(scales=(1.0,), points=points, sampling=sampling)

    signal = Function(lambda at, periods: at.prod(dim=2, keepdim=True).expand(-1, -1, 3))
    whole = ImageDataset(tiny.image(scales=(1.0,), points=0), Ramp(), "train")
    exact = float(domain.likelihood(signal, whole.batch([2], torch.Generator(), [0])).loss)
    dataset = ImageDataset(domain, Ramp(), "train")
    losses = [float(domain.likelihood(signal, dataset.batch([2], torch.Generator(), [s])).loss) for s in range(400)]
    error = np.std(losses) / np.sqrt(len(losses))
    if sampling == "points":
        assert abs(np.mean(losses) - exact) < 3.5 * error
    else:  # windows that lie inside the frame show its rim less often
        assert abs(np.mean(losses) - exact) < 0.3 * exact


def test_the_score_shows_pictures_where_there_are_any():
    domain = tiny.image(points=16, sampling="patch")
    batch = batch_of(domain)
    score = domain.likelihood(Function(lambda at, periods: torch.cat([at, at[..., :1] * 0], dim=2)), batch)
    assert score.prediction.shape == score.target.shape == (3, 3, 4, 4)
    assert (score.prediction[:, :2] - score.target[:, :2]).abs().max() < 1.01 / 255
    assert float(score.loss) == pytest.approx(float((score.prediction - score.target).abs().mean()))
    scattered = Function(lambda at, periods: at.sum(2, keepdim=True).expand(-1, -1, 3))
    assert tiny.image().likelihood(scattered, batch_of(tiny.image())).prediction is None


def test_scales_beyond_the_source_are_left_out_with_one_warning(caplog):
    """Never padded, never enlarged for a target."""
    caplog.set_level(logging.WARNING)
    source = Ramp(smallest=12)
    domain = tiny.image().fitted(source)
    assert domain.sizes == [8, 12]
    assert len(caplog.records) == 1 and "without the scales [2.0]" in caplog.text
    assert {float(batch_of(domain, source, seed=s).periods) for s in range(20)} <= {
        1.0,
        np.float32(8 / 12).item(),
    }


def test_a_source_below_the_resolution_is_enlarged_and_says_so(caplog):
    assert tiny.image().fitted(Ramp(smallest=6)).sizes == [8] and "enlarged" in caplog.text


def test_an_epoch_shows_each_subject_once():
    source = Ramp(6, groups=[[0, 1, 2], [3], [4, 5]])
    dataset = ImageDataset(tiny.image(), source, "train")
    numbers = torch.Generator().manual_seed(0)
    counts = Counter()
    for _ in range(600):
        epoch = dataset.epoch(numbers)
        assert sorted(min(g[0] for g in source.groups if i in g) for i in epoch) == [0, 3, 4]
        counts.update(epoch)
    assert counts[3] == 600
    assert all(150 < counts[i] < 250 for i in (0, 1, 2)) and all(250 < counts[i] < 350 for i in (4, 5))


def test_mirrored_pictures_are_items_of_their_own():
    class Named(Ramp):
        captions = list("abcd")  # noqa: RUF012

    plain, both = (ImageDataset(tiny.image(flip=flip), Named(), "train") for flip in (False, True))
    assert len(plain) == 4 and len(both) == 8
    assert np.array_equal(both.pixels(5, 8), plain.pixels(1, 8)[:, ::-1])
    assert both.captions == ["a", "b", "c", "d"] * 2
    epochs = [both.epoch(torch.Generator().manual_seed(s)) for s in range(200)]
    assert all(sorted(i % 4 for i in epoch) == [0, 1, 2, 3] for epoch in epochs)
    mirrored = sum(i >= 4 for epoch in epochs for i in epoch) / 800
    assert 0.4 < mirrored < 0.6
    batch = both.batch([5], torch.Generator(), [0])
    assert (batch.targets[..., 0] + batch.coordinates[..., 0]).abs().max() < 1.01 / 255  # red is now -x


def test_parts_do_not_share_pictures(pictures):
    train, test = (tiny.dataset(tiny.image(held_out=0.3), pictures, part) for part in ("train", "test"))
    assert len(train) and len(test) and not set(train.names) & set(test.names)
    assert len(train) + len(test) == len(tiny.dataset(tiny.image(), pictures, "all")) == 12


def test_the_sampling_period_of_a_rendering():
    domain, whole = tiny.image(), (-1.0, -1.0, 1.0, 1.0)
    assert domain.period((8, 8), whole) == 1.0
    assert domain.period((16, 16), whole) == 0.5
    assert domain.period((8, 16), whole) == pytest.approx(0.5**0.5)
    assert domain.period((8, 8), (0.0, 0.0, 1.0, 1.0)) == 0.5
    assert domain.period((400, 400), whole) == 0.5 and domain.period((2, 2), whole) == 1.0  # kept in the trained range


def test_a_picture_has_x_to_the_right_and_y_down():
    def field(coordinates, periods):
        return torch.cat([coordinates, torch.zeros(len(coordinates), 1)], dim=1)

    drawn = np.array(tiny.image().render(field, (4, 6)))
    assert drawn.shape == (4, 6, 3)
    assert (np.diff(drawn[:, :, 0].astype(int), axis=1) > 0).all() and (
        np.diff(drawn[:, :, 1].astype(int), axis=0) > 0
    ).all()


def test_values_are_clamped_only_in_the_picture():
    drawn = np.array(tiny.image().render(lambda at, periods: torch.full((len(at), 3), 9.0), 2))
    assert (drawn == 255).all()


def test_sheets_and_formats(tmp_path):
    image = Pictures.new("RGB", (6, 4), "red")
    files.save(image, tmp_path / "one.png")
    assert Pictures.open(tmp_path / "one.png").size == (6, 4)
    files.save_sheet([image] * 5, tmp_path / "sheet.png")
    assert Pictures.open(tmp_path / "sheet.png").size == (3 * 8 - 2, 2 * 6 - 2)
    with pytest.raises(UserError, match=r"\.xyz is no image format"):
        files.save(image, tmp_path / "one.xyz")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"resolution": 9}, "must be a multiple of 2 and at least 4, not 9"),
        ({"resolution": 2}, "at least 4, not 2"),
        ({"scales": (0.5, 1.0)}, "domain.scales must be numbers of at least 1"),
        ({"scales": ()}, "domain.scales"),
        ({"points": 65}, "from 0 .all. to 64, not 65"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        tiny.image(**settings)


def test_missing_data_is_named(tmp_path):
    with pytest.raises(UserError, match="--data is missing"):
        tiny.dataset(tiny.image(), None, "train")
    with pytest.raises(UserError, match="no images in"):
        tiny.dataset(tiny.image(), tmp_path, "train")


def test_the_layout_is_the_encoders_size():
    (plane,) = Image(resolution=32).layout
    assert plane.size == (8, 8) and plane.axes == (0, 1)
    encoder = tiny.image().encoder()
    assert encoder(torch.zeros(2, 3, 8, 8))["xy"].shape == (2, encoder.width, 4, 4)
    with pytest.raises(UserError, match=r"images of shape \(3, 8, 8\), not \(3, 8, 10\)"):
        encoder(torch.zeros(1, 3, 8, 10))


def test_a_batch_moves_whole():
    batch = batch_of(tiny.image()).to("meta")
    assert isinstance(batch, PixelBatch) and batch.x.device.type == batch.targets.device.type == "meta"
    assert batch.seeds == (11, 12, 13)


@pytest.mark.parametrize("settings", SETTINGS)
def test_reduced_planes_are_scored_against_an_equally_reduced_picture(settings):
    """The mean of the pixels that a coarse pixel covers, at its centre, at the period of a picture of that size."""
    domain, seen = tiny.image(resolution=16, equivariance=1.0, **settings), set()
    for seed in range(8):
        batch = batch_of(domain, seed=seed)
        side = round(16 * batch.shrink)
        coarse = batch.x.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean(dim=(3, 5))  # (b, 3, side, side)
        x, y = ((batch.coordinates + 1) * side / 2 - 0.5).unbind(2)
        assert torch.allclose(x, x.round(), atol=1e-4) and torch.allclose(y, y.round(), atol=1e-4)
        rows = torch.arange(3)[:, None]
        assert torch.allclose(batch.targets, coarse[rows, :, y.round().long(), x.round().long()], atol=1e-5)
        assert batch.periods.tolist() == [1.0]
        seen.add(batch.shrink)
    assert seen == {0.5, 0.25}


def test_a_share_of_the_steps_is_equivariant():
    domain = tiny.image(resolution=16, equivariance=0.3)
    share = sum(batch_of(domain, seed=seed).shrink < 1 for seed in range(200)) / 200
    assert 0.2 < share < 0.4  # three standard deviations
    assert all(batch_of(tiny.image(resolution=16), seed=seed).shrink == 1 for seed in range(8))
