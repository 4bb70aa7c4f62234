"""The video domain: layout, batches at every size and frame rate, rendering, and the toy training through the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.domains.video import Video, VideoDataset
from ddmi.model.encoders.video import VideoEncoderConfig
from ddmi.model.signal import Signal

ENCODE = VideoEncoderConfig(patch=4, width=16, blocks=1, head_width=8, plane_width=16, plane_blocks=1)


def video(**settings: Any) -> Video:
    base: dict[str, Any] = {"size": (8, 12), "frames": 4, "points": 64, "depth": 2, "encode": ENCODE}
    return Video(**{**base, **settings})


class Ramps:
    """Clips whose value is known everywhere: red runs along x, green along y, blue is the number of the frame."""

    exact = False

    def __init__(self, sizes: Sequence[tuple[int, int]] = ((16, 24),), length: int = 40) -> None:
        count = len(sizes)
        self.names = [f"ramp{i}" for i in range(count)]
        self.groups = [[i] for i in range(count)]
        self.parts: list[str] | None = ["train"] * (count - 1) + ["test"] if count > 1 else None
        self.captions: list[str] | None = None
        self.labels: list[int] | None = None
        self.classes: list[str] = []
        self.lengths, self.sizes, self.rates = [length] * count, list(sizes), [30.0] * count
        self.bad: list[tuple[str, str]] = []
        self.asked: list[tuple[int, ...]] = []

    def read(self, index: int, frames: Sequence[int], short: int) -> np.ndarray:
        high, wide = self.sizes[index]
        shrink = min(1.0, short / min(high, wide))
        high, wide = round(high * shrink), round(wide * shrink)
        self.asked.append(tuple(frames))
        found = np.zeros((len(frames), high, wide, 3), np.uint8)
        found[..., 0] = np.round(255 * (np.arange(wide) + 0.5) / wide)
        found[..., 1] = np.round(255 * (np.arange(high) + 0.5) / high)[:, None]
        found[..., 2] = np.array(frames)[:, None, None]
        return found


def expected(coordinates: Tensor, first: Tensor, domain: Video) -> Tensor:
    """What a ramp has at coordinates of a window whose first frame that the encoder sees has this number."""
    frame = ((coordinates[..., 2] + 1) * domain.frames - 1) / 2 * domain.stride + first
    return torch.stack([coordinates[..., 0], coordinates[..., 1], frame / 127.5 - 1], dim=-1)


def test_the_planes_keep_their_own_sizes_and_time_does_not_grow() -> None:
    planes = {plane.name: plane for plane in video(size=(8, 12), frames=5).layout}
    assert planes["xy"].shape == (2, 3)
    assert planes["yt"].shape == (5, 2)  # y along the width, t along the height
    assert planes["xt"].shape == (5, 3)
    assert [planes[name].growth for name in ("xy", "yt", "xt")] == [(True, True), (False, True), (False, True)]
    joined = video(size=(8, 12), frames=4, encode=replace(ENCODE, tubelet=2)).layout
    assert [plane.shape for plane in joined] == [(2, 3), (2, 2), (2, 3)]
    assert all(plane.growth == (True, True) for plane in joined)


@pytest.mark.parametrize("sampling", ["points", "patch"])
@pytest.mark.parametrize(("scales", "rates"), [((1.0,), (1,)), ((2.0,), (3,)), ((1.0, 2.0), (1, 3))])
def test_targets_are_the_clip_at_their_coordinates(
    sampling: str, scales: tuple[float, ...], rates: tuple[int, ...]
) -> None:
    domain = video(stride=3, scales=scales, rates=rates, sampling=sampling)
    data = VideoDataset(domain, Ramps(), "train")
    seen = set()
    for k in range(6):
        batch = data.batch([0, 0], torch.Generator().manual_seed(k), [2 * k, 2 * k + 1])
        first = (batch.x[:, 2, 0, 0, 0] + 1) * 127.5  # the blue of the encoder's first frame is its number
        want = expected(batch.coordinates, first[:, None], domain)
        assert batch.coordinates.abs().max() <= 1
        tolerance = 0.02 if scales[-1] == 2.0 else 0.2  # shrunk ramps are bent at the border
        middle = (batch.coordinates[..., :2].abs() < 0.7).all(dim=2)
        assert (batch.targets - want)[middle].abs().max() < tolerance
        assert (batch.targets - want)[..., 2].abs().max() < 1e-5
        assert batch.periods is not None
        seen.add((float(1 / batch.periods[0]), round(float(1 / batch.periods[1]))))
    assert seen <= {(scale, rate) for scale in scales for rate in rates}


def test_the_encoder_sees_every_stride_th_frame_at_its_size() -> None:
    data = VideoDataset(video(stride=3), Ramps(), "all")
    x = data.inputs([1])
    assert x.shape == (1, 3, 4, 8, 12)
    start = data.window(1).start
    assert ((x[0, 2, :, 0, 0] + 1) * 127.5).round().tolist() == [start + 1, start + 4, start + 7, start + 10]


def test_frames_at_a_higher_rate_lie_between_those_of_the_encoder() -> None:
    data = VideoDataset(video(stride=2), Ramps(), "all")
    torch.testing.assert_close(data.times(1), torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(data.times(2), torch.tensor([-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(data.truth(0, 1.0, 2)[::2], data.truth(0))
    for stride in range(1, 7):
        for rate in (r for r in range(1, stride + 1) if stride % r == 0):
            data = VideoDataset(video(stride=stride), Ramps(), "all")
            assert set(data.offsets(1)) <= set(data.offsets(rate)) <= set(range(data.domain.span))
            times = data.times(rate)
            assert bool((times.abs() <= 1).all())
            torch.testing.assert_close(times.diff(), torch.full((len(times) - 1,), 2 / 4 / rate))
            kept = [data.offsets(rate).index(k) for k in data.offsets(1)]
            torch.testing.assert_close(times[kept], torch.tensor([-0.75, -0.25, 0.25, 0.75]))


def test_a_batch_reads_no_frame_that_it_does_not_use() -> None:
    source = Ramps()
    data = VideoDataset(video(stride=3, rates=(3,), scales=(2.0,)), source, "all")
    source.asked.clear()
    data.batch([0], torch.Generator(), [5])
    assert sorted(len(frames) for frames in source.asked) == [2, 4]  # `depth` of targets, and those of the encoder


def test_windows_spread_over_a_clip_and_over_the_part_that_is_too_wide() -> None:
    domain = video(stride=2, hop=4, crops=3)
    data = VideoDataset(domain, Ramps([(16, 60), (16, 24)]), "train")
    starts = sorted({w.start for w in data.windows})
    assert starts[0] == 0 and starts[-1] == 40 - domain.span and len(starts) == 9
    assert sorted({w.across for w in data.windows}) == [0.0, 0.5, 1.0] and {w.down for w in data.windows} == {0.5}
    left, _, right = (data.inputs([i])[0, 0, 0, 0] for i in range(3))
    assert left.max() < 0 < right.min()  # of a red that runs from -1 to 1 along the whole width
    held_out = VideoDataset(domain, Ramps([(16, 60), (16, 24)]), "test")
    assert {w.across for w in held_out.windows} == {0.5}
    assert [w.start for w in held_out.windows] == sorted({w.start for w in held_out.windows})
    assert len(set(data.names)) == len(data)


def test_a_mirrored_window_is_the_other_one_from_right_to_left() -> None:
    data = VideoDataset(video(flip=True), Ramps([(16, 24), (16, 24)]), "train")
    half = len(data) // 2
    torch.testing.assert_close(data.inputs([half]), data.inputs([0]).flip(4))
    assert len(VideoDataset(video(flip=True), Ramps([(16, 24), (16, 24)]), "test")) == half


def test_sizes_that_the_clips_are_too_small_for_are_left_out_and_the_rate_is_theirs() -> None:
    allowed = video(scales=(1.0, 1.5, 2.0), stride=2).fitted(Ramps([(12, 24)]))
    assert allowed.scales == (1.0, 1.5)
    assert allowed.fps == 15.0
    small = Ramps([(6, 9)])
    assert VideoDataset(video(scales=(2.0,)).fitted(small), small, "all").inputs([0]).shape == (1, 3, 4, 8, 12)


def wave(coordinates: Tensor, periods: Tensor | None = None) -> Tensor:
    x, y, t = coordinates.unbind(1)
    return torch.stack([x, y, t], dim=1)


def test_a_rendering_asks_the_centres_of_its_own_cells() -> None:
    clip = video(fps=10.0).render(wave, (3, 5), frames=2)
    frames = clip.array()
    assert frames.shape == (2, 3, 5, 3)
    for axis, n in ((0, 5), (1, 3), (2, 2)):
        along = np.moveaxis(frames[..., axis], 2 - axis, 0)[:, 0, 0]
        assert np.abs(along - (2 * np.arange(n) + 1) / n * 127.5).max() <= 0.51


def test_windows_in_space_and_time_are_parts_of_the_whole() -> None:
    domain = video()
    whole = domain.render(wave, (8, 8), frames=8).array()
    part = domain.render(wave, (4, 4), frames=4, window=(0.0, -1.0, 1.0, 0.0), time=(0.0, 1.0)).array()
    assert tiny.alike(part, whole[4:, :4, 4:])


def test_frames_and_rates_keep_the_true_duration_unless_both_are_said() -> None:
    domain = video(fps=10.0)  # 4 frames: 0.4 s
    for asked, count, rate in (
        ({}, 4, 10.0),
        ({"frames": 8}, 8, 20.0),
        ({"fps": 30.0}, 12, 30.0),
        ({"frames": 40, "fps": 10.0}, 40, 10.0),
        ({"fps": 30.0, "time": (-1.0, 0.0)}, 6, 30.0),
        ({"time": (0.0, 1.0)}, 2, 10.0),
    ):
        clip = domain.render(wave, (2, 2), **asked)
        assert (len(clip), clip.fps) == (count, pytest.approx(rate)), asked


def test_one_number_is_the_shorter_side() -> None:
    assert video().render(wave, 16).size == (16, 24)
    assert video().render(wave, 16, window=(-1.0, -1.0, 0.0, 1.0)).size == (21, 16)
    assert video(size=(8, 8)).render(wave, 16).size == (16, 16)


def test_the_sampling_periods_of_a_rendering() -> None:
    domain = video(scales=(1.0, 2.0), stride=4, rates=(1, 4))
    whole = (-1.0, -1.0, 1.0, 1.0)
    assert domain.told((8, 12), whole, 2 / 4).tolist() == [1.0, 1.0]
    assert domain.told((12, 18), whole, 2 / 8).tolist() == pytest.approx([2 / 3, 0.5])
    assert domain.told((800, 1200), whole, 2 / 400).tolist() == [0.5, 0.25]  # no further than it was trained
    assert domain.told((4, 6), (0.0, 0.0, 1.0, 1.0), 2 / 2).tolist() == [1.0, 1.0]


def test_nothing_is_asked_before_a_frame_is() -> None:
    calls = []

    def field(coordinates: Tensor, periods: Tensor | None = None) -> Tensor:
        calls.append(len(coordinates))
        return wave(coordinates)

    clip = video().render(field, (4, 4), frames=1000, fps=25.0)
    assert not calls
    clip[999]
    assert calls == [16]


class Answer(Signal):
    """A signal that answers with where it was asked."""

    def __init__(self) -> None:
        pass

    def __call__(self, coordinates: Tensor, periods: Tensor | None = None, extras: Tensor | None = None) -> Tensor:
        return coordinates


def test_patches_give_frames_to_the_losses_that_look_at_pictures() -> None:
    domain = video(sampling="patch", points=32, depth=2, scales=(2.0,))
    batch = VideoDataset(domain, Ramps(), "all").batch([0, 0], torch.Generator(), [1, 2])
    score = domain.likelihood(Answer(), batch)
    assert float(score.loss) == pytest.approx(float((batch.targets - batch.coordinates).abs().mean()))
    assert score.target is not None and score.target.shape == (4, 3, 4, 4)
    red = score.target[:, 0]
    assert bool((red.diff(dim=2) > 0).all()) and bool((red.diff(dim=1).abs() < 1e-6).all())  # x runs along the width


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"size": (8, 10)}, "domain.size"),
        ({"rates": (1, 2)}, "domain.rates"),
        ({"scales": (0.5,)}, "domain.scales"),
        ({"points": 63}, "domain.points"),
        ({"points": 10_000}, "domain.points"),
        ({"frames": 0}, "domain.frames"),
        ({"encode": replace(ENCODE, tubelet=3)}, "domain.frames"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        video(**settings)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"frames": 0}, "at least 1 frame"),
        ({"fps": 0.0}, "frames a second"),
        ({"time": (0.5, 0.5)}, "a time is two numbers"),
        ({"time": (-2.0, 0.5)}, "a time is two numbers"),
        ({"window": (0.0, 0.0, 2.0, 1.0)}, "window"),
    ],
)
def test_bad_renderings_are_refused_before_any_work(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        video().render(wave, 8, **options)


def test_a_domain_survives_its_data(tmp_path: Any) -> None:
    """What a dataset says about its domain is a domain that can be built again."""
    from ddmi.config import from_dict, to_dict
    from ddmi.domains.base import Domain

    domain = video(stride=2).fitted(Ramps())
    assert from_dict(to_dict(domain), Domain, "domain") == domain
    assert replace(domain, fps=0.0) == video(stride=2)


def test_a_rate_that_no_clip_has_is_refused_before_any_work() -> None:
    with pytest.raises(UserError, match="frames a second"):
        video(fps=12.0).render(wave, 8, frames=1_000_000)


def test_reduced_planes_are_scored_against_an_equally_reduced_clip() -> None:
    seen = set()
    for seed in range(8):
        source = VideoDataset(video(equivariance=1.0), Ramps(), "train")
        made = source.batch([0, 1], torch.Generator().manual_seed(seed), [5, 6])
        sides = [max(1, round(made.shrink * side)) for side in made.x.shape[2:]]
        coarse = torch.nn.functional.interpolate(made.x, sides, mode="area")  # (b, 3, t, h, w)
        scale = torch.tensor(sides[::-1])
        x, y, t = ((made.coordinates + 1) * scale / 2 - 0.5).round().long().unbind(2)
        rows = torch.arange(2)[:, None]
        assert torch.allclose(made.targets, coarse[rows, :, t, y, x], atol=1e-5)
        assert torch.allclose((2 * torch.stack([x, y, t], 2) + 1) / scale - 1, made.coordinates, atol=1e-5)
        seen.add(made.shrink)
    assert seen == {0.5, 0.25}
