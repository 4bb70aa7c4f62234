"""How clips are evaluated: on clips whose every number is known, so that every answer is known too."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from ddmi.base.errors import UserError, missing_extra
from ddmi.domains import gallery
from ddmi.domains.base import Evidence
from ddmi.domains.gallery import Renderings
from ddmi.domains.video import Video, VideoDataset, metrics
from ddmi.domains.video.metrics import VideoMetrics
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.neighbours import nearest
from ddmi.metrics.pixels import CEILING

SIZE, T, STRIDE = (16, 24), 4, 2
DOMAIN = Video(size=SIZE, frames=T, stride=STRIDE, rates=(1, 2), scales=(1.0, 2.0), hop=2)


class Source:
    """Clips in memory, none of them trained on twice; those of the second half are held out."""

    exact = False
    captions = labels = None

    def __init__(self, clips: list[np.ndarray]) -> None:
        self.clips = clips
        self.names = [f"clips/{k}.mp4" for k in range(len(clips))]
        self.groups = [[k] for k in range(len(clips))]
        self.parts = ["train" if 2 * k < len(clips) else "test" for k in range(len(clips))]
        self.classes: list[str] = []
        self.lengths = [len(clip) for clip in clips]
        self.sizes = [clip.shape[1:3] for clip in clips]
        self.rates = [24.0] * len(clips)
        self.bad: list[tuple[str, str]] = []

    def read(self, index, frames, short):
        return self.clips[index][list(frames)]


def grey(levels, size=(2 * SIZE[0], 2 * SIZE[1])) -> np.ndarray:
    """Frames of one grey each."""
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, *size, 3), np.uint8)


def noise(count=8, length=8, seed=0) -> Source:
    """Clips of coloured squares that change at random, by another amount in each."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        still, change = (
            rng.integers(60, 196, (1, 4, 6, 3)),
            rng.integers(-5, 6, (length, 4, 6, 3)) * rng.integers(1, 12),
        )
        clips.append((still + change).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2))
    return Source(clips)


def parts(source, domain=DOMAIN) -> tuple[VideoDataset, VideoDataset]:
    return VideoDataset(domain, source, "train"), VideoDataset(domain, source, "test")


class Exact:
    """The field of a window of grey frames, interpolated nowhere: at any time the nearest frame of the source."""

    def __init__(self, clip, start, off=0.0, stride=STRIDE):
        self.values, self.start, self.off, self.told = clip[:, 0, 0, 0] / 127.5 - 1, start, off, []
        self.stride = stride

    def __call__(self, coordinates, periods=None, extras=None):
        self.told.append((tuple(coordinates[0, :2].tolist()), periods.tolist()))
        frame = ((coordinates[:, 2].double() + 1) * T / 2 - 0.5) * self.stride + (self.stride - 1) // 2
        assert (frame - frame.round()).abs().max() < 1e-4  # the times of frames of the source alone
        value = torch.from_numpy(self.values)[frame.round().long() + self.start]
        return value.float()[:, None].expand(-1, 3) + self.off


class Shown:
    """A field that is constant in the cells of a clip (3, T, h, w)."""

    drawn = 0

    def __init__(self, x):
        self.x = x

    def __call__(self, coordinates, periods=None, extras=None):
        Shown.drawn += 1
        sides = torch.tensor([self.x.shape[3], self.x.shape[2], self.x.shape[1]])
        column, row, frame = ((coordinates + 1) / 2 * sides).long().T
        return self.x[:, frame, row, column].T


def shown(dataset, indices=None) -> list[Shown]:
    return [Shown(x) for x in dataset.inputs(range(len(dataset)) if indices is None else indices)]


def evidence(train, held_out, samples=(), reconstruct=None, **about) -> Evidence:
    return Evidence(train, held_out, reconstruct or (lambda dataset, indices: []), samples, **about)


@pytest.fixture
def network(monkeypatch):
    found = tiny.Features()
    monkeypatch.setattr("ddmi.metrics.features.load", lambda name: found)
    return found


def squares(off=0.0, domain=DOMAIN, made=None):
    """Evidence of two held-out clips whose frame j has the grey j^2, and of fields that are off by so much."""
    source = Source([grey([j**2 for j in range(16)]) for _ in range(4)])
    train, held_out = parts(source, domain)
    fields: dict[int, Exact] = {}

    def reconstruct(dataset, indices):
        assert dataset is held_out and len(indices) <= metrics.FEW
        for i in indices:
            window = dataset.window(i)
            fields[i] = Exact(source.clips[window.clip], window.start, off, domain.stride)
        return [fields[i] for i in indices]

    return evidence(train, held_out, reconstruct=reconstruct), fields


@pytest.mark.parametrize("stride", [3, 4])
def test_what_lies_between_is_all_that_the_encoder_did_not_read(stride):
    """Frames with squares as values: exact where they are read, and a blend of neighbours is too bright by hand."""
    domain = replace(DOMAIN, stride=stride, rates=(1,), scales=(1.0,))
    found = VideoMetrics(domain, squares(domain=domain)[0]).reconstruction()
    assert found["seen"]["psnr"] == pytest.approx(CEILING) and found["left_out"]["psnr"] == pytest.approx(CEILING)
    # between j^2 and (j + s)^2 a blend at j + k is k (s - k) levels too bright: whatever j, the errors are these
    errors = [((k * (stride - k)) / 255) ** 2 for k in range(1, stride)]
    expected = np.mean([-10 * np.log10(error) for error in errors])
    assert found["left_out"]["blend"]["psnr"] == pytest.approx(expected, abs=0.1)


def test_the_truth_reconstructs_the_truth_at_every_size_and_time():
    given, fields = squares()
    found = VideoMetrics(DOMAIN, given).reconstruction()
    assert list(found["scales"]) == ["2x"]
    for part in (found, found["scales"]["2x"]):
        for frames in ("seen", "left_out"):
            assert part[frames]["psnr"] == pytest.approx(CEILING) and part[frames]["ssim"] == pytest.approx(1, abs=1e-3)
            assert part[frames]["psnr_standard_error"] == 0
    assert [one["clip"] for one in found["clips"]] == ["clips/2.mp4", "clips/3.mp4"]
    assert [one["psnr"] for one in found["clips"]] == pytest.approx([CEILING, CEILING])
    windows = len(given.held_out)
    assert found["protocol"]["windows"] == windows and found["protocol"]["clips"] == 2 and windows > 2
    for field in fields.values():  # frames at 1x and 2x, seen and left out, with the periods of each
        told = [periods for _, periods in field.told]
        assert told == [[1, 1]] * 4 + [[1, 0.5]] * 3 + [[0.5, 1]] * 4 + [[0.5, 0.5]] * 3
        corners = torch.tensor([corner for corner, _ in field.told])
        torch.testing.assert_close(corners[0], torch.tensor([1 / SIZE[1] - 1, 1 / SIZE[0] - 1]))
        torch.testing.assert_close(corners[-1], torch.tensor([0.5 / SIZE[1] - 1, 0.5 / SIZE[0] - 1]))


def test_an_error_of_known_size_and_what_needs_no_model():
    """A field 8 levels too bright; frame j of the source has the grey j^2."""
    given, _ = squares(off=8 / 127.5)
    found = VideoMetrics(DOMAIN, given).reconstruction()
    decibels = 20 * math.log10(255 / 8)
    for frames in ("seen", "left_out"):
        assert found[frames]["psnr"] == pytest.approx(decibels, abs=1e-3)
        assert found["scales"]["2x"][frames]["psnr"] == pytest.approx(decibels, abs=1e-3)
    # between two frames the mean of the neighbours, ((j - 1)^2 + (j + 1)^2) / 2, is j^2 + 1
    assert found["left_out"]["blend"]["psnr"] == pytest.approx(20 * math.log10(255), abs=1e-3)
    starts = [given.held_out.window(i).start for i in range(len(given.held_out))]
    assert found["scales"]["2x"]["seen"]["bicubic"]["psnr"] == pytest.approx(CEILING)  # grey stays grey

    def of_time_mean(offsets):
        values = []
        for s in starts:
            mean = round(sum((s + k) ** 2 for k in (0, 2, 4, 6)) / 4)
            errors = [abs((s + k) ** 2 - mean) for k in offsets]
            values.append(sum(20 * math.log10(255 / e) if e else CEILING for e in errors) / len(errors))
        return sum(values) / len(values)

    assert found["seen"]["time_mean"]["psnr"] == pytest.approx(of_time_mean((0, 2, 4, 6)), abs=0.01)
    assert found["left_out"]["time_mean"]["psnr"] == pytest.approx(of_time_mean((1, 3, 5)), abs=0.01)
    assert found["seen"]["time_mean"]["ssim"] < 1 and set(found["seen"]["time_mean"]) == {"psnr", "ssim"}


def test_without_a_stride_nothing_is_left_out_and_the_last_frame_of_a_clip_will_do():
    domain = replace(DOMAIN, stride=1, rates=(1,), scales=(1.0,))
    train, held_out = parts(noise(4, T), domain)
    given = evidence(train, held_out, reconstruct=lambda dataset, indices: shown(dataset, indices))
    found = VideoMetrics(domain, given).reconstruction()
    assert "left_out" not in found and "scales" not in found
    assert CEILING - 0.1 < found["seen"]["psnr"] < CEILING  # all but the rounding of what was shrunk
    domain = replace(DOMAIN, rates=(1,))  # frames after the last that the encoder sees need not exist
    train, held_out = parts(noise(4, 7), domain)
    given = evidence(train, held_out, reconstruct=lambda dataset, indices: shown(dataset, indices))
    assert VideoMetrics(domain, given).reconstruction()["left_out"]["psnr"] > 10


def test_windows_of_one_clip_are_no_independent_ones():
    """Means 1 and 5 of two clips of two windows each: as the standard error of two numbers, |5 - 1| / 2."""
    values = torch.tensor([0.0, 2.0, 4.0, 6.0], dtype=torch.float64)
    error = metrics._clustered_error
    assert error(values, ["a", "a", "b", "b"]) == pytest.approx(2)
    alone = float(values.std()) / 2
    assert error(values, ["a", "b", "c", "d"]) == pytest.approx(alone) == error(values, ["a"] * 4)
    assert error(values[:1], ["a"]) is None


def test_motion_is_the_mean_change_in_levels():
    """Training clips change by 1, ..., 20 levels a frame of the encoder, samples by 30 or not at all."""
    clips = [grey([50 + k * ((j // 2) % 2) for j in range(8)]) for k in range(1, 21)]
    clips += [grey([50 + 42 * ((j // 2) % 2) for j in range(8)]) for _ in range(20)]
    train, held_out = parts(Source(clips))
    samples = [Exact(grey([60 + 30 * ((j // 2) % 2) for j in range(8)]), 0), Exact(grey([60] * 8), 0)]
    found = VideoMetrics(DOMAIN, evidence(train, held_out, samples)).motion()
    training = {"mean": 10.5, "median": 10.5, "percentile_5": 1.95, "percentile_95": 19.05}
    assert found["training"] == pytest.approx(training, abs=1e-3)
    assert found["samples"] == pytest.approx({"mean": 15, "median": 15, "percentile_5": 1.5, "percentile_95": 28.5})
    assert found["ratio"] == pytest.approx(15 / 10.5) and found["held_out_ratio"] == pytest.approx(4)
    assert found["still"] == 0.5 and found["held_out_still"] == 0 and found["ratio_standard_error"] > 0
    assert found["still_standard_error"] == pytest.approx(math.sqrt(0.25 / 2))
    without = VideoMetrics(DOMAIN, evidence(train, held_out)).motion()
    assert without["training"] == found["training"] and "samples" not in without and "ratio" not in without
    assert without["held_out"] == found["held_out"]


def test_still_training_clips_have_no_ratio():
    train, held_out = parts(Source([grey([9] * 8)] * 4))
    found = VideoMetrics(DOMAIN, evidence(train, held_out, shown(train))).motion()
    assert found["training"]["mean"] == 0 and "ratio" not in found and found["still"] == 0


def test_kernel_distances_are_those_of_the_features_of_single_frames(network, monkeypatch):
    monkeypatch.setattr("ddmi.metrics.features.cache.SMALLEST", 1)
    train, held_out = parts(noise(16))
    x = (torch.rand(len(train), 3, T, 4, 6) * 2 - 1).repeat_interleave(4, 3).repeat_interleave(4, 4)
    found = VideoMetrics(DOMAIN, evidence(train, held_out, [Shown(one) for one in x])).distributions()
    real, drawn = ((x * 127.5 + 127.5).round() / 127.5 - 1 for x in (train.inputs(range(len(train))), x))

    def by_hand(a, b):
        with torch.no_grad():
            pairs = [(network(a[:, :, k]), network(b[:, :, k])) for k in range(a.shape[2])]
        return sum(kernel_distance(p, q).mean for p, q in pairs) / len(pairs)  # as many: there is one subset

    assert found["frames"]["kernel_distance"] == pytest.approx(by_hand(real, drawn), rel=1e-3)
    differences = by_hand(real.diff(dim=2) / 2, drawn.diff(dim=2) / 2)
    assert found["differences"]["kernel_distance"] == pytest.approx(differences, rel=1e-3)
    assert found["differences"]["kernel_distance"] > found["differences"]["held_out"]
    assert found["protocol"]["features"] == "tiny-features" and found["protocol"]["frames_a_clip"] == T
    assert found["protocol"]["samples"] == len(train) and "fvd" not in found and "fid" not in str(found)


def test_the_data_itself_is_at_no_distance_and_a_standstill_differs_in_differences_alone(network):
    train, held_out = parts(noise(60))
    found = VideoMetrics(DOMAIN, evidence(train, held_out, shown(train))).distributions()
    assert found["frames"]["kernel_distance"] <= 0 and found["differences"]["kernel_distance"] <= 0  # unbiased
    still = [Shown(x[:, :1].expand(-1, T, -1, -1)) for x in train.inputs(range(len(train)))]
    found = VideoMetrics(DOMAIN, evidence(train, held_out, still)).distributions()
    assert abs(found["frames"]["kernel_distance"]) < 5 * abs(found["frames"]["held_out"]) + 1e-3
    assert found["differences"]["kernel_distance"] > 0


def test_frames_of_one_clip_do_not_bias_the_distance(network):
    """Frames that are all alike: with all frames in one set its items would meet copies of themselves."""
    train, held_out = parts(Source([grey([g] * 8) for g in np.random.default_rng(0).integers(0, 256, 80)]))
    once = evidence(train, held_out, shown(held_out))
    found = VideoMetrics(DOMAIN, once).distributions()["frames"]["kernel_distance"]
    with torch.no_grad():
        real, other = (network(part.inputs(range(len(part)))[:, :, 0]) for part in (train, held_out))
        single = kernel_distance(real, other).mean
        many = kernel_distance(real.repeat(4, 1), other.repeat(4, 1)).mean
    assert found == pytest.approx(single, rel=1e-3) and many > single + 0.1 * abs(single)


class Logits(torch.nn.Module):
    """Stands in for I3D: other numbers, and as few that the distance is known."""

    name = "i3d"

    @classmethod
    def load(cls, path):
        if path == "wrong.pt":
            raise UserError("wrong.pt is not I3D")
        return cls()

    def forward(self, x):
        return torch.stack([x.mean(dim=(1, 2, 3, 4)), x.diff(dim=2).abs().mean(dim=(1, 2, 3, 4))], dim=1)


def test_fvd_is_the_distance_of_the_scores_of_i3d(network, monkeypatch, caplog):
    monkeypatch.setattr("ddmi.metrics.features.i3d.I3D", Logits)
    train, held_out = parts(noise(60))
    x = torch.rand(24, 3, T, *SIZE) * 2 - 1
    given = evidence(train, held_out, [Shown(one) for one in x], evaluators={"i3d": "i3d.pt"})
    found = VideoMetrics(DOMAIN, given).distributions()
    real, drawn = train.inputs(range(len(train))), (x * 127.5 + 127.5).round() / 127.5 - 1
    known = gaussian(Logits()(real))
    assert found["fvd"] == pytest.approx(frechet(gaussian(Logits()(drawn)), known), rel=1e-3)
    beside = found["fvd_of_as_many"]
    assert beside["clips"] == 24 and beside["samples"] == found["fvd"] > beside["held_out"] > 0
    assert found["fvd_standard_error"] > 0
    told = found["protocol"]["fvd"]
    assert told["clips"] == 24 and told["training_clips"] == len(train) and told["weights"] == "i3d.pt"
    assert told["frames"] == T and "2,048 clips of 16 frames" in told["as"]
    assert "fvd of 24 samples" in caplog.text and "2048 clips of 16 frames" in caplog.text


def test_fvd_needs_no_network_of_pictures_and_a_wrong_file_is_told_first(monkeypatch, caplog):
    def load(name):
        raise missing_extra("some-package", "features")

    monkeypatch.setattr("ddmi.metrics.features.load", load)
    monkeypatch.setattr("ddmi.metrics.features.i3d.I3D", Logits)
    train, held_out = parts(noise())
    given = evidence(train, held_out, shown(train), evaluators={"i3d": "i3d.pt"})
    found = VideoMetrics(DOMAIN, given).distributions()
    assert found["fvd"] == pytest.approx(0, abs=1e-6) and "frames" not in found and "some-package" in caplog.text
    with pytest.raises(UserError, match="some-package"):
        VideoMetrics(DOMAIN, replace(given, evaluators={})).distributions()
    Shown.drawn = 0
    with pytest.raises(UserError, match="is not I3D"):
        VideoMetrics(DOMAIN, replace(given, evaluators={"i3d": "wrong.pt"})).distributions()
    assert Shown.drawn == 0


def test_sliced_distances_of_the_data_and_of_its_frames_in_another_order():
    train, held_out = parts(noise(40))
    found = VideoMetrics(DOMAIN, evidence(train, held_out, shown(train))).sliced_wasserstein()
    assert set(found["samples"]) == set(found["differences"]["samples"]) == {"16", "mean"}
    assert found["samples"]["mean"] < 0.7 * found["held_out"]["mean"]
    few = VideoMetrics(DOMAIN, evidence(train, parts(noise(6, seed=1))[1], shown(train))).sliced_wasserstein()
    assert few["held_out"]["mean"] > few["as_many_samples"]["mean"] > few["samples"]["mean"]
    assert (few["protocol"]["samples"], few["protocol"]["held_out"]) == (20, 3)
    other = [Shown(x[:, [0, 0, 3, 3]]) for x in train.inputs(range(len(train)))]
    moved = VideoMetrics(DOMAIN, evidence(train, held_out, other)).sliced_wasserstein()
    assert moved["differences"]["samples"]["mean"] > 2 * found["differences"]["samples"]["mean"]
    assert moved["held_out"] == found["held_out"]


def test_copies_are_memorised_and_unseen_clips_are_not():
    train, held_out = parts(noise(12))
    found = VideoMetrics(DOMAIN, evidence(train, held_out, shown(train))).memorisation()
    assert found["ratio"] < 0.05 and found["neighbours"] == list(range(len(train)))
    assert found["protocol"]["feature"] == "pixels of 4 frames of 16x16"
    found = VideoMetrics(DOMAIN, evidence(train, held_out, shown(held_out))).memorisation()
    assert found["ratio"] == pytest.approx(1, abs=1e-6)


def test_the_nearest_window_is_searched_among_small_clips(monkeypatch):
    """Squares of 8x8 pixels at 2x are 4x4 at 1x: shrinking 16x24 pixels to 2x3 keeps more than half of the distance."""
    monkeypatch.setattr(metrics, "THUMBNAIL", (2, 4, 6))
    train, held_out = parts(noise(12))
    x = torch.rand(5, 3, T, *SIZE) * 2 - 1
    found = VideoMetrics(DOMAIN, evidence(train, held_out, [Shown(one) for one in x])).memorisation()

    def small(clips):
        return clips[:, :, [0, T - 1]].unflatten(4, (6, 4)).unflatten(3, (4, 4)).mean(dim=(4, 6)).flatten(1)

    drawn = (x * 127.5 + 127.5).round() / 127.5 - 1
    whole = nearest(small(drawn), small(train.inputs(range(len(train)))))
    assert found["neighbours"] == whole.indices[:, 0].tolist()
    assert found["sample_median"] == pytest.approx(float(whole.distances.median()), rel=1e-2)
    assert found["protocol"]["feature"] == "pixels of 2 frames of 6x4"


def test_a_sample_is_rendered_once_for_all_metrics_and_numbers_can_be_written(network, tmp_path):
    train, held_out = parts(noise(24))
    given = evidence(train, held_out, shown(train), lambda dataset, indices: shown(dataset, indices), cache=tmp_path)
    shared = DOMAIN.metrics().functions
    Shown.drawn = 0
    for name in ("motion", "sliced_wasserstein", "distributions", "memorisation"):
        assert shared[name](given)
    assert Shown.drawn == len(train) * T
    found = {name: metric(given) for name, metric in shared.items()}
    assert set(found) == {"reconstruction", "motion", "sliced_wasserstein", "distributions", "memorisation"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all("protocol" in part for part in found.values())
    for place in [*DOMAIN.metrics().quality.values(), *DOMAIN.metrics().fidelity.values()]:
        value = found
        for key in place.split("/"):
            value = value.get(key, {})
        assert isinstance(value, float) or place.endswith("fvd"), place


def test_without_samples_only_what_needs_none():
    train, held_out = parts(noise())
    given = evidence(train, held_out, reconstruct=lambda dataset, indices: shown(dataset, indices))
    told = {name for name, metric in DOMAIN.metrics().functions.items() if metric(given)}
    assert told == {"reconstruction", "motion"}


def test_many_clips_lie_in_a_file_without_a_name_and_are_made_a_few_at_a_time(monkeypatch, tmp_path):
    made = []

    def make(k):
        made.append(k)
        return np.full((2, 3, 4, 3), k, np.uint8)

    monkeypatch.setattr(gallery, "IN_MEMORY", 100)
    clips = Renderings(make, 20, (2, 3, 4), tmp_path)
    assert isinstance(clips.kept, np.memmap) and not list(tmp_path.iterdir()) and len(clips) == 20
    first = next(clips.batches(size=8))
    assert made == list(range(8)) and first.shape == (8, 3, 2, 3, 4)
    whole = torch.cat(list(clips.batches()))
    assert made == list(range(20)) and torch.equal(torch.cat(list(clips.batches(11))), whole[:11])
    torch.testing.assert_close(whole[:, 0, 0, 0, 0], torch.arange(20) / 127.5 - 1)
